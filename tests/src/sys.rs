//! System calls that no library wraps safely.
#![allow(unsafe_code)]

use nix::NixPath;
use nix::errno::Errno;
use nix::pty::Winsize;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

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

/// Has the program that the command starts ignore a signal, as nohup(1) does.
pub fn ignore_signal(command: &mut std::process::Command, signal: nix::sys::signal::Signal) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec the closure makes one system call, with integers.
    unsafe {
        command.pre_exec(move || {
            libc::signal(signal as i32, libc::SIG_IGN);
            Ok(())
        })
    };
}

/// Has a system call fail in the program that the command starts: every such call, or those whose first argument is this.
pub fn deny_syscall(
    command: &mut std::process::Command,
    number: libc::c_long,
    first: Option<u32>,
    errno: Errno,
) {
    use std::os::unix::process::CommandExt;
    let line = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let give = libc::BPF_RET | libc::BPF_K;
    // `struct seccomp_data`: the number at 0, the first argument at 16.
    let filter = [
        line(load, 0, 0, 0),
        line(equal, 0, 3, number as u32),
        line(load, 0, 0, if first.is_some() { 16 } else { 0 }),
        line(equal, 0, 1, first.unwrap_or(number as u32)),
        line(give, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        line(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the program points to a filter of the length that is told, which the closure owns.
        unsafe {
            Errno::result(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            Errno::result(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program))?;
        }
        Ok(())
    };
    // SAFETY: two system calls, nothing that needs a lock or memory.
    unsafe { command.pre_exec(install) };
}

/// Exchanges what two names stand for, at once (RENAME_EXCHANGE, which no libc but glibc wraps).
pub fn exchange(one: &Path, other: &Path) -> Result<(), Errno> {
    one.with_nix_path(|one| {
        other.with_nix_path(|other| {
            let (at, flags) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
            // SAFETY: two C strings that live across the call.
            let done =
                unsafe { libc::syscall(libc::SYS_renameat2, at, one.as_ptr(), at, other.as_ptr(), flags) };
            Errno::result(done).map(drop)
        })
    })??
}

/// Sends a process a signal with a value, as sigqueue(3) does.
pub fn queue_signal(pid: i32, signal: i32, value: i32) -> Result<(), Errno> {
    let value = libc::sigval { sival_ptr: value as usize as *mut libc::c_void };
    // SAFETY: no memory is concerned; the pointer is a number.
    Errno::result(unsafe { libc::sigqueue(pid, signal, value) }).map(drop)
}
