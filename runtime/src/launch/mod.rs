//! EXECUTE: carries a plan out. Changes the world, never reads the document.
//!
//! Two processes share the work. The runtime ([`outside`](self)) stays on the host; the new one plays the inside
//! steps and becomes the container's program. What they say to each other is drawn in `channel.rs`.

mod cgroup;
mod channel;
mod copy_up;
mod credentials;
mod dump;
pub mod foreground;
pub mod hooks;
mod id_maps;
mod images;
mod inside;
mod mounts;
mod namespaces;
mod net_devices;
mod nodes;
mod old_root;
mod output;
mod outside;
pub mod passing;
mod procfs;
mod program;
mod resctrl;
mod restore;
mod restrictions;
mod root;
mod rootfs;
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
use crate::container::status::Init;
use crate::container::store::Locked;
use crate::plan::Plan;
use channel::Channel;
use outside::{Host, Peer};

pub use dump::{Dump, dump};
pub use images::Images;
pub use restore::{Restore, restore};

/// Whether the container waits for `start`, or goes straight on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `create`: parked at a gate with a name.
    Shut,
    /// `run`: the way is free as soon as the record stands.
    Open,
}

/// A process that is ready (at a shut gate) or on its way to exec.
pub struct Launched {
    /// Its number on the host.
    pub pid: Pid,
    /// A handle on it.
    pub pidfd: OwnedFd,
    /// The far end of its terminal, unless a console socket took it.
    pub master: Option<OwnedFd>,
    channel: Channel,
}

/// Plays a plan up to the point where the new process is ready. `signals` is the mask that the payload gets.
///
/// # Errors
/// The step that failed, on either side, and why. What exists by then is the caller's to remove; the record says
/// where it is.
pub fn create(
    plan: &Plan,
    locked: &Locked,
    record: &Record,
    gate: Gate,
    signals: SigSet,
) -> Result<Launched> {
    let mut host = Host::new(plan, record);
    host.prepare()?;
    let (ours, theirs) = channel::pair()?;
    let listener = match gate {
        Gate::Shut => Some(gate::build(locked.container.dir())?),
        Gate::Open => {
            locked.mark_unready()?;
            None
        }
    };
    let handles = std::mem::take(&mut host.handles);
    let init = inside::Init { plan, record, channel: theirs, gate: listener, handles, signals };
    let (pid, pidfd) = spawn::spawn(&plan.spawn, &ours, init).with_context(|| plan.spawn.to_string())?;
    // Before anything else: from here on there is a process to be found, by whoever comes after a crash.
    locked.save_init(Init::of(pid)?)?;
    host.converse(&Peer { channel: &ours, pid }, gate)?;
    if gate == Gate::Shut {
        locked.publish_gate()?;
    }
    Ok(Launched { pid, pidfd, master: host.master, channel: ours })
}

/// Plays a plan of `exec`, whose process is on its way to its program then; `init` is the container's init.
///
/// # Errors
/// The step that failed, on either side, and why. Nothing is left.
pub fn exec(plan: &Plan, record: &Record, init: OwnedFd, signals: SigSet) -> Result<Launched> {
    let mut host = Host::new(plan, record);
    host.handles[0] = Some(init);
    host.prepare()?;
    let (ours, theirs) = channel::pair()?;
    let handles = std::mem::take(&mut host.handles);
    let init = inside::Init { plan, record, channel: theirs, gate: None, handles, signals };
    let (pid, pidfd) = spawn::spawn(&plan.spawn, &ours, init).with_context(|| plan.spawn.to_string())?;
    let said = host.converse(&Peer { channel: &ours, pid }, Gate::Open);
    let launched = Launched { pid, pidfd, master: host.master, channel: ours };
    match said {
        Ok(()) => Ok(launched),
        Err(reason) => {
            launched.end();
            Err(reason)
        }
    }
}

/// Plays a plan of `update`, for which no process is born.
///
/// # Errors
/// The limit that was refused, and why. Those before it hold.
pub fn update(plan: &Plan, record: &Record) -> Result<()> {
    Host::new(plan, record).prepare()
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
