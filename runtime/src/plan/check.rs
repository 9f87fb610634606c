//! What contradicts, before anything is planned.

use anyhow::{Result, bail};

use super::Console;
use super::draft::Draft;
use crate::spec::NamespaceKind::{Ipc, User};
use crate::spec::Process;

/// In the whole document.
pub(super) fn document(d: &Draft<'_>, process: &Process<'_>) -> Result<()> {
    self::process(d, process)?;
    if d.facts.needs_user_namespace() && !d.namespaces.has(User) {
        bail!(
            "linux.namespaces: without root's rights it needs a user namespace; `ampoule spec --rootless` writes a \
             config.json that has one"
        );
    }
    if d.spec
        .linux
        .resources
        .unified
        .0
        .iter()
        .any(|(file, value)| &**file == "cgroup.freeze" && value.trim() != "0")
    {
        bail!(
            "linux.resources.unified[\"cgroup.freeze\"]: would stop the container before it is made; pause it once it is created"
        );
    }
    if d.namespaces.makes(User)
        && !d.namespaces.makes(Ipc)
        && d.spec.mounts.iter().any(|m| &*m.kind == "mqueue")
    {
        bail!("mounts: mqueue in a new user namespace needs a new ipc namespace in linux.namespaces");
    }
    Ok(())
}

/// In the process alone.
pub(super) fn process(d: &Draft<'_>, process: &Process<'_>) -> Result<()> {
    if !process.cwd.starts_with('/') {
        bail!("process.cwd: {:?}, expected an absolute path", &*process.cwd);
    }
    match (&d.options.console, process.terminal) {
        (Console::Socket(_), false) => {
            bail!("process.terminal: false, so --console-socket has nothing to receive")
        }
        (Console::None, true) => {
            bail!(
                "process.terminal: true needs a terminal to run in, or --console-socket when nobody stays in the foreground"
            )
        }
        _ => Ok(()),
    }
}
