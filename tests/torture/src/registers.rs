//! System calls in a traced process's registers, by what this architecture calls them.

use nix::errno::Errno;
use nix::unistd::Pid;

/// Whether this architecture's are known here.
pub const ARE_KNOWN: bool = cfg!(target_arch = "x86_64");

/// At a call's entry: its number.
#[cfg(target_arch = "x86_64")]
pub fn call(pid: Pid) -> Result<i64, Errno> {
    Ok(nix::sys::ptrace::getregs(pid)?.orig_rax as i64)
}

/// At a call's entry: makes it none at all.
#[cfg(target_arch = "x86_64")]
pub fn skip_call(pid: Pid) -> Result<(), Errno> {
    let mut registers = nix::sys::ptrace::getregs(pid)?;
    registers.orig_rax = u64::MAX;
    nix::sys::ptrace::setregs(pid, registers)
}

/// At a call's exit: has it give an error.
#[cfg(target_arch = "x86_64")]
pub fn give(pid: Pid, errno: Errno) -> Result<(), Errno> {
    let mut registers = nix::sys::ptrace::getregs(pid)?;
    registers.rax = -(errno as i64) as u64;
    nix::sys::ptrace::setregs(pid, registers)
}

#[cfg(not(target_arch = "x86_64"))]
pub use unknown::{call, give, skip_call};

/// Never called: see [`ARE_KNOWN`].
#[cfg(not(target_arch = "x86_64"))]
mod unknown {
    use super::{Errno, Pid};

    /// At a call's entry: its number.
    pub fn call(_: Pid) -> Result<i64, Errno> {
        Err(Errno::ENOSYS)
    }

    /// At a call's entry: makes it none at all.
    pub fn skip_call(_: Pid) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }

    /// At a call's exit: has it give an error.
    pub fn give(_: Pid, _: Errno) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
}
