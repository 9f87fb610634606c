//! Kill: a signal for the init, or for all that are the container's.

use ::cgroup::Cgroup;
use anyhow::{Context, Result, bail};
use linux::pid_namespace::PidNamespace;
use linux::pidfd;
use nix::errno::Errno;
use nix::unistd::Pid;

use super::start::gone;
use crate::container::status::{Status, Verb, allowed, observe};
use crate::container::store::Container;

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
    let init = seen.init.as_ref().map(|(pid, _)| *pid);
    let own = record.own_pid_namespace;
    // The end of the init is that of the others: those in its pid namespace, if it has one of its own.
    let kills = signal == libc::SIGKILL;
    let by_cgroup = if own { all && !kills } else { all || kills };
    let by_cgroup = by_cgroup && (own || !container.has_neighbor_in(&record.cgroups)?);
    match init {
        None if own || !by_cgroup => bail!("container not running: it is {}", seen.status),
        Some(init) if own && by_cgroup => {
            let namespace = match PidNamespace::of(init) {
                Err(Errno::ENOENT | Errno::ESRCH) => bail!("container not running: it is stopped"),
                other => other.context("open the init's pid namespace")?,
            };
            group.signal(signal, &|pid| Ok(pid != init && is_inside(&namespace, pid)?))?;
        }
        _ if by_cgroup && kills => group.kill()?,
        _ if by_cgroup => group.signal(signal, &|pid| Ok(Some(pid) != init))?,
        _ => {}
    }
    if let Some((_, init)) = &seen.init {
        pidfd::signal(init, signal).or_else(gone).with_context(|| format!("send signal {signal}"))?;
    }
    if kills && matches!(seen.status, Status::Paused | Status::Held) {
        group.thaw_v1()?;
    }
    Ok(())
}

fn is_inside(namespace: &PidNamespace, pid: Pid) -> Result<bool> {
    match PidNamespace::of(pid) {
        // It has ended, or is one that we may not even look at, so not one of a container of ours.
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EACCES | Errno::EPERM) => Ok(false),
        other => other
            .and_then(|its| namespace.contains(its))
            .with_context(|| format!("look at the pid namespace of {pid}")),
    }
}
