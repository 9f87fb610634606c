//! On the host: the id maps of a new user namespace (user_namespaces(7)).

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use linux::{kernfs, user_namespace};
use nix::unistd::Pid;

use crate::plan::step::{IdMapper, IdRange};

/// Maps the ids of the process's namespace. Each map can be written once, in one write.
///
/// # Errors
/// Names the file or the helper, and what that said.
pub(super) fn write(pid: Pid, uids: &[IdRange], gids: &[IdRange], by: IdMapper) -> Result<()> {
    if by == IdMapper::Helpers {
        help("newuidmap", pid, uids)?;
        return help("newgidmap", pid, gids);
    }
    if by == IdMapper::WithoutSetgroups {
        put(pid, "setgroups", "deny")?;
    }
    let lines = |ranges: &[IdRange]| ranges.iter().map(|r| format!("{r}\n")).collect::<String>();
    put(pid, "uid_map", &lines(uids))?;
    put(pid, "gid_map", &lines(gids))
}

/// A user namespace with this map, in which nobody is.
///
/// # Errors
/// Names the call.
pub(super) fn namespace(uids: &[IdRange], gids: &[IdRange]) -> Result<OwnedFd> {
    user_namespace::make(|pid| write(pid, uids, gids, IdMapper::Runtime))
}

fn put(pid: Pid, name: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{name}");
    kernfs::write(Path::new(&path), text).with_context(|| format!("write {path}"))
}

/// newuidmap(1), newgidmap(1): set-uid programs that look into /etc/subuid and /etc/subgid.
fn help(program: &str, pid: Pid, ranges: &[IdRange]) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    command.args(ranges.iter().flat_map(|r| [r.inside, r.outside, r.size]).map(|n| n.to_string()));
    let output = command.output().map_err(|e| {
        anyhow!("run {program}: {e} (it is in the package uidmap; mapping only your own id needs no helper)")
    })?;
    if !output.status.success() {
        bail!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
