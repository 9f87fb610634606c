//! Receiving descriptors: nix gives them as bare numbers, here they arrive owned.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{self, ControlMessageOwned, MsgFlags, SockFlag};

use crate::interrupt;

/// What one recvmsg(2) brought.
pub struct Received {
    /// Bytes of the message; 0 is the end.
    pub len: usize,
    /// The first descriptor that came with it.
    pub fd: Option<OwnedFd>,
    /// The sender's pid as this process knows it, with SO_PASSCRED; else 0.
    pub sender: i32,
}

/// Receives one message.
///
/// # Errors
/// Those of recvmsg(2); EINTR as in [`interrupt`].
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut space = nix::cmsg_space!([RawFd; 1], libc::ucred);
    let mut parts = [IoSliceMut::new(buffer)];
    let raw = socket.as_fd().as_raw_fd();
    interrupt::readable(socket.as_fd())?;
    let message = loop {
        match socket::recvmsg::<()>(raw, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut received = Received { len: message.bytes, fd: None, sender: 0 };
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::ScmRights(fds) => {
                // SAFETY: the kernel installed the descriptor for this message, and nobody else knows its number.
                received.fd = fds.first().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) });
            }
            ControlMessageOwned::ScmCredentials(who) => received.sender = who.pid(),
            _ => {}
        }
    }
    Ok(received)
}

/// Accepts a connection, close-on-exec.
pub fn accept(listener: impl AsFd) -> Result<OwnedFd, Errno> {
    let fd = socket::accept4(listener.as_fd().as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel returned a fresh descriptor that only we know.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
