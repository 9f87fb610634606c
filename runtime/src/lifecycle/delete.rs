//! Kill and delete: from every state, also a half-made one.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use ::cgroup::Cgroup;
use anyhow::{Context, Result, bail};
use linux::absent::absent;
use linux::{interrupt, pidfd, wait};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::start::gone;
use crate::container::record::Record;
use crate::container::saved::{SavedInit, SavedRecord};
use crate::container::status::{Init, Status, Verb, allowed, observe, observe_locked};
use crate::container::store::{Container, Locked};
use crate::container::systemd;
use crate::launch::hooks;
use crate::plan::step::HookKind;
use crate::plan::systemd::Scope;
use crate::report::{Level, Log};

/// How long a killed process may take to go, in milliseconds: one that waits for a dead disk never does.
const DEATH: u16 = 10_000;
/// How long what has been in the container's cgroups may take to leave them: an exec that finds no init any more.
const LEAVE: Duration = Duration::from_secs(1);

/// Why a container is removed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Somebody asks for it; `force`: whatever runs.
    Asked { force: bool },
    /// Its creation has failed, in this process.
    Failed,
}

/// Whose the processes are that are in a container's cgroups while its init doesn't run.
enum Left {
    /// The container's, unless another is known to live there.
    Ours,
    /// Not the container's: one with a pid namespace has none when its init has ended, for the kernel waits for them
    /// (pid_namespaces(7)). They are of another that was made in the same cgroups since. What is only on its way out gets
    /// some time.
    Strangers(Duration),
}

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
    if seen.init.is_none() && (record.own_pid_namespace || another_lives_in(container, &record)?) {
        bail!("container not running: it is {}", seen.status);
    }
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
/// It runs, or may run, and `force` is not given; something of it can't be removed.
pub fn delete(locked: Locked, force: bool, log: &Log) -> Result<()> {
    if !force {
        let status = observe_locked(&locked)?.status;
        if !allowed(Verb::Delete, status) {
            bail!(
                "cannot delete a container that is not stopped: it is {status}; kill it first, or use --force"
            );
        }
    }
    destroy(locked, log, Cause::Asked { force })
}

/// Ends every process, removes the cgroups, runs the poststop hooks and forgets the container. What is not there, or
/// not any more, is no error: this is how half-made ones go, too. What can't be read is one, and then nothing goes.
pub(super) fn destroy(locked: Locked, log: &Log, cause: Cause) -> Result<()> {
    let held = interrupt::hold();
    let container = &locked.container;
    let saved = container.saved_init()?;
    let live = match saved {
        SavedInit::Whole(init) => init.alive()?.map(|fd| (init, fd)),
        SavedInit::CutShort | SavedInit::Damaged => None,
    };
    let record = match (container.saved_record()?, saved) {
        (SavedRecord::Whole(record), _) => record,
        // It is written first of all: without an init on file nothing was done yet.
        (SavedRecord::CutShort, SavedInit::CutShort) => return locked.remove(),
        (SavedRecord::CutShort | SavedRecord::Damaged(_), _) => {
            end_without_record(container, live)?;
            return locked.remove();
        }
    };
    let group = Cgroup::new(record.cgroups.clone());
    let left = match live {
        Some((_, fd)) => {
            end(&fd, &group)?;
            Left::Ours
        }
        None => whose(container, &record, saved, cause)?,
    };
    let mut warnings = Vec::new();
    if let Some(who) = remove_cgroups(container, &record, &left, &mut warnings)? {
        warnings.push(format!("its cgroup is left, for it is another's now: {who}"));
    }
    for dir in &record.rdt_groups {
        absent(std::fs::remove_dir(dir)).with_context(|| format!("rmdir {}", dir.display()))?;
    }
    // What is left to do waits only for hooks and readers, each for as long as it likes: one may be ended.
    drop(held);
    // runtime.md#lifecycle: the container is gone, and whatever a hook says now, it stays gone.
    let state = record.hook_state(HookKind::Poststop.status(), 0);
    let run = |hook| hooks::run(HookKind::Poststop, std::slice::from_ref(hook), &state);
    let failures = record.poststop.iter().filter_map(|hook| run(hook).err());
    for warning in warnings.into_iter().chain(failures.map(|reason| format!("{reason:#}"))) {
        // Who doesn't read what is left of it must not be what keeps it.
        let _ = log.line(Level::Warning, &warning);
    }
    locked.remove()
}

/// Whose the processes are that an init which isn't there any more, or was never on file, has left.
fn whose(container: &Container, record: &Record, saved: SavedInit, cause: Cause) -> Result<Left> {
    match (saved, cause) {
        (SavedInit::Whole(_), _) if record.own_pid_namespace => Ok(Left::Strangers(LEAVE)),
        (SavedInit::Whole(_), _) => Ok(Left::Ours),
        // A process of ours is there only once each of its cgroups was found empty. Without one, whoever is in there may be
        // the reason of the failure.
        (_, Cause::Failed) => match wait::reap(None) {
            Err(Errno::ECHILD) => Ok(Left::Strangers(Duration::ZERO)),
            child => child.map(|_| Left::Ours).context("waitid"),
        },
        (SavedInit::Damaged, _) if record.cgroups.is_empty() => bail!(
            "its init is damaged on file and it has no cgroup, so its processes are not known; when none is left, remove {}",
            container.path().display()
        ),
        (_, Cause::Asked { force: true }) => Ok(Left::Ours),
        (_, Cause::Asked { force: false }) => {
            match Cgroup::new(record.cgroups.clone()).who_stays(Duration::ZERO)? {
                Some(who) if !another_lives_in(container, record)? => bail!(
                    "cannot delete a container whose init is not on file while there are processes: {who}; use --force to kill them"
                ),
                _ => Ok(Left::Strangers(Duration::ZERO)),
            }
        }
    }
}

/// Some: who is in them that is not the container's, and so stays there.
fn remove_cgroups(
    container: &Container,
    record: &Record,
    left: &Left,
    warnings: &mut Vec<String>,
) -> Result<Option<String>> {
    let group = Cgroup::new(record.cgroups.clone());
    let patience = if let Left::Strangers(patience) = left { *patience } else { Duration::ZERO };
    if let Some(scope) = &record.scope {
        let who = group.who_stays(patience)?;
        if who.is_some() && is_others(container, record, left)? {
            return Ok(who);
        }
        warnings.extend(stop_scope(scope, &group)?);
    }
    // Mostly nobody is in there, and nothing has to be known of anybody.
    let who = group.remove_unless_used(patience).context("remove its cgroups")?;
    if who.is_none() || is_others(container, record, left)? {
        return Ok(who);
    }
    group.remove().context("remove its cgroups").map(|()| None)
}

fn is_others(container: &Container, record: &Record, left: &Left) -> Result<bool> {
    match left {
        Left::Strangers(_) => Ok(true),
        Left::Ours => another_lives_in(container, record),
    }
}

/// Whether another container of the same store lives in one of its cgroups. Then none of the processes there are this one's:
/// no container is made in a cgroup that somebody is in. Those of other stores are not known.
fn another_lives_in(container: &Container, record: &Record) -> Result<bool> {
    for other in container.others()? {
        let shares = |theirs: &Record| theirs.cgroups.iter().any(|dir| record.cgroups.contains(dir));
        if other.read_record()?.is_some_and(|theirs| shares(&theirs))
            && let Some(init) = other.init()?
            && init.alive()?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Somebody has destroyed the record. Then a live init still knows its cgroups, and nobody else does.
fn end_without_record(container: &Container, live: Option<(Init, OwnedFd)>) -> Result<()> {
    let Some((init, fd)) = live else {
        bail!(
            "its record is lost and its init is not known to run, so its cgroups are not known; when none is left, remove {}",
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

/// systemd removes the cgroup with the scope; where it can't be asked any more, the cgroup goes without it, with a warning.
fn stop_scope(scope: &Scope, group: &Cgroup) -> Result<Option<String>> {
    let made = group.exists()?;
    // First, or systemd would wait for what has no reason to go. Its directory is not removed before systemd has: the
    // kernel's word that a group has become empty is lost with the group.
    let stopped = group.kill().and_then(|()| systemd::stop(scope, made));
    Ok(stopped.err().filter(|_| made).map(|reason| format!("stop {}: {reason:#}", scope.unit)))
}

fn end(init: impl AsFd + Copy, group: &Cgroup) -> Result<()> {
    // While the init lives, all that is in its cgroups is its own or was put there: no container is made in a cgroup that
    // somebody is in.
    group.kill()?;
    pidfd::signal(init, libc::SIGKILL).or_else(gone).context("kill the init process")?;
    let dead = |patience: u16| match poll(
        &mut [PollFd::new(init.as_fd(), PollFlags::POLLIN)],
        PollTimeout::from(patience),
    ) {
        Ok(n) => Ok(n > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(e) => Err(e).context("poll"),
    };
    if dead(100)? {
        return Ok(());
    }
    // It was not in there; or it was frozen meanwhile, and only the thawed can die on v1; or it has no time to go.
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
