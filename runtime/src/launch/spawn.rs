//! The clone of the new process.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use linux::clone::{Fork, clone3};
use linux::{pidfd, process};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::setns;
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::channel::{FromInit, HostEnd, Reached};
use super::init::{self, Init};
use super::namespaces::flag;
use crate::plan::namespaces::proc_name;
use crate::plan::step::{InitSync, Spawn};

/// Makes the process that carries out the plan's `init`. Returns on the host only.
pub(super) fn spawn(spawn: &Spawn, ours: &HostEnd, init: Init<'_>) -> Result<(Pid, OwnedFd)> {
    let flags = spawn.new.iter().fold(0, |flags, kind| flags | flag(*kind).bits() as u32 as u64);
    if spawn.has_intermediate() {
        return by_an_intermediate(spawn, flags, ours, init);
    }
    join(spawn, &init.handles)?;
    match clone_into(spawn, flags)? {
        Fork::Child => init::carry_out(init),
        Fork::Parent { pid, pidfd } => Ok((pid, pidfd)),
    }
}

fn join(spawn: &Spawn, handles: &[Option<OwnedFd>]) -> Result<()> {
    for (kind, slot) in &spawn.join {
        let fd = handles.get(slot.0).and_then(Option::as_ref).context("its handle was never opened")?;
        setns(fd, flag(*kind)).with_context(|| format!("setns {}", proc_name(*kind)))?;
    }
    Ok(())
}

fn clone_into(spawn: &Spawn, flags: u64) -> Result<Fork> {
    let open_dir = |dir: &Path| {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(dir, flags, Mode::empty()).with_context(|| format!("open {}", dir.display()))
    };
    let Some(dir) = &spawn.into else { return clone3(flags, None).context("clone3") };
    match (clone3(flags, Some(open_dir(dir)?.as_fd())), spawn.cgroup_of) {
        // The container has divided its group, and a divided one takes no processes (cgroup-v2.rst, "No Internal
        // Process Constraint").
        (Err(Errno::EBUSY), Some(init)) => {
            let dir =
                ::cgroup::probe::cgroup2_of(init)?.context("find the cgroup of the container's init")?;
            clone3(flags, Some(open_dir(&dir)?.as_fd()))
                .with_context(|| format!("clone3 into {}", dir.display()))
        }
        (other, _) => other.context("clone3"),
    }
}

/// A user namespace can't be left again, and new namespaces belong to the one that the caller of clone3 is in. So an
/// intermediate process joins it, and clones the container's as its sibling: CLONE_PARENT, so that the runtime can wait
/// for it.
fn by_an_intermediate(spawn: &Spawn, flags: u64, ours: &HostEnd, init: Init<'_>) -> Result<(Pid, OwnedFd)> {
    ours.learn_senders()?;
    match clone_into(spawn, 0)? {
        Fork::Child => {
            let joined = forget_the_host(&init).and_then(|()| join(spawn, &init.handles));
            let cloned =
                joined.and_then(|()| clone3(flags | libc::CLONE_PARENT as u64, None).context("clone3"));
            match cloned {
                Ok(Fork::Child) => match init.channel.send(InitSync::Cloned) {
                    Ok(()) => init::carry_out(init),
                    Err(_) => process::exit_now(1),
                },
                Ok(Fork::Parent { .. }) => process::exit_now(0),
                Err(reason) => {
                    init.channel.fail(0, &format!("{reason:#}"));
                    process::exit_now(1)
                }
            }
        }
        Fork::Parent { pid: intermediate, pidfd: handle } => {
            drop(init);
            let cloned = ours.receive();
            if cloned.is_err() {
                // It may be frozen, and is waited for. It fails only if that has ended.
                let _ = pidfd::signal(handle, libc::SIGKILL);
            }
            waitpid(intermediate, None).context("wait for the intermediate process")?;
            match cloned? {
                FromInit::Reached(Reached { sender, .. }) if sender > 0 => {
                    let pid = Pid::from_raw(sender);
                    Ok((pid, pidfd::open(pid).context("pidfd_open")?))
                }
                FromInit::Failed { reason, .. } => bail!("{reason}"),
                _ => bail!("the intermediate process was killed"),
            }
        }
    }
}

/// In the new process: gives up all of the runtime's but what is needed. Kept open here, the runtime's end and its lock would
/// outlive it; its directories lead to the host, and its environment is the caller's.
pub(super) fn forget_the_host(init: &Init<'_>) -> Result<()> {
    let handles = init.handles.iter().flatten().chain(&init.gate).map(AsFd::as_fd);
    let kept: Vec<_> = handles.chain([init.channel.as_fd()]).collect();
    if !init.plan.spawn.keep_environment {
        process::forget_environment();
    }
    process::close_all_but(&kept, init.plan.spawn.close_from).context("close_range")
}
