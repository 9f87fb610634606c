//! What a process changes about itself.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::SigSet;

/// Replaces the program; returns only to say why not.
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> Errno {
    let pointers = |all: &[CString]| -> Vec<*const libc::c_char> {
        all.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: two null-terminated arrays of C strings that live across the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Errno::last()
}

/// In a fresh child: closes what the parent has open, but for `kept` and, below `first`, what isn't close-on-exec: that is
/// the payload's. Linux 5.9.
///
/// Only for a child that never returns to code that owns any of it; it ends in exec or [`exit_now`].
///
/// # Errors
/// Those of close_range(2).
pub fn close_all_but(kept: &[BorrowedFd<'_>], first: u32) -> Result<(), Errno> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    kept.sort_unstable();
    let close = |from: u32, to: u32| {
        // SAFETY: the owners live in stack frames of the parent's that this copy of the process never returns to, so
        // nobody here uses or closes these numbers again.
        Errno::result(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) }).map(drop)
    };
    for fd in (3..first).filter(|fd| !kept.contains(fd)) {
        // SAFETY: integers only.
        let flags = unsafe { libc::fcntl(fd as libc::c_int, libc::F_GETFD) };
        if flags != -1 && flags & libc::FD_CLOEXEC != 0 {
            close(fd, fd)?;
        }
    }
    let mut from = first;
    for fd in kept.into_iter().filter(|fd| *fd >= first) {
        if fd > from {
            close(from, fd - 1)?;
        }
        from = fd + 1;
    }
    close(from, u32::MAX)
}

/// Ends this process at once: no destructor, no flush, nothing that belongs to the parent's copy.
pub fn exit_now(code: i32) -> ! {
    // A libc's _exit(2) tries again and again where a seccomp filter answers exit_group(2) with an error.
    // SAFETY: touches no memory.
    unsafe { libc::syscall(libc::SYS_exit_group, code) };
    trap()
}

/// Dies of a signal for which it takes no system call.
fn trap() -> ! {
    loop {
        // SAFETY: what no processor executes raises SIGILL or SIGTRAP; the kernel forces those on whoever ignores or blocks
        // them, and nobody here handles them.
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        unsafe {
            std::arch::asm!("ud2")
        };
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            std::arch::asm!("brk #1")
        };
        #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
        std::process::abort();
    }
}

/// In a fresh child: wipes the environment that the caller gave to the runtime, which others could read from
/// `/proc/PID/environ` and from its memory until exec.
pub fn forget_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: the kernel's own array of C strings on this process's stack, which nobody has changed since; no other thread
    // is there, and no reference into it, for std copies what it reads.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            std::ptr::write_bytes(*entry, 0, libc::strlen(*entry));
            *entry = std::ptr::null_mut();
            entry = entry.add(1);
        }
    }
}

/// Sets a resource limit of a process by number, prlimit(2); pid 0 is this one.
pub fn set_limit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: reads one rlimit64; the old value is not asked for.
    let done = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            &raw const limit,
            std::ptr::null::<libc::rlimit64>(),
        )
    };
    Errno::result(done).map(drop)
}

/// Marks every descriptor from `first` on close-on-exec, close_range(2), Linux 5.11.
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: integers only.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(done).map(drop)
}

/// Has a program get no descriptor but stdin, stdout and stderr, whatever this process has open for its payload.
pub fn close_at_exec(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one system call, with integers.
    unsafe { command.pre_exec(|| Ok(close_on_exec_from(3)?)) };
}

/// Has a program block no signal, whatever this process does: shells wait for SIGCHLD, and a daemon that is left behind is
/// to end by SIGTERM.
pub fn unblock_signals(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one system call, which reads a set that it owns.
    unsafe { command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?)) };
}

/// A caller that ignores SIGCHLD has this process, and what it starts, wait for ends that are never told (sigaction(2)).
pub fn default_sigchld() {
    // SAFETY: SIG_DFL is no handler, so nothing runs in signal context.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Has a command end with this process, and not go on alone. It is for a thread that lives as long as the process:
/// PR_SET_PDEATHSIG tells of the thread's end.
pub fn die_with_us(command: &mut Command) {
    let us = std::process::id() as libc::pid_t;
    let settle = move || {
        // SAFETY: prctl(2) with PR_SET_PDEATHSIG takes integers, getppid(2) nothing.
        unsafe {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(Errno::last().into());
            }
            // It may have ended before that.
            if libc::getppid() == us { Ok(()) } else { Err(Errno::ESRCH.into()) }
        }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is allocated.
    unsafe { command.pre_exec(settle) };
}

/// Sets the mode bits that new files don't get. (nix's panics where a seccomp filter has another answer than a mask.)
pub fn set_umask(mask: u32) {
    // SAFETY: an integer.
    unsafe { libc::umask(mask) };
}

/// Sets the NIS domain name of the current uts namespace.
pub fn set_domainname(name: &str) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `name`; the kernel only reads.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// The kernel's own word on the working directory: it begins with "(unreachable)" outside the root, where a libc's
/// getcwd(3) only fails.
pub fn working_directory() -> Result<Vec<u8>, Errno> {
    let mut path = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: pointer and length describe `path`.
    let n = Errno::result(unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) })?;
    path.truncate((n as usize).saturating_sub(1));
    Ok(path)
}

/// Rust's start-up ignores SIGPIPE, and exec would hand that down to the payload.
pub fn default_sigpipe() {
    // SAFETY: SIG_DFL is no handler, so nothing runs in signal context.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Sends a signal by its number. (nix knows no real-time signals.)
///
/// # Errors
/// No such process, or no such signal.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill(2) touches no memory of ours.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Gives a command three descriptors, as 3, 4 and 5. They must stay open until it is spawned.
pub fn pass_as_3_to_5(command: &mut Command, fds: [&OwnedFd; 3]) {
    let given = fds.map(AsRawFd::as_raw_fd);
    let place = move || {
        let mut copies = [0; 3];
        for (copy, fd) in copies.iter_mut().zip(given) {
            // Out of the way first: one may lie where another goes.
            // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC touches no memory of ours.
            *copy = Errno::result(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 6) })?;
        }
        for (copy, number) in copies.into_iter().zip(3..) {
            // The copy is of no use under its own number; dup2 clears close-on-exec.
            // SAFETY: dup2(2) touches no memory of ours.
            Errno::result(unsafe { libc::dup2(copy, number) })?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is allocated.
    unsafe { command.pre_exec(place) };
}
