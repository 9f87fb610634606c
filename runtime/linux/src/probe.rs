//! Asking the kernel whether it knows a system call or a flag of it, without doing anything.
//!
//! Each probe passes arguments that a kernel with the feature refuses in one way and a kernel without it in another.
#![allow(unsafe_code)]

use nix::errno::Errno;

/// Higher than any open descriptor can be, and still a number that the kernel looks up.
const NO_SUCH_FD: u64 = i32::MAX as u64;

/// A system call that `check` asks for.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub enum Call {
    Clone3,
    PidfdOpen,
    PidfdSendSignal,
    OpenTree,
    MountSetattr,
    Openat2,
    CloseRange,
}

/// Whether the kernel has the call, and nothing (such as a seccomp filter) takes it away. No right is needed to ask:
/// these calls look at their flags or sizes first.
pub fn has_call(call: Call) -> bool {
    let number = match call {
        Call::Clone3 => libc::SYS_clone3,
        Call::PidfdOpen => libc::SYS_pidfd_open,
        Call::PidfdSendSignal => libc::SYS_pidfd_send_signal,
        Call::OpenTree => libc::SYS_open_tree,
        Call::MountSetattr => libc::SYS_mount_setattr,
        Call::Openat2 => libc::SYS_openat2,
        Call::CloseRange => libc::SYS_close_range,
    };
    // SAFETY: all-ones is for each of these calls a bad address, a bad descriptor or an unknown flag, so each returns
    // an error before it reads memory or changes anything (close_range refuses the flags, clone3 the size).
    let answer = unsafe { libc::syscall(number, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64) };
    answer >= 0 || !matches!(Errno::last(), Errno::ENOSYS | Errno::EPERM)
}

/// Whether clone3 can start a process inside a v2 cgroup (CLONE_INTO_CGROUP, Linux 5.7).
pub fn can_clone_into_cgroup() -> bool {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // `struct clone_args` of Linux 5.7; the last word is the cgroup.
    let args: [u64; 11] = [CLONE_INTO_CGROUP, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0, 0, 0, NO_SUCH_FD];
    // SAFETY: `args` is alive during the call and as long as it is told. No process can come of it: without the
    // feature the flag is refused, with it the descriptor. Should one come all the same, it ends before it touches
    // anything of ours.
    let answer = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    if answer == 0 {
        // SAFETY: ends the unexpected child at once.
        unsafe { libc::_exit(0) };
    }
    answer > 0 || Errno::last() == Errno::EBADF
}

/// Whether mounts can map ids (MOUNT_ATTR_IDMAP, Linux 5.12); `None` without the right to ask.
pub fn can_map_mount_ids() -> Option<bool> {
    const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    // `struct mount_attr`: set, clear, propagation, user namespace.
    let attr: [u64; 4] = [MOUNT_ATTR_IDMAP, 0, 0, NO_SUCH_FD];
    // SAFETY: `attr` and the path are alive during the call and as long as they are told. The descriptor of the user
    // namespace is looked up before the mount is, and is refused, so no mount is changed.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            0,
            &raw const attr,
            size_of_val(&attr),
        )
    };
    match Errno::result(answer) {
        Err(Errno::EPERM) => None,
        result => Some(result == Err(Errno::EBADF)),
    }
}
