//! created → running.

use std::os::fd::AsFd;
use std::time::Duration;

use ::cgroup::Cgroup;
use anyhow::{Context, Result, bail};
use linux::{interrupt, pidfd};
use nix::poll::{PollFd, PollFlags};
use nix::unistd::Pid;

use crate::container::gate;
use crate::container::record::Record;
use crate::container::status::{Status, Verb, allowed, observe_locked};
use crate::container::store::Locked;
use crate::launch::{Launched, hooks};
use crate::plan::step::HookKind;

/// From then on it is asked whether there is a reason to wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// Opens the gate and waits until the program runs.
///
/// # Errors
/// A wrong status; the step that failed behind the gate; a poststart hook, after which the container is stopped
/// (runtime.md#lifecycle).
pub fn start(locked: &Locked) -> Result<()> {
    let container = &locked.container;
    let seen = observe_locked(locked)?;
    if !allowed(Verb::Start, seen.status) {
        match seen.status {
            Status::Stopped => bail!("cannot start a container that has stopped"),
            Status::Held => bail!("cannot start a paused container; resume it first"),
            Status::Paused => bail!("cannot start an already running container; it is paused"),
            _ => bail!("cannot start an already running container"),
        }
    }
    let record = container.record()?;
    let Some(stream) = gate::connect(container.dir())? else { bail!("the init process left its start gate") };
    gate::go(&stream)?;
    let passed = unless_frozen(&stream, &record).and_then(|()| gate::passed(&stream));
    locked.remove_gate()?;
    passed?;
    match &seen.init {
        Some((pid, init)) => poststart(&record, *pid, init),
        None => Ok(()),
    }
}

/// Waits for the init's word. One that is frozen meanwhile says none, and while we wait nobody else can thaw it: our lock is
/// held.
fn unless_frozen(stream: impl AsFd, record: &Record) -> Result<()> {
    let group = Cgroup::new(record.cgroups.clone());
    while interrupt::poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)], Some(PATIENCE))? == 0 {
        if group.is_frozen()? {
            bail!("the container was paused while it started; it goes on when it is resumed");
        }
    }
    Ok(())
}

/// What remains to be done for a process that `run` let straight through.
///
/// # Errors
/// As those of [`start`].
pub fn started(locked: &Locked, record: &Record, launched: &Launched) -> Result<()> {
    launched.passed()?;
    locked.unmark_unready()?;
    poststart(record, launched.pid, &launched.pidfd)
}

fn poststart(record: &Record, pid: Pid, init: impl AsFd) -> Result<()> {
    if record.poststart.is_empty() {
        return Ok(());
    }
    let state = record.hook_state(HookKind::Poststart.status(), pid.as_raw());
    hooks::run(HookKind::Poststart, &record.poststart, &state).or_else(|reason| {
        pidfd::signal(init, libc::SIGKILL).or_else(gone).context("stop the container")?;
        Err(reason)
    })
}

/// A process that has ended needs no signal.
pub(super) fn gone(e: nix::errno::Errno) -> nix::Result<()> {
    if e == nix::errno::Errno::ESRCH { Ok(()) } else { Err(e) }
}
