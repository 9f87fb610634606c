//! System calls that no library wraps safely: wait4, pidfd_open, a hook between fork and exec.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};

use nix::errno::Errno;

/// Waits for a child that nothing else waits for; what it and the children it waited for have used.
pub(crate) fn wait4(child: Child) -> nix::Result<(ExitStatus, libc::rusage)> {
    let mut status = 0;
    // SAFETY: rusage is plain integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals of the type that the kernel writes.
    let pid = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    Errno::result(pid)?;
    Ok((ExitStatus::from_raw(status), usage))
}

/// A descriptor that becomes readable when the process has ended.
pub(crate) fn pidfd_open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: the call takes two integers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Has the command start by fork: an empty hook keeps the library from using vfork.
pub(crate) fn fork_first(command: &mut Command) {
    let nothing = || -> io::Result<()> { Ok(()) };
    // SAFETY: the hook does nothing, so nothing that is unsafe after a fork.
    unsafe { command.pre_exec(nothing) };
}
