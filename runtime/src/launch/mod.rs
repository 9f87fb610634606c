//! EXECUTE: carries a plan out. Changes the world, never reads the document.
//!
//! Two processes share the work. The runtime (`host.rs`) stays on the host; the new one (`init.rs`) carries out the
//! plan's `init` and becomes the container's program. What they say to each other is drawn in `channel.rs`.

mod cgroup;
mod channel;
mod copy_up;
mod credentials;
mod dump;
pub mod foreground;
pub mod hooks;
mod host;
mod id_maps;
mod images;
mod init;
mod mounts;
mod namespaces;
mod net_devices;
mod nodes;
mod old_root;
mod output;
mod procfs;
mod program;
mod resctrl;
mod restore;
mod restrictions;
mod root;
pub mod send_fd;
mod spawn;
mod terminal;

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use linux::pidfd;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::container::gate;
use crate::container::record::Record;
use crate::container::store::Locked;
use crate::plan::Plan;
use channel::HostEnd;
use host::{Creation, Host, Peer};
use init::Init;

pub use dump::{Dump, dump};
pub use images::Images;
pub use restore::{Restore, restore};

/// A process that is ready (at a shut gate) or on its way to exec.
pub struct Launched {
    /// Its pid on the host.
    pub pid: Pid,
    /// A handle on it.
    pub pidfd: OwnedFd,
    /// The pty master of its terminal, unless a console socket took it.
    pub master: Option<OwnedFd>,
    channel: HostEnd,
}

/// Carries out a plan up to the point where the new process is ready. `config` is the document that it is of; `signals` is the
/// mask that the payload gets.
///
/// # Errors
/// The step that failed, on either side, and why. What exists by then is the caller's to remove; the record says
/// where it is.
pub fn create(
    plan: &Plan,
    locked: &Locked,
    record: &Record,
    config: &[u8],
    signals: SigSet,
) -> Result<Launched> {
    let mut host = Host::new(plan, record, Some(Creation { locked, config }));
    host.pre_clone()?;
    let (ours, pid, pidfd) = clone(&mut host, signals)?;
    host.post_clone(&Peer { channel: &ours, pid })?;
    Ok(Launched { pid, pidfd, master: host.master, channel: ours })
}

/// Carries out a plan of `exec`, whose process is on its way to its program then; `init` is the container's init.
///
/// # Errors
/// The step that failed, on either side, and why. Nothing is left.
pub fn exec(plan: &Plan, record: &Record, init: OwnedFd, signals: SigSet) -> Result<Launched> {
    let mut host = Host::new(plan, record, None);
    host.handles[0] = Some(init);
    host.pre_clone()?;
    let (ours, pid, pidfd) = clone(&mut host, signals)?;
    let done = host.post_clone(&Peer { channel: &ours, pid });
    let launched = Launched { pid, pidfd, master: host.master, channel: ours };
    match done {
        Ok(()) => Ok(launched),
        Err(reason) => {
            launched.end();
            Err(reason)
        }
    }
}

/// Makes the process, which inherits what the host has opened for it.
fn clone(host: &mut Host<'_>, signals: SigSet) -> Result<(HostEnd, Pid, OwnedFd)> {
    let (plan, record) = (host.plan, host.record);
    let (ours, channel) = channel::pair()?;
    let (gate, handles) = (host.gate.take(), std::mem::take(&mut host.handles));
    let init = Init { plan, record, channel, gate, handles, signals };
    let (pid, pidfd) = spawn::spawn(&plan.spawn, &ours, init).with_context(|| plan.spawn.to_string())?;
    Ok((ours, pid, pidfd))
}

/// Carries out a plan of `update`, for which no process is made.
///
/// # Errors
/// The limit that was refused, and why. Those before it hold.
pub fn update(plan: &Plan, record: &Record) -> Result<()> {
    Host::new(plan, record, None).pre_clone()
}

impl Launched {
    /// Waits until the program runs (`run`).
    ///
    /// # Errors
    /// The step that failed behind the gate.
    pub fn passed(&self) -> Result<()> {
        gate::passed(&self.channel)
    }

    /// Kills the process and waits for it: as a zombie it would stay until whoever inherits it has time. Not for long: in a
    /// frozen cgroup of v1 it ends when that is thawed.
    pub fn end(&self) {
        // These fail only if it has gone already.
        let _ = pidfd::signal(&self.pidfd, libc::SIGKILL);
        let _ = poll(&mut [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(1000u16));
        let _ = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
    }
}
