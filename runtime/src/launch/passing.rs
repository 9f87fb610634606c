//! Descriptors handed to whoever called the runtime: a terminal's far end, an init's pidfd.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// In seconds.
const PATIENCE: i64 = 10;

/// Sends `fd` to the stream socket at `path`, with a name as the message (runc's terminals.md).
///
/// # Errors
/// Nobody listens there, or the path is longer than a unix address (107 bytes).
pub fn pass(fd: impl AsFd, path: &Path, name: &str) -> Result<()> {
    let socket =
        socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).context("socket")?;
    let address = UnixAddr::new(path).with_context(|| format!("address of {}", path.display()))?;
    // Somebody listens there, but may never accept.
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(PATIENCE)).context("setsockopt")?;
    connect(socket.as_raw_fd(), &address).with_context(|| format!("connect to {}", path.display()))?;
    let fds = [fd.as_fd().as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let message = [IoSlice::new(name.as_bytes())];
    sendmsg::<()>(socket.as_raw_fd(), &message, &rights, MsgFlags::MSG_NOSIGNAL, None)
        .context("sendmsg")
        .map(drop)
}
