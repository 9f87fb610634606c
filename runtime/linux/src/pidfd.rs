//! Processes by descriptor: no signal can hit, and no question be answered by, a later process with the same pid.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

/// Opens a running or unreaped process. ESRCH: there is none. Linux 5.3.
pub fn open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: integers only.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel returned a fresh descriptor that only we know.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Sends a signal by number, real-time ones included; 0 only asks. ESRCH: it has ended. Linux 5.1.
pub fn signal(pidfd: impl AsFd, signal: i32) -> Result<(), Errno> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: a null siginfo asks for what kill(2) sends.
    let done = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    Errno::result(done).map(drop)
}

/// Whether it has ended, reaped or not.
pub fn has_ended(pidfd: impl AsFd) -> Result<bool, Errno> {
    loop {
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) {
            Err(Errno::EINTR) => {}
            answer => return answer.map(|ready| ready > 0),
        }
    }
}

/// A copy of another process's descriptor. EBADF: it has no such one. EPERM: it may not be traced. Linux 5.6.
pub fn descriptor(pidfd: impl AsFd, number: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: integers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_fd().as_raw_fd(), number, 0) };
    // SAFETY: the kernel returned a fresh descriptor (close-on-exec) that only we know.
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}
