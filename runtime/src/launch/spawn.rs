//! The birth of the new process.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::channel::{Channel, Message};
use super::inside::{self, Init};
use crate::plan::step::{Mark, Spawn};
use crate::spec::NamespaceKind;
use crate::sys::clone::{Fork, clone3};
use crate::sys::{pidfd, process};

/// clone3's and setns's flag for a namespace.
pub(super) fn flag(kind: NamespaceKind) -> CloneFlags {
    match kind {
        NamespaceKind::User => CloneFlags::CLONE_NEWUSER,
        NamespaceKind::Pid => CloneFlags::CLONE_NEWPID,
        NamespaceKind::Network => CloneFlags::CLONE_NEWNET,
        NamespaceKind::Mount => CloneFlags::CLONE_NEWNS,
        NamespaceKind::Ipc => CloneFlags::CLONE_NEWIPC,
        NamespaceKind::Uts => CloneFlags::CLONE_NEWUTS,
        NamespaceKind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        NamespaceKind::Time => CloneFlags::from_bits_retain(libc::CLONE_NEWTIME),
    }
}

/// Makes the process that plays the inside steps. Returns on the host only.
pub(super) fn spawn(spawn: &Spawn, ours: &Channel, init: Init<'_>) -> Result<(Pid, OwnedFd)> {
    let into = spawn.into.as_ref().map(|dir| {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(dir, flags, Mode::empty()).with_context(|| format!("open {}", dir.display()))
    });
    let into = into.transpose()?;
    let flags = spawn.new.iter().fold(0, |flags, kind| flags | flag(*kind).bits() as u32 as u64);
    let into = into.as_ref().map(|fd| fd.as_fd());
    let Some(user) = spawn.via else {
        return match clone3(flags, into).context("clone3")? {
            Fork::Child => inside::play(init),
            Fork::Parent { pid, pidfd } => Ok((pid, pidfd)),
        };
    };
    // New namespaces belong to the user namespace that their maker is in. A process in the middle joins the given
    // one and makes the container's as its own brother: CLONE_PARENT, so that the runtime can wait for it.
    ours.learn_senders()?;
    match clone3(0, into).context("clone3")? {
        Fork::Child => {
            process::close_parents(&init.parents);
            let joined =
                init.handles.get(user.0).and_then(Option::as_ref).context("its handle was never opened");
            let joined = joined.and_then(|fd| setns(fd, CloneFlags::CLONE_NEWUSER).context("setns"));
            let born =
                joined.and_then(|()| clone3(flags | libc::CLONE_PARENT as u64, None).context("clone3"));
            match born {
                Ok(Fork::Child) => match init.channel.tell(Mark::Born, None) {
                    Ok(()) => inside::play(Init { parents: Vec::new(), ..init }),
                    Err(_) => process::exit_now(1),
                },
                Ok(Fork::Parent { .. }) => process::exit_now(0),
                Err(reason) => {
                    init.channel.fail(0, &format!("{reason:#}"));
                    process::exit_now(1)
                }
            }
        }
        Fork::Parent { pid: middle, .. } => {
            drop(init);
            let born = ours.receive();
            waitpid(middle, None).context("wait for the process in the middle")?;
            match born? {
                Message::Mark { sender, .. } if sender > 0 => {
                    let pid = Pid::from_raw(sender);
                    Ok((pid, pidfd::open(pid).context("pidfd_open")?))
                }
                Message::Failed { reason, .. } => bail!("join the user namespace: {reason}"),
                _ => bail!("the process in the middle was killed"),
            }
        }
    }
}
