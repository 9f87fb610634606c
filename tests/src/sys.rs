//! The system calls that have no safe face in a library.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::pty::Winsize;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Sets a terminal's window size, by either end.
pub(crate) fn set_window_size(terminal: impl AsFd, size: &Winsize) -> Result<(), Errno> {
    // SAFETY: TIOCSWINSZ reads one `winsize` from the pointer, and `size` is borrowed across the call.
    let code = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const *size) };
    Errno::result(code).map(drop)
}

/// Owns descriptors that just arrived in a control message.
pub(crate) fn own(received: Vec<RawFd>) -> Vec<OwnedFd> {
    // SAFETY: the kernel made these descriptors for this recvmsg and nothing else knows their numbers.
    received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}
