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

/// A system call that waits for an agent: its id, the caller's number there, and which call it is.
pub(crate) fn receive_call(listener: impl AsFd) -> Result<libc::seccomp_notif, Errno> {
    // SAFETY: a struct of integers; the kernel wants it zeroed.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: SECCOMP_IOCTL_NOTIF_RECV writes one `seccomp_notif`, and `call` lives across the call.
    let done =
        unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) };
    Errno::result(done).map(|_| call)
}

/// Answers it.
pub(crate) fn answer_call(listener: impl AsFd, mut answer: libc::seccomp_notif_resp) -> Result<(), Errno> {
    // SAFETY: SECCOMP_IOCTL_NOTIF_SEND reads one `seccomp_notif_resp`, and `answer` lives across the call.
    let done =
        unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
    Errno::result(done).map(drop)
}
