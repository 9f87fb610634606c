//! `ampoule exec`: one more process in a container.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};

use super::Context;
use crate::launch::foreground::{self, Signals};
use crate::lifecycle::{self, ExecArgs, PidOutput};
use crate::plan::{Console, Options};
use crate::spec::{self, Process, Spec, Str};

/// More than any engine writes.
const MAX_PROCESS: u64 = 16 << 20;

#[derive(clap::Args)]
pub(super) struct Exec {
    /// Allocate a pseudo-terminal
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable; may be given several times
    #[arg(short, long, value_name = "PAIR")]
    env: Vec<String>,
    /// User and group, by number [default: the container's]
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Add a supplementary group, by number; may be given several times
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// File with the process to run, in the form of config.json's "process"
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["env", "user", "additional_gids", "cwd", "cap", "no_new_privs"])]
    process: Option<PathBuf>,
    /// Detach from the process
    #[arg(short, long)]
    detach: bool,
    /// Working directory [default: the container's]
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// File to write the pid of the process to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Unix socket to send the pty master of its terminal to
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Unix socket to send a pidfd of the process to
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// SELinux label [default: the container's]
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// AppArmor profile [default: the container's]
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Set no_new_privs: no privileges by setuid programs, for example
    #[arg(long)]
    no_new_privs: bool,
    /// Add a capability, such as CAP_NET_ADMIN; may be given several times
    #[arg(short, long, value_name = "CAP")]
    cap: Vec<String>,
    /// Pass N additional file descriptors (3, 4, ...) to the process
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Cgroup to run in, below the container's own; with CTRL only on v1, in that controller's hierarchy
    #[arg(long, value_name = "[CTRL:]PATH")]
    cgroup: Vec<String>,
    /// Allow a paused container: the process waits for resume
    #[arg(long)]
    ignore_paused: bool,
    /// Container ID
    id: String,
    /// Command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(super) fn run(context: &Context, args: Exec) -> Result<ExitCode> {
    exec(context, &args).with_context(|| format!("exec {}", args.id))
}

fn exec(context: &Context, args: &Exec) -> Result<ExitCode> {
    if !args.detach && args.console_socket.is_some() {
        bail!("--console-socket goes with --detach: in the foreground the terminal is this one");
    }
    let container = context.open(&args.id)?;
    let file = args.process.as_deref().map(read).transpose()?;
    // While the descriptors that are open are the caller's.
    let preserve_fds = super::create::preserved(args.preserve_fds)?;
    // Before there is anything that a signal could leave behind.
    let signals = Signals::block()?;
    let console = match &args.console_socket {
        Some(socket) => Console::Socket(socket.clone()),
        None if args.detach || !foreground::has_terminal() => Console::None,
        None => Console::Foreground,
    };
    let options = Options { console, preserve_fds, ..Options::default() };
    let exec_args = ExecArgs {
        options,
        rootless: context.rootless,
        pid_output: PidOutput {
            pid_file: args.pid_file.as_deref(),
            pidfd_socket: args.pidfd_socket.as_deref(),
        },
        ignore_paused: args.ignore_paused,
        cgroups: &args.cgroup,
        signals: signals.original,
    };
    let config = container.config()?;
    let spec = spec::parse(&config).map_err(|e| anyhow!("the container's config.json: {e}"))?;
    let process = args.describe(&spec, file.as_deref())?;
    let launched = lifecycle::exec(&container, &context.log, exec_args, &spec, &process)?;
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(foreground::attend(launched, &signals)?.finish()?))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("--process {}", path.display()))?;
    file.take(MAX_PROCESS + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("--process {}", path.display()))?;
    if bytes.len() as u64 > MAX_PROCESS {
        bail!("--process {}: larger than {} MiB", path.display(), MAX_PROCESS >> 20);
    }
    Ok(bytes)
}

impl Exec {
    /// The process of `file`, or the container's own with what the flags change.
    fn describe<'s>(&'s self, spec: &'s Spec<'s>, file: Option<&'s [u8]>) -> Result<Process<'s>> {
        let mut process = match (file, &spec.process) {
            (Some(bytes), _) => spec::parse_process(bytes).map_err(|e| {
                anyhow!("--process {}: {e}", self.process.as_deref().unwrap_or(Path::new("")).display())
            })?,
            (None, Some(process)) => process.clone(),
            (None, None) => bail!("the container's config.json has no process to take after"),
        };
        let text = |text: &'s String| Str(Cow::Borrowed(text.as_str()));
        // These go with either; conmon says --tty besides what its file says.
        process.terminal = self.tty || file.is_some() && process.terminal;
        if let Some(label) = &self.process_label {
            process.selinux_label = text(label);
        }
        if let Some(profile) = &self.apparmor {
            process.apparmor_profile = text(profile);
        }
        if !self.args.is_empty() {
            process.args = self.args.iter().map(text).collect();
        }
        if file.is_some() {
            return Ok(process);
        }
        if self.args.is_empty() {
            bail!("no program is given to run");
        }
        process.no_new_privileges |= self.no_new_privs;
        if let Some(cwd) = &self.cwd {
            process.cwd = text(cwd);
        }
        process.env.extend(self.env.iter().map(text));
        if let Some(user) = &self.user {
            (process.user.uid, process.user.gid) = ids(user, process.user.gid)?;
        }
        process.user.additional_gids.extend(&self.additional_gids);
        add_capabilities(&mut process, &self.cap);
        Ok(process)
    }
}

/// `UID[:GID]`, numbers only: a name means what the caller's image says (CVE-2026-30892: a wrong one became root).
fn ids(text: &str, gid: u32) -> Result<(u32, u32)> {
    let number = |part: &str| match part.parse::<u32>() {
        Ok(id) if !part.starts_with('+') && id != u32::MAX => Ok(id),
        _ => bail!("--user {text}: {part:?}, expected UID[:GID] by number"),
    };
    match text.split_once(':') {
        Some((uid, group)) => Ok((number(uid)?, number(group)?)),
        None => Ok((number(text)?, gid)),
    }
}

/// runc's rule: ambient ones only where the document has inheritable ones, without which they can't be
/// (CVE-2022-29162).
fn add_capabilities<'s>(process: &mut Process<'s>, names: &'s [String]) {
    if names.is_empty() {
        return;
    }
    let sets = process.capabilities.get_or_insert_default();
    let inherits = !sets.inheritable.is_empty();
    let lists = [&mut sets.bounding, &mut sets.effective, &mut sets.permitted];
    for list in lists.into_iter().chain(inherits.then_some(&mut sets.ambient)) {
        list.extend(names.iter().map(|name| Str(Cow::Borrowed(name.as_str()))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        assert_eq!(ids("7", 3).unwrap(), (7, 3));
        assert_eq!(ids("0:5", 3).unwrap(), (0, 5));
        for text in ["", "root", "1:", ":1", "-1", "+1", "1:2:3", "4294967295", "4294967296", " 1", "0x1"] {
            assert!(ids(text, 0).is_err(), "{text:?}");
        }
    }
}
