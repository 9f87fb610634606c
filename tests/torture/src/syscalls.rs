//! System calls by number: their names, and the errors of their manual pages that a sound program may meet.
//!
//! Left out is what only a bug of the caller's gives (EBADF, EFAULT, EINVAL), what would be a lie about another process
//! (EPIPE and ECONNRESET of one that listens), and what never fails.

use nix::errno::Errno::{self, *};

/// Number, name, errors.
type Syscall = (i64, &'static str, &'static [Errno]);

const OPEN: &[Errno] = &[EMFILE, ENFILE, ENOMEM, EIO, EACCES];
const LOOK: &[Errno] = &[ENOMEM, EIO, EACCES];
const MAKE: &[Errno] = &[ENOSPC, ENOMEM, EIO, EROFS];
const DESCRIPTOR: &[Errno] = &[EMFILE, ENFILE, ENOMEM];
const MEMORY: &[Errno] = &[ENOMEM];
const REFUSED: &[Errno] = &[EPERM];
const MOUNT: &[Errno] = &[ENOMEM, EPERM];
const WAIT: &[Errno] = &[EINTR];

/// Those that the programs make.
const CALLS: &[Syscall] = &[
    (libc::SYS_read, "read", &[EIO, EINTR]),
    (libc::SYS_write, "write", &[EIO, ENOSPC, EINTR]),
    (libc::SYS_readv, "readv", &[EIO, EINTR]),
    (libc::SYS_writev, "writev", &[EIO, ENOSPC, EINTR]),
    (libc::SYS_pread64, "pread64", &[EIO, EINTR]),
    (libc::SYS_close, "close", &[EIO, EINTR]),
    (libc::SYS_fstat, "fstat", &[ENOMEM, EIO]),
    (libc::SYS_newfstatat, "newfstatat", LOOK),
    (libc::SYS_statx, "statx", LOOK),
    (libc::SYS_statfs, "statfs", LOOK),
    (libc::SYS_fstatfs, "fstatfs", &[ENOMEM, EIO]),
    (libc::SYS_openat, "openat", OPEN),
    (libc::SYS_openat2, "openat2", OPEN),
    (libc::SYS_readlinkat, "readlinkat", LOOK),
    (libc::SYS_faccessat, "faccessat", LOOK),
    (libc::SYS_getdents64, "getdents64", &[ENOMEM, EIO]),
    (libc::SYS_getcwd, "getcwd", &[ENOMEM, ENOENT]),
    (libc::SYS_mkdirat, "mkdirat", MAKE),
    (libc::SYS_mknodat, "mknodat", MAKE),
    (libc::SYS_symlinkat, "symlinkat", MAKE),
    (libc::SYS_linkat, "linkat", MAKE),
    (libc::SYS_unlinkat, "unlinkat", &[EIO, EROFS, EBUSY]),
    (libc::SYS_renameat, "renameat", MAKE),
    (libc::SYS_renameat2, "renameat2", MAKE),
    (libc::SYS_ftruncate, "ftruncate", &[EIO, ENOSPC]),
    (libc::SYS_fchmod, "fchmod", &[EIO, EROFS, EPERM]),
    (libc::SYS_fchmodat, "fchmodat", &[EIO, EROFS, EPERM]),
    (libc::SYS_fchown, "fchown", &[EIO, EROFS, EPERM]),
    (libc::SYS_fchownat, "fchownat", &[EIO, EROFS, EPERM]),
    (libc::SYS_fsync, "fsync", &[EIO, ENOSPC]),
    (libc::SYS_flock, "flock", &[ENOLCK, EINTR]),
    (libc::SYS_fcntl, "fcntl", &[EMFILE, ENOMEM]),
    (libc::SYS_dup, "dup", &[EMFILE]),
    (libc::SYS_dup3, "dup3", &[EBUSY, EINTR]),
    (libc::SYS_pipe2, "pipe2", DESCRIPTOR),
    (libc::SYS_memfd_create, "memfd_create", DESCRIPTOR),
    (libc::SYS_epoll_create1, "epoll_create1", DESCRIPTOR),
    (libc::SYS_epoll_ctl, "epoll_ctl", &[ENOMEM, ENOSPC]),
    (libc::SYS_epoll_pwait, "epoll_pwait", WAIT),
    (libc::SYS_inotify_init1, "inotify_init1", DESCRIPTOR),
    (libc::SYS_inotify_add_watch, "inotify_add_watch", &[ENOMEM, ENOSPC]),
    (libc::SYS_eventfd2, "eventfd2", DESCRIPTOR),
    (libc::SYS_signalfd4, "signalfd4", DESCRIPTOR),
    (libc::SYS_timerfd_create, "timerfd_create", DESCRIPTOR),
    (libc::SYS_ioctl, "ioctl", &[EIO, ENOMEM, EPERM]),
    (libc::SYS_socket, "socket", DESCRIPTOR),
    (libc::SYS_socketpair, "socketpair", DESCRIPTOR),
    (libc::SYS_bind, "bind", &[ENOMEM, EROFS, EADDRINUSE]),
    (libc::SYS_listen, "listen", &[EADDRINUSE]),
    (libc::SYS_accept4, "accept4", &[EMFILE, ENFILE, ENOMEM, EINTR, ECONNABORTED]),
    (libc::SYS_connect, "connect", &[EACCES, EAGAIN, EINTR]),
    (libc::SYS_sendmsg, "sendmsg", &[ENOMEM, ENOBUFS, EINTR]),
    (libc::SYS_sendto, "sendto", &[ENOMEM, ENOBUFS, EINTR]),
    (libc::SYS_recvmsg, "recvmsg", &[ENOMEM, EINTR]),
    (libc::SYS_recvfrom, "recvfrom", &[ENOMEM, EINTR]),
    (libc::SYS_setsockopt, "setsockopt", MEMORY),
    (libc::SYS_mmap, "mmap", MEMORY),
    (libc::SYS_mprotect, "mprotect", MEMORY),
    (libc::SYS_mremap, "mremap", MEMORY),
    (libc::SYS_madvise, "madvise", MEMORY),
    (libc::SYS_clone, "clone", &[EAGAIN, ENOMEM]),
    (libc::SYS_clone3, "clone3", &[EAGAIN, ENOMEM, EPERM]),
    (libc::SYS_execve, "execve", &[ENOMEM, EACCES, EIO]),
    (libc::SYS_execveat, "execveat", &[ENOMEM, EACCES, EIO]),
    (libc::SYS_wait4, "wait4", WAIT),
    (libc::SYS_waitid, "waitid", WAIT),
    (libc::SYS_ppoll, "ppoll", &[EINTR, ENOMEM]),
    (libc::SYS_kill, "kill", REFUSED),
    (libc::SYS_pidfd_open, "pidfd_open", DESCRIPTOR),
    (libc::SYS_pidfd_send_signal, "pidfd_send_signal", REFUSED),
    (libc::SYS_setns, "setns", MOUNT),
    (libc::SYS_unshare, "unshare", MOUNT),
    (libc::SYS_setuid, "setuid", &[EAGAIN, EPERM]),
    (libc::SYS_setgid, "setgid", REFUSED),
    (libc::SYS_setresuid, "setresuid", &[EAGAIN, EPERM]),
    (libc::SYS_setresgid, "setresgid", REFUSED),
    (libc::SYS_setgroups, "setgroups", MOUNT),
    (libc::SYS_setsid, "setsid", REFUSED),
    // What it refuses is to look at another process.
    (libc::SYS_capget, "capget", &[]),
    (libc::SYS_capset, "capset", REFUSED),
    (libc::SYS_prctl, "prctl", &[EPERM, EINVAL]),
    (libc::SYS_seccomp, "seccomp", MEMORY),
    (libc::SYS_keyctl, "keyctl", &[EDQUOT, ENOMEM, EACCES]),
    (libc::SYS_prlimit64, "prlimit64", REFUSED),
    (libc::SYS_setpriority, "setpriority", REFUSED),
    (libc::SYS_sethostname, "sethostname", REFUSED),
    (libc::SYS_setdomainname, "setdomainname", REFUSED),
    (libc::SYS_chdir, "chdir", LOOK),
    (libc::SYS_fchdir, "fchdir", &[EACCES, EIO]),
    (libc::SYS_chroot, "chroot", LOOK),
    (libc::SYS_pivot_root, "pivot_root", REFUSED),
    (libc::SYS_mount, "mount", MOUNT),
    (libc::SYS_umount2, "umount2", &[EBUSY, ENOMEM, EPERM]),
    (libc::SYS_open_tree, "open_tree", &[EMFILE, ENFILE, ENOMEM, EPERM]),
    (libc::SYS_move_mount, "move_mount", MOUNT),
    (libc::SYS_fsopen, "fsopen", &[EMFILE, ENFILE, ENOMEM, EPERM]),
    (libc::SYS_fsconfig, "fsconfig", &[ENOMEM, EIO, EPERM]),
    (libc::SYS_fsmount, "fsmount", &[EMFILE, ENFILE, ENOMEM, EPERM]),
    (libc::SYS_fspick, "fspick", &[EMFILE, ENFILE, ENOMEM, EPERM]),
    (libc::SYS_mount_setattr, "mount_setattr", MOUNT),
    (libc::SYS_bpf, "bpf", &[ENOMEM, EPERM]),
    (libc::SYS_copy_file_range, "copy_file_range", &[EIO, ENOSPC]),
    (libc::SYS_sendfile, "sendfile", &[EIO, ENOMEM]),
];

/// Those that newer architectures don't have; musl uses them where they are.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[Syscall] = &[
    (libc::SYS_open, "open", OPEN),
    (libc::SYS_stat, "stat", LOOK),
    (libc::SYS_lstat, "lstat", LOOK),
    (libc::SYS_access, "access", LOOK),
    (libc::SYS_readlink, "readlink", LOOK),
    (libc::SYS_mkdir, "mkdir", MAKE),
    (libc::SYS_rmdir, "rmdir", &[EIO, EROFS, EBUSY]),
    (libc::SYS_unlink, "unlink", &[EIO, EROFS]),
    (libc::SYS_rename, "rename", MAKE),
    (libc::SYS_link, "link", MAKE),
    (libc::SYS_symlink, "symlink", MAKE),
    (libc::SYS_chmod, "chmod", &[EIO, EROFS, EPERM]),
    (libc::SYS_poll, "poll", &[EINTR, ENOMEM]),
    (libc::SYS_dup2, "dup2", &[EBUSY, EINTR]),
    (libc::SYS_pipe, "pipe", DESCRIPTOR),
    (libc::SYS_fork, "fork", &[EAGAIN, ENOMEM]),
    (libc::SYS_vfork, "vfork", &[EAGAIN, ENOMEM]),
    (libc::SYS_epoll_wait, "epoll_wait", WAIT),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[Syscall] = &[];

fn find(number: i64) -> Option<&'static Syscall> {
    CALLS.iter().chain(OLD_CALLS).find(|(n, ..)| *n == number)
}

/// The call's name, or its number.
pub fn name(number: i64) -> String {
    find(number).map_or_else(|| format!("call {number}"), |(_, name, _)| (*name).to_owned())
}

/// The errors that it may give.
pub fn errors(number: i64) -> &'static [Errno] {
    find(number).map_or(&[], |(.., errors)| errors)
}

/// Whether what it does is done even if it says that it failed: a descriptor is closed in any case (close(2), "Dealing
/// with error returns from close()").
pub fn is_done_anyway(number: i64) -> bool {
    number == libc::SYS_close
}

/// An error by its name.
pub fn errno(name: &str) -> Option<Errno> {
    let all = CALLS.iter().chain(OLD_CALLS).flat_map(|(.., errors)| errors.iter());
    all.copied().find(|errno| format!("{errno:?}") == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_call_stands_in_the_table_once() {
        let all: Vec<_> = CALLS.iter().chain(OLD_CALLS).collect();
        let numbers: BTreeSet<_> = all.iter().map(|(number, ..)| number).collect();
        let names: BTreeSet<_> = all.iter().map(|(_, name, _)| name).collect();
        assert_eq!((numbers.len(), names.len()), (all.len(), all.len()));
    }

    #[test]
    fn an_error_is_found_by_the_name_that_is_printed() {
        for (.., errors) in CALLS {
            assert!(errors.iter().all(|e| errno(&format!("{e:?}")) == Some(*e)));
        }
    }
}
