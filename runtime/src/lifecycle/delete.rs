//! Delete: from every state, also a half-made one.
//!
//! A container with a pid namespace of its own is ended by its init: the kernel ends the rest and waits for that
//! (pid_namespaces(7)). Whoever is in its cgroups then is not its own, however he has got there, and nobody is killed. One
//! without has only its cgroups to be known by.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::cgroup::Cgroup;
use anyhow::{Context, Result, bail};
use linux::absent::absent;
use linux::{interrupt, kernfs, pidfd};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use super::start::gone;
use crate::container::record::Record;
use crate::container::saved::{SavedInit, SavedRecord};
use crate::container::status::{Init, Verb, allowed, observe_locked};
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

/// Whose the processes are that are in a container's cgroups once its init is dead.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// The container's, unless another is known to live there.
    Ours,
    /// Not the container's. What is only on its way out gets some time.
    Strangers,
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
            if let Some(who) = end_without_record(container, live)? {
                warn(log, &left_behind(&who));
            }
            return locked.remove();
        }
    };
    let left = match live {
        Some((_, init)) => end(container, &record.cgroups, &init, record.own_pid_namespace)?,
        None => whose(container, &record, saved, cause)?,
    };
    let mut warnings = Vec::new();
    if let Some(who) = remove_cgroups(container, &record, left, &mut warnings)? {
        warnings.push(left_behind(&who));
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
        warn(log, &warning);
    }
    locked.remove()
}

fn warn(log: &Log, warning: &str) {
    // Who doesn't read what is left of it must not be what keeps it.
    let _ = log.line(Level::Warning, warning);
}

fn left_behind(who: &str) -> String {
    format!("its cgroup is left, for it is another's now: {who}")
}

/// Whose the processes are that an init which isn't there any more, or was never on file, has left.
fn whose(container: &Container, record: &Record, saved: SavedInit, cause: Cause) -> Result<Left> {
    let group = Cgroup::new(record.cgroups.clone());
    let own = record.own_pid_namespace;
    let left = if own { Left::Strangers } else { Left::Ours };
    match (saved, cause) {
        (SavedInit::Whole(_), _) => Ok(left),
        // The new process, if there is one, waits to hear that it is on file, and ends itself: nobody is there to say so.
        // Whoever is in there may be the reason of the failure.
        (_, Cause::Failed) => Ok(Left::Strangers),
        (SavedInit::Damaged, _) if record.cgroups.is_empty() => bail!(
            "its init is damaged on file and it has no cgroup, so its processes are not known; when none is left, remove {}",
            container.path().display()
        ),
        (SavedInit::Damaged, _) if own => match group.who_stays(LEAVE)? {
            Some(who) => bail!(
                "its init is damaged on file, so it is not known which of the processes in its cgroup are its own: {who}; end those and try again"
            ),
            None => Ok(left),
        },
        (_, Cause::Asked { force: true }) => Ok(left),
        (_, Cause::Asked { force: false }) => match group.who_stays(Duration::ZERO)? {
            Some(who) if !container.has_neighbor_in(&record.cgroups)? => bail!(
                "cannot delete a container whose init is not on file while there are processes: {who}; use --force to {}",
                if own { "leave them there" } else { "kill them" }
            ),
            _ => Ok(Left::Strangers),
        },
    }
}

/// Some: who is in them that is not the container's, and so stays there.
fn remove_cgroups(
    container: &Container,
    record: &Record,
    left: Left,
    warnings: &mut Vec<String>,
) -> Result<Option<String>> {
    let group = Cgroup::new(record.cgroups.clone());
    let are_others =
        || Ok::<_, anyhow::Error>(left == Left::Strangers || container.has_neighbor_in(&record.cgroups)?);
    let patience = if left == Left::Strangers { LEAVE } else { Duration::ZERO };
    if let Some(scope) = &record.scope {
        let who = group.who_stays(patience)?;
        if who.is_some() && are_others()? {
            return Ok(who);
        }
        warnings.extend(stop_scope(scope, &group, left)?);
    }
    // Mostly nobody is in there, and nothing has to be known of anybody.
    let who = group.remove_unless_used(patience).context("remove its cgroups")?;
    if who.is_none() || are_others()? {
        return Ok(who);
    }
    group.remove().context("remove its cgroups").map(|()| None)
}

/// Somebody has destroyed the record. Then a live init still knows its cgroups, and nobody else does. Some: who stays there.
fn end_without_record(container: &Container, live: Option<(Init, OwnedFd)>) -> Result<Option<String>> {
    let Some((init, fd)) = live else {
        bail!(
            "its record is lost and its init is not known to run, so its cgroups are not known; when none is left, remove {}",
            container.path().display()
        );
    };
    let own = is_first_of_a_pid_namespace(init.pid)?;
    let dirs = cgroup::probe::cgroups_of(init.pid.as_raw(), container.id.as_str())?;
    let left = end(container, &dirs, &fd, own)?;
    // systemd removes a scope that is empty.
    let is_scope = |dir: &PathBuf| dir.extension().is_some_and(|kind| kind == "scope");
    let group = Cgroup::new(dirs.into_iter().filter(|dir| !is_scope(dir)).collect());
    match left {
        Left::Ours => group.remove().map(|()| None),
        Left::Strangers => group.remove_unless_used(LEAVE),
    }
    .context("remove its cgroups")
}

/// NSpid of proc_pid_status(5): its numbers in our pid namespace and in those inside, down to its own.
fn is_first_of_a_pid_namespace(pid: Pid) -> Result<bool> {
    let path = format!("/proc/{pid}/status");
    let text = kernfs::read(Path::new(&path)).with_context(|| format!("read {path}"))?;
    let numbers = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers = numbers.with_context(|| format!("{path} has no NSpid"))?.split_whitespace();
    Ok(numbers.skip(1).last() == Some("1"))
}

/// systemd removes the cgroup with the scope; where it can't be asked any more, the cgroup goes without it, with a warning.
fn stop_scope(scope: &Scope, group: &Cgroup, left: Left) -> Result<Option<String>> {
    let made = group.exists()?;
    // First, or systemd would wait for what has no reason to go. Its directory is not removed before systemd has: the
    // kernel's word that a group has become empty is lost with the group.
    let killed = if left == Left::Ours { group.kill() } else { Ok(()) };
    let stopped = killed.and_then(|()| systemd::stop(scope, made));
    Ok(stopped.err().filter(|_| made).map(|reason| format!("stop {}: {reason:#}", scope.unit)))
}

/// Kills the init and, without a pid namespace of their own, what is in its cgroups with it.
fn end(container: &Container, cgroups: &[PathBuf], init: &OwnedFd, own_pid_namespace: bool) -> Result<Left> {
    let group = Cgroup::new(cgroups.to_vec());
    let left = match own_pid_namespace || container.has_neighbor_in(cgroups)? {
        true => Left::Strangers,
        false => Left::Ours,
    };
    let kill = || {
        if left == Left::Ours {
            group.kill()?;
        }
        pidfd::signal(init, libc::SIGKILL).or_else(gone).context("kill the init process")?;
        // On v1 only the thawed can die.
        group.thaw_v1()
    };
    kill()?;
    if !has_ended(init, 100)? {
        // It was frozen meanwhile, or it has no time to go.
        kill()?;
        group.lift_cpu_limits();
        if !has_ended(init, DEATH)? {
            bail!(
                "the init process was killed {} s ago and still exists: it waits in the kernel (see /proc/PID/stack)",
                DEATH / 1000
            );
        }
    }
    if left == Left::Strangers && group.who_stays(Duration::ZERO)?.is_some() {
        // An exec that was on its way into a frozen group ends only if it runs. In one that is frozen from above it can't, and
        // then it is among those who are left, with a warning.
        let _ = group.thaw();
    }
    Ok(left)
}

fn has_ended(init: &OwnedFd, patience: u16) -> Result<bool> {
    match poll(&mut [PollFd::new(init.as_fd(), PollFlags::POLLIN)], PollTimeout::from(patience)) {
        Ok(n) => Ok(n > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(e) => Err(e).context("poll"),
    }
}
