//! Descriptors handed to whoever called the runtime: a pty master, an init's pidfd.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use linux::interrupt;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};

/// Somebody listens, but has as many waiting as it wants, and may never accept.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends `fd` to the stream socket at `path`, with a name as the message (runc's terminals.md).
///
/// # Errors
/// Nobody listens there, or nobody accepts; the path is longer than a unix address (107 bytes).
pub fn send_fd(fd: impl AsFd, path: &Path, name: &str) -> Result<()> {
    // A connect(2) that blocks can't be ended by a signal that is let in by ppoll(2) alone.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).context("socket")?;
    let address = UnixAddr::new(path).with_context(|| format!("address of {}", path.display()))?;
    reach(socket.as_fd(), &address).with_context(|| format!("connect to {}", path.display()))?;
    let fds = [fd.as_fd().as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let message = [IoSlice::new(name.as_bytes())];
    sendmsg::<()>(socket.as_raw_fd(), &message, &rights, MsgFlags::MSG_NOSIGNAL, None)
        .context("sendmsg")
        .map(drop)
}

fn reach(socket: BorrowedFd<'_>, address: &UnixAddr) -> Result<(), Errno> {
    let end = Instant::now() + PATIENCE;
    loop {
        match connect(socket.as_raw_fd(), address) {
            // unix(7) has no EINPROGRESS: nothing of the attempt is left, and there is nothing to poll.
            Err(Errno::EAGAIN) if Instant::now() < end => interrupt::sleep(Duration::from_millis(10))?,
            answer => return answer,
        }
    }
}
