//! Kill and delete: from every state, also a half-made one.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use ::cgroup::Cgroup;
use anyhow::{Context, Result, bail};
use linux::absent::absent;
use linux::{interrupt, pidfd};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::start::gone;
use crate::container::record::Record;
use crate::container::status::{Init, Status, Verb, allowed, observe, observe_locked};
use crate::container::store::{Container, Locked, SavedRecord};
use crate::container::systemd;
use crate::launch::hooks;
use crate::plan::step::HookKind;
use crate::plan::systemd::Scope;
use crate::report::{Level, Log};

/// How long a killed process may take to go, in milliseconds: one that waits for a dead disk never does.
const DEATH: u16 = 10_000;

/// Sends a signal to the init, or to all processes, those included that a dead init has left.
///
/// # Errors
/// `container not running`.
pub fn kill(container: &Container, signal: i32, all: bool) -> Result<()> {
    let seen = observe(container)?;
    let verb = if all { Verb::KillAll } else { Verb::Kill };
    if !allowed(verb, seen.status) {
        bail!("container not running: it is {}", seen.status);
    }
    let record = container.record()?;
    let group = Cgroup::new(record.cgroups.clone());
    // Without a pid namespace of its own, the end of the init is not the end of the others.
    let everyone = all || (signal == libc::SIGKILL && !record.own_pid_namespace);
    if everyone && signal == libc::SIGKILL {
        group.kill()?;
    } else if everyone {
        group.signal(signal, seen.init.as_ref().map(|(pid, _)| *pid))?;
    }
    if let Some((_, init)) = &seen.init {
        pidfd::signal(init, signal).or_else(gone).with_context(|| format!("send signal {signal}"))?;
    }
    if signal == libc::SIGKILL && matches!(seen.status, Status::Paused | Status::Held) {
        group.thaw_v1()?;
    }
    Ok(())
}

/// Removes a container.
///
/// # Errors
/// It runs and `force` is not given; something of it can't be removed.
pub fn delete(locked: Locked, force: bool, log: &Log) -> Result<()> {
    if !force {
        let status = observe_locked(&locked)?.status;
        if !allowed(Verb::Delete, status) {
            bail!(
                "cannot delete a container that is not stopped: it is {status}; kill it first, or use --force"
            );
        }
    }
    destroy(locked, log)
}

/// Ends every process, removes the cgroups, runs the poststop hooks and forgets the container. What is not there, or
/// not any more, is no error: this is how half-made ones go, too. What can't be read is one, and then nothing goes.
pub(super) fn destroy(locked: Locked, log: &Log) -> Result<()> {
    let held = interrupt::hold();
    let container = &locked.container;
    let on_record = container.init()?;
    let live = on_record.map_or(Ok(None), Init::alive)?;
    let record = match (container.saved_record()?, on_record) {
        (SavedRecord::Whole(record), _) => record,
        // It is written first of all: without an init on file nothing was done yet.
        (SavedRecord::CutShort, None) => return locked.remove(),
        (SavedRecord::CutShort | SavedRecord::Damaged(_), init) => {
            end_without_record(container, init.zip(live))?;
            return locked.remove();
        }
    };
    let group = Cgroup::new(record.cgroups.clone());
    if let Some(fd) = live {
        end(&fd, &group, &record)?;
    }
    if let Some(scope) = &record.scope {
        stop_scope(scope, &group, log)?;
    }
    group.remove().context("remove its cgroups")?;
    for dir in &record.rdt_groups {
        absent(std::fs::remove_dir(dir)).with_context(|| format!("rmdir {}", dir.display()))?;
    }
    // What is left to do waits only for hooks, each for as long as it likes: one may be ended.
    drop(held);
    // runtime.md#lifecycle: the container is gone, and whatever a hook says now, it stays gone.
    let state = record.hook_state(HookKind::Poststop.status(), 0);
    for hook in &record.poststop {
        if let Err(reason) = hooks::run(HookKind::Poststop, std::slice::from_ref(hook), &state) {
            log.line(Level::Warning, &format!("{reason:#}"));
        }
    }
    locked.remove()
}

/// Somebody has destroyed the record. Then a live init still knows its cgroups, and nobody else does.
fn end_without_record(container: &Container, live: Option<(Init, OwnedFd)>) -> Result<()> {
    let Some((init, fd)) = live else {
        bail!(
            "its record is lost and its init is not running, so its cgroups are not known; when none is left, remove {}",
            container.path().display()
        );
    };
    let dirs = cgroup::probe::cgroups_of(init.pid.as_raw(), container.id.as_str())?;
    let is_scope = |dir: &PathBuf| dir.extension().is_some_and(|kind| kind == "scope");
    let (scopes, dirs): (Vec<_>, Vec<_>) = dirs.into_iter().partition(is_scope);
    // systemd removes one that is empty.
    Cgroup::new(scopes).kill().context("kill its processes")?;
    pidfd::signal(fd, libc::SIGKILL).or_else(gone).context("kill the init process")?;
    Cgroup::new(dirs).remove().context("remove its cgroups")
}

/// systemd removes the cgroup with the scope; where it can't be asked any more, the cgroup goes without it.
fn stop_scope(scope: &Scope, group: &Cgroup, log: &Log) -> Result<()> {
    let made = group.exists()?;
    // First, or systemd would wait for what has no reason to go. Its directory is not removed before systemd has: the
    // kernel's word that a group has become empty is lost with the group.
    let stopped = group.kill().and_then(|()| systemd::stop(scope, made));
    if let Err(reason) = stopped
        && made
    {
        log.line(Level::Warning, &format!("stop {}: {reason:#}", scope.unit));
    }
    Ok(())
}

fn end(init: impl AsFd + Copy, group: &Cgroup, record: &Record) -> Result<()> {
    if !record.own_pid_namespace {
        group.kill()?;
    }
    pidfd::signal(init, libc::SIGKILL).or_else(gone).context("kill the init process")?;
    let dead = |patience: u16| match poll(
        &mut [PollFd::new(init.as_fd(), PollFlags::POLLIN)],
        PollTimeout::from(patience),
    ) {
        Ok(n) => Ok(n > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(e) => Err(e).context("poll"),
    };
    // Nobody freezes a group often, so it is not looked at first; but only the thawed can die on v1.
    if dead(100)? {
        return Ok(());
    }
    group.kill()?;
    group.lift_cpu_limits();
    if !dead(DEATH)? {
        bail!(
            "the init process was killed {} s ago and still exists: it waits in the kernel (see /proc/PID/stack)",
            DEATH / 1000
        );
    }
    Ok(())
}
