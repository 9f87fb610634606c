//! seccomp(2).
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

/// `struct sock_fprog` (linux/filter.h).
#[repr(C)]
struct Program {
    length: libc::c_ushort,
    instructions: *const u64,
}

/// Filters this thread's system calls from here on, by a program of one `struct sock_filter` a word. With `listener`
/// (Linux 5.0) the result is the descriptor at which its calls can be answered; it is close-on-exec.
///
/// # Errors
/// EACCES without no_new_privs and CAP_SYS_ADMIN; EINVAL for a program or a flag that this kernel doesn't know; EBUSY
/// when there is a listener already.
pub fn install(program: &[u64], flags: u32, listener: bool) -> nix::Result<Option<OwnedFd>> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = Program { length, instructions: program.as_ptr() };
    let new_listener = if listener { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    let flags = libc::c_ulong::from(flags) | new_listener;
    // SAFETY: the kernel reads as many instructions as the slice has, during the call only.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    let fd = Errno::result(done)?;
    // SAFETY: asked for a listener, the kernel answers with a fresh descriptor that only we know.
    Ok(listener.then(|| unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }))
}

/// Whether the kernel has filters at all: EFAULT, for there is no program, when it does; ENOSYS or EINVAL otherwise.
pub fn available() -> bool {
    probe(0) == Errno::EFAULT
}

/// Whether the kernel knows a flag (SECCOMP_FILTER_FLAG_*). Nothing is installed.
pub fn knows(flag: u32) -> bool {
    // It makes sense only along with a listener.
    let needs = if flag == libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32 {
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
    } else {
        0
    };
    probe(libc::c_ulong::from(flag) | needs) == Errno::EFAULT
}

fn probe(flags: libc::c_ulong) -> Errno {
    let nothing = std::ptr::null::<Program>();
    // SAFETY: flags are looked at first, and then the null pointer is refused.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, nothing) };
    Errno::last()
}
