//! System calls that no library wraps safely: ptrace between fork and exec, the session keyring.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has the program stop at its exec, traced by the thread that starts it.
pub fn traced(command: &mut Command) {
    let trace = || nix::sys::ptrace::traceme().map_err(std::io::Error::from);
    // SAFETY: one system call, nothing that needs a lock or memory.
    unsafe { command.pre_exec(trace) };
}

/// The serial number of this process's session keyring.
pub fn session_keyring() -> Option<i64> {
    let (get, session) = (libc::KEYCTL_GET_KEYRING_ID, libc::KEY_SPEC_SESSION_KEYRING);
    // SAFETY: numbers only.
    let serial = unsafe { libc::syscall(libc::SYS_keyctl, get, session, 0) };
    (serial >= 0).then_some(serial)
}
