//! One command, from spawn to exit, with what it cost.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::environment::Environment;
use crate::sys;

/// No container of ours takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a command and the children that it waited for used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// From before the spawn until it was waited for, by CLOCK_MONOTONIC.
    pub(crate) wall: Duration,
    /// User and system time.
    pub(crate) cpu: Duration,
    /// Bytes of the largest process.
    pub(crate) peak: u64,
}

impl std::ops::Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost { wall: self.wall + other.wall, cpu: self.cpu + other.cpu, peak: self.peak.max(other.peak) }
    }
}

/// How to start a command, which shows in what is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Spawn {
    /// As quickly as possible: vfork and exec.
    ForTime,
    /// After vfork, exec counts the peak of the memory that the child shared, ours, as the child's. A forked
    /// child starts with the pages that we wrote to, some 0.7 MB: no less can be told apart.
    ForMemory,
}

/// The user wants to stop.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// SIGINT, SIGTERM and SIGHUP, held back until they are looked for, so that containers can be removed first.
pub(crate) struct Interrupts(SignalFd);

impl Interrupts {
    pub(crate) fn catch() -> Result<Interrupts> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block().context("block signals")?;
        let fd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        Ok(Interrupts(fd.context("make a signalfd")?))
    }

    /// Waits for a process to end, but no longer than anyone has patience for. Then a signal that came
    /// meanwhile is [`Interrupted`]: a runtime that may finish leaves nothing behind.
    pub(crate) fn wait_for_end(&self, process: impl AsFd) -> Result<()> {
        let timeout = PollTimeout::try_from(PATIENCE).expect("fits in an int of milliseconds");
        if poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout).context("poll")? == 0 {
            bail!("still running after {} s", PATIENCE.as_secs());
        }
        match self.0.read_signal().context("read the signalfd")? {
            Some(_) => Err(Interrupted.into()),
            None => Ok(()),
        }
    }
}

/// Runs a command to its end. Any exit code but `expected` is an error that ends in the command's last line.
pub(crate) fn measure(
    mut command: Command,
    spawn: Spawn,
    expected: i32,
    env: &Environment<'_>,
) -> Result<Cost> {
    let log = env.namespace.log();
    let name = name(&command);
    let messages = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
    // A Ctrl-C is for us: we stop between two commands, not within one.
    command.process_group(0);
    if spawn == Spawn::ForMemory {
        sys::fork_first(&mut command);
    }
    let begin = Instant::now();
    let child = command.spawn().with_context(|| format!("start {name}"))?;
    let ended = wait_or_kill(&child, env.interrupts);
    let (status, usage) = sys::wait4(child).context("wait4")?;
    let wall = begin.elapsed();
    ended.with_context(|| name.clone())?;
    if status.code() != Some(expected) {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        bail!(
            "{name}: {status} instead of {expected}: {}",
            text.lines().last().unwrap_or("no message").trim()
        );
    }
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    let cpu = time(usage.ru_utime) + time(usage.ru_stime);
    Ok(Cost { wall, cpu, peak: usage.ru_maxrss as u64 * 1024 })
}

fn wait_or_kill(child: &Child, interrupts: &Interrupts) -> Result<()> {
    let process = sys::pidfd_open(child.id() as i32).context("pidfd_open")?;
    interrupts.wait_for_end(&process).inspect_err(|_| {
        // It may have ended, but is still ours to wait for, so its id is not another's.
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    })
}

/// The program and its verb: enough to find the culprit.
fn name(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let mut args = command.get_args().filter_map(|arg| arg.to_str());
    match args.find(|arg| ["run", "create", "start", "delete"].contains(arg)) {
        Some(verb) => format!("{program} {verb}"),
        None => program.into_owned(),
    }
}
