//! The channel between the runtime and the process that it makes: both ends, and all that is ever said.
//!
//! ```text
//!   runtime (HostEnd)                               init (InitEnd)
//!   ─────────────────                               ──────────────
//!   clone3 ────────────────────────────────────▶    carries out `init`
//!                           ◀── Cloned               (through an intermediate process)
//!   saves its pid               PidSaved      ──▶    (waited for before it may park)
//!   maps ids                    IdsMapped     ──▶    (with a new user namespace)
//!   moves network devices       NetDevicesMoved ─▶   (with linux.netDevices)
//!   has systemd move it         InCgroup      ──▶    (with a scope)
//!                           ◀── Console + master     (with a terminal)
//!                           ◀── ReadyForHooks        (with hooks)
//!   runs hooks                  HooksRan      ──▶    runs its own hooks
//!                           ◀── ReadyForRlimits      (with limits and a user namespace)
//!   sets limits                 RlimitsSet    ──▶
//!   takes the listener      ◀── SeccompListener + its descriptor's number (with SCMP_ACT_NOTIFY)
//!   and sends it on             ListenerSent  ──▶    closes its own
//!                           ◀── Ready
//!   publishes the gate          GatePublished ──▶    parks at the gate (with `create`)
//!
//!   at any time             ◀── (step number, reason), then the process ends
//! ```
//!
//! A SOCK_SEQPACKET pair: messages keep their bounds, and end-of-file tells either side that the other is gone. The
//! container's filter may be in force in the new process: there it is read(2) and write(2), which every profile allows, but
//! for a descriptor that is sent along; write(2) can't be left to a listener.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use linux::socket::{self, Received};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, setsockopt, socketpair, sockopt,
};
use nix::unistd::{read, write};

use crate::plan::step::{HostSync, InitSync};

/// A reason longer than this is cut.
const MAX_MESSAGE: usize = 4096;
/// From the init: a point's number from 1 on, or [`FAILED`]; then a number.
const HEADER: usize = 5;
const FAILED: u8 = 0;

/// The runtime's end.
pub struct HostEnd(OwnedFd);

/// The new process's end.
pub struct InitEnd(OwnedFd);

/// What the new process says.
#[derive(Debug)]
#[allow(missing_docs, reason = "see the diagram")]
pub enum FromInit {
    Reached(Reached),
    Failed {
        step: usize,
        reason: String,
    },
    /// It is gone.
    End,
}

/// It has reached a point.
#[derive(Debug)]
#[allow(missing_docs, reason = "see the diagram")]
pub struct Reached {
    pub point: InitSync,
    pub number: u32,
    pub fd: Option<OwnedFd>,
    /// The sender's pid in the runtime's pid namespace, after [`HostEnd::learn_senders`].
    pub sender: i32,
}

/// Both ends.
pub fn pair() -> Result<(HostEnd, InitEnd)> {
    let kind = SockType::SeqPacket;
    let (a, b) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).context("socketpair")?;
    Ok((HostEnd(a), InitEnd(b)))
}

impl HostEnd {
    /// Has the kernel add the sender's pid to each message, as this process's pid namespace has it (SO_PASSCRED).
    pub fn learn_senders(&self) -> Result<()> {
        setsockopt(&self.0, sockopt::PassCred, &true).context("setsockopt SO_PASSCRED")
    }

    /// Says that a point is reached.
    ///
    /// # Errors
    /// EPIPE: the new process is gone. (SIGPIPE is ignored.)
    pub fn send(&self, point: HostSync) -> Result<(), Errno> {
        write(&self.0, &[point as u8]).map(drop)
    }

    /// Waits for the next message.
    pub fn receive(&self) -> Result<FromInit> {
        let mut bytes = [0u8; MAX_MESSAGE];
        let Received { len: n, fd, sender } = loop {
            match socket::receive(&self.0, &mut bytes) {
                // It ended without reading our last word. The kernel says so once, before what it said itself.
                Err(Errno::ECONNRESET) => {}
                other => break other.context("receive from the new process")?,
            }
        };
        if n == 0 {
            return Ok(FromInit::End);
        }
        let Some((&[kind, a, b, c, d], text)) = bytes[..n].split_first_chunk::<HEADER>() else {
            bail!("receive from the new process: {n} bytes are no message")
        };
        let number = u32::from_ne_bytes([a, b, c, d]);
        if kind == FAILED {
            let reason = String::from_utf8_lossy(text).into_owned();
            return Ok(FromInit::Failed { step: number as usize, reason });
        }
        let point = InitSync::ALL.get(usize::from(kind) - 1).copied();
        let point = point.with_context(|| format!("receive from the new process: {kind} is no point"))?;
        Ok(FromInit::Reached(Reached { point, number, fd, sender }))
    }
}

impl InitEnd {
    /// Says that a point is reached.
    pub fn send(&self, point: InitSync) -> Result<(), Errno> {
        self.send_number(point, 0)
    }

    /// The same, and a number with it.
    pub fn send_number(&self, point: InitSync, number: u32) -> Result<(), Errno> {
        // SIGPIPE is ignored until exec.
        write(&self.0, &header(point as u8 + 1, number)).map(drop)
    }

    /// The same, and a descriptor with it.
    pub fn send_fd(&self, point: InitSync, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        let header = header(point as u8 + 1, 0);
        let fds = [fd.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let parts = [IoSlice::new(&header)];
        sendmsg::<()>(self.0.as_raw_fd(), &parts, &rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
    }

    /// Says which step failed, and why.
    pub fn fail(&self, step: usize, reason: &str) {
        let mut message = header(FAILED, step as u32).to_vec();
        message.extend(&reason.as_bytes()[..reason.len().min(MAX_MESSAGE - HEADER)]);
        // It fails only when the runtime is gone, and then nobody waits for the reason.
        let _ = write(&self.0, &message);
    }

    /// Waits for the next point that the runtime reaches. None: it is gone.
    ///
    /// # Errors
    /// Those of read(2), and of a message that is none.
    pub fn receive(&self) -> Result<Option<HostSync>> {
        let mut point = [0u8; 1];
        let len = loop {
            match read(&self.0, &mut point) {
                Err(Errno::EINTR) => {}
                other => break other.context("receive from the runtime")?,
            }
        };
        match (len, HostSync::ALL.get(usize::from(point[0]))) {
            (0, _) => Ok(None),
            (_, Some(point)) => Ok(Some(*point)),
            (_, None) => bail!("receive from the runtime: {} is no point", point[0]),
        }
    }
}

fn header(kind: u8, number: u32) -> [u8; HEADER] {
    let [a, b, c, d] = number.to_ne_bytes();
    [kind, a, b, c, d]
}

impl AsFd for HostEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for InitEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
