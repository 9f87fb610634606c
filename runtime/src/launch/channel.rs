//! The channel between the runtime and the process that it makes: both ends, and all that is ever said.
//!
//! ```text
//!   runtime                                         init
//!   ───────                                         ────
//!   clone3 ────────────────────────────────────▶    plays `inside`
//!   has it on record            OnRecord      ──▶    (heard before it may park)
//!   maps ids                    IdsMapped     ──▶    (with a new user namespace)
//!   moves network devices       DevicesMoved ──▶    (with linux.netDevices)
//!   has systemd move it         Attached      ──▶    (with a scope)
//!                           ◀── Console + master     (with a terminal)
//!                           ◀── HooksDue             (with hooks)
//!   runs hooks                  HooksRan      ──▶    runs its own hooks
//!                           ◀── LimitsDue            (with limits and a user namespace)
//!   sets limits                 Limited       ──▶
//!   takes and passes it     ◀── Listener + number    (with SCMP_ACT_NOTIFY)
//!                           ◀── Ready                and parks at the gate
//!
//!   at any time             ◀── (step number, reason), then the process ends
//! ```
//!
//! A SOCK_SEQPACKET pair: messages keep their bounds, and end-of-file tells either side that the other is gone.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use anyhow::{Context, Result, bail};
use linux::socket::{self, Received};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, setsockopt, socketpair, sockopt,
};

use crate::plan::step::Mark;

/// A reason longer than this is cut.
const MAX_MESSAGE: usize = 4096;
/// The mark, or 0 for a failure; then the failed step's number.
const HEADER: usize = 5;

/// One end.
pub struct Channel(OwnedFd);

/// What the other side said.
#[derive(Debug)]
#[allow(missing_docs, reason = "see the diagram")]
pub enum Message {
    Mark {
        mark: u8,
        value: u32,
        fd: Option<OwnedFd>,
        sender: i32,
    },
    Failed {
        step: usize,
        reason: String,
    },
    /// The other side is gone.
    End,
}

/// Both ends; the first is the runtime's.
pub fn pair() -> Result<(Channel, Channel)> {
    let kind = SockType::SeqPacket;
    let (a, b) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).context("socketpair")?;
    Ok((Channel(a), Channel(b)))
}

impl Channel {
    /// Asks the kernel to say who sends, by the number that the receiver knows it by.
    pub fn learn_senders(&self) -> Result<()> {
        setsockopt(&self.0, sockopt::PassCred, &true).context("setsockopt SO_PASSCRED")
    }

    /// Says that a point is reached.
    pub fn tell(&self, mark: Mark, fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let raw: Vec<RawFd> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
        self.send(mark as u8, 0, b"", &raw)
    }

    /// Says that a point is reached, and a number with it.
    pub fn tell_number(&self, mark: Mark, number: u32) -> Result<(), Errno> {
        self.send(mark as u8, number, b"", &[])
    }

    /// Says which step failed, and why.
    pub fn fail(&self, step: usize, reason: &str) {
        // When nobody listens there is nobody to tell.
        let _ = self.send(0, step as u32, reason.as_bytes(), &[]);
    }

    fn send(&self, kind: u8, value: u32, text: &[u8], fds: &[RawFd]) -> Result<(), Errno> {
        let mut header = [kind, 0, 0, 0, 0];
        header[1..].copy_from_slice(&value.to_ne_bytes());
        let text = &text[..text.len().min(MAX_MESSAGE - HEADER)];
        if fds.is_empty() && text.is_empty() {
            // write(2), which every profile allows and none leaves to a listener. (SIGPIPE is ignored until exec.)
            return nix::unistd::write(&self.0, &header).map(drop);
        }
        let parts = [IoSlice::new(&header), IoSlice::new(text)];
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        sendmsg::<()>(self.0.as_raw_fd(), &parts, rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
    }

    /// Waits for the next message.
    pub fn receive(&self) -> Result<Message> {
        let mut bytes = [0u8; MAX_MESSAGE];
        let Received { len: n, fd, sender } = loop {
            match socket::receive(&self.0, &mut bytes) {
                // It ended without reading our last word. The kernel says so once, before what it said itself.
                Err(Errno::ECONNRESET) => {}
                other => break other.context("receive from the new process")?,
            }
        };
        if n == 0 {
            return Ok(Message::End);
        }
        let Some((&[kind, a, b, c, d], text)) = bytes[..n].split_first_chunk::<HEADER>() else {
            bail!("receive from the new process: {n} bytes are no message")
        };
        let value = u32::from_ne_bytes([a, b, c, d]);
        Ok(match kind {
            0 => Message::Failed { step: value as usize, reason: String::from_utf8_lossy(text).into_owned() },
            mark => Message::Mark { mark, value, fd, sender },
        })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
