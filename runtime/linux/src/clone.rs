//! clone3(2): one call for all new namespaces, the cgroup and the pidfd.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::interrupt;

/// Which side of the clone this is.
pub enum Fork {
    /// The new process.
    Child,
    /// The caller, with the new process as seen from its pid namespace.
    #[allow(missing_docs, reason = "named for what they are")]
    Parent { pid: Pid, pidfd: OwnedFd },
}

/// Forks with `flags` (CLONE_NEW*, CLONE_PARENT), into the v2 `cgroup` when one is given (Linux 5.7).
///
/// # Errors
/// Those of clone3(2), Linux 5.3.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Fork, Errno> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all zero is the documented "nothing asked for" of clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    // What ends this program's waits must not end, or be lost to, the new one's.
    args.flags = flags | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    args.pidfd = (&raw mut pidfd) as u64;
    // With CLONE_PARENT the exit signal is the parent's own, and naming one is an error.
    args.exit_signal = if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets a copy of this memory, as after fork(2). This program has one thread,
    // so no lock is held by a thread that the child lacks. `pidfd` outlives the call.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) })?;
    if pid == 0 {
        interrupt::disarm();
        return Ok(Fork::Child);
    }
    // SAFETY: the kernel wrote a fresh descriptor that only we know.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Fork::Parent { pid: Pid::from_raw(pid as i32), pidfd })
}

/// linux/sched.h; libc has it as a constant that does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// Linux 5.5.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
