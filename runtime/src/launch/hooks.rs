//! Runs hooks: the state on stdin, a time limit, and what they had to say when they fail (config.md#posix-platform-hooks).

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use linux::{interrupt, pidfd, process};
use nix::poll::{PollFd, PollFlags};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;

use crate::plan::step::{Hook, HookKind};

/// Runs all hooks of one kind in order, each with `state` on its stdin.
///
/// # Errors
/// `error running KIND hook #N: …` of the first that fails; the later ones are not run.
pub fn run(kind: HookKind, hooks: &[Hook], state: &[u8]) -> Result<()> {
    for (n, hook) in hooks.iter().enumerate() {
        one(kind, hook, state)
            .with_context(|| format!("error running {kind} hook #{n}: {}", hook.path.display()))?;
    }
    Ok(())
}

fn one(kind: HookKind, hook: &Hook, state: &[u8]) -> Result<()> {
    // Files in memory rather than pipes: a hook may read and write as little as it likes, and leave children behind
    // that hold both ends, without anybody waiting for anybody.
    let mut input = File::from(memfd_create(c"state", MFdFlags::MFD_CLOEXEC).context("memfd_create")?);
    input.write_all(state).and_then(|()| input.rewind()).context("write the state")?;
    let output = File::from(memfd_create(c"output", MFdFlags::MFD_CLOEXEC).context("memfd_create")?);
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|pair| pair.split_once('=')));
    command.stdin(Stdio::from(input));
    command.stdout(output.try_clone()?).stderr(output.try_clone()?);
    // What the caller has left open, or passes on to the payload, is no hook's.
    process::close_at_exec(&mut command);
    // The container's own filter may be in force there, and know no more calls than a program needs.
    let is_the_containers = kind == HookKind::StartContainer;
    if !is_the_containers {
        // When the runtime is killed, nobody waits for its hook any more, nor learns how it ends: it is killed, too.
        process::die_with_us(&mut command);
    }
    let mut child = command.spawn().context("exec")?;
    let status = match hook.timeout {
        None if is_the_containers => child.wait().context("wait")?,
        timeout => wait(&mut child, timeout)?,
    };
    if !status.success() {
        bail!("{status}{}", said(output));
    }
    Ok(())
}

fn wait(child: &mut Child, timeout: Option<u32>) -> Result<ExitStatus> {
    let fd = pidfd::open(Pid::from_raw(child.id() as i32)).context("pidfd_open")?;
    let patience = timeout.map(|seconds| Duration::from_secs(seconds.into()));
    let ended = interrupt::poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], patience);
    if !matches!(ended, Ok(1..)) {
        // It is ours until it was waited for, so neither can fail but for a reason that is told now.
        let _ = child.kill();
        let _ = child.wait();
    }
    match (ended.context("wait for its end")?, timeout) {
        (0, Some(seconds)) => bail!("did not end within its timeout of {seconds} s"),
        _ => child.wait().context("wait"),
    }
}

/// For an error, and so without one of its own: the hook's own words, the last of them if there are many, on one line.
fn said(mut output: File) -> String {
    const MOST: u64 = 1024;
    let len = output.metadata().map_or(0, |m| m.len());
    let mut text = Vec::new();
    if output.seek(std::io::SeekFrom::Start(len.saturating_sub(MOST))).is_err()
        || output.take(MOST).read_to_end(&mut text).is_err()
    {
        return String::new();
    }
    let text = String::from_utf8_lossy(&text).trim().replace('\n', " | ");
    if text.is_empty() { text } else { format!(", it said: {text}") }
}
