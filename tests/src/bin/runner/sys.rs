//! The signals and descriptors that a test or a job starts with.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has a program begin as a shell in the foreground would have it: nothing is blocked, and whatever nohup or a shell's `&`
/// ignores is not ignored. It gets a signal when the thread ends that starts it.
pub(crate) fn begin(command: &mut Command, at_our_end: Signal) {
    let begin = move || {
        set_pdeathsig(at_our_end)?;
        for one in Signal::iterator().filter(|one| ![Signal::SIGKILL, Signal::SIGSTOP].contains(one)) {
            // SAFETY: the default action runs no code of this process.
            unsafe { signal(one, SigHandler::SigDfl) }?;
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        Ok(())
    };
    // SAFETY: between fork and exec `begin` makes system calls only.
    unsafe { command.pre_exec(begin) };
}

/// Has a program get stdin, stdout and stderr alone.
pub(crate) fn close_others(command: &mut Command) {
    // SAFETY: integers only.
    let mark = || unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    // SAFETY: between fork and exec it makes one system call.
    unsafe { command.pre_exec(move || Errno::result(mark()).map(drop).map_err(Into::into)) };
}

/// Gives SIGCHLD its default action. Children of a process that ignores it, as its caller may have, can't be waited for.
pub(crate) fn default_sigchld() -> nix::Result<()> {
    // SAFETY: the default action runs no code of this process.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map(drop)
}
