//! openat2(2): paths that cannot leave the directory that they start in.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::NixPath;
use nix::errno::Errno;

pub use libc::{
    RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV,
};

/// Hands `path` over as a C string. EINVAL when it holds a NUL byte.
pub(crate) fn with_path<P, T>(path: &P, call: impl FnOnce(&CStr) -> Result<T, Errno>) -> Result<T, Errno>
where
    P: NixPath + ?Sized,
{
    path.with_nix_path(call)?
}

/// Opens `path` starting at `dir`, resolving it as RESOLVE_* `resolve` says; `mode` is for O_CREAT. Linux 5.6.
///
/// # Errors
/// Those of openat2(2). EAGAIN, which a race with a rename gives, is tried again.
pub fn openat2<P: NixPath + ?Sized>(
    dir: BorrowedFd<'_>,
    path: &P,
    flags: libc::c_int,
    mode: u32,
    resolve: u64,
) -> Result<OwnedFd, Errno> {
    // SAFETY: all zero is a valid open_how.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = mode.into();
    how.resolve = resolve;
    with_path(path, |path| {
        for _ in 0..128 {
            // SAFETY: a C string, and a struct of the size that is told; both outlive the call.
            let fd = unsafe {
                libc::syscall(
                    libc::SYS_openat2,
                    dir.as_raw_fd(),
                    path.as_ptr(),
                    &raw const how,
                    size_of_val(&how),
                )
            };
            match Errno::result(fd) {
                Err(Errno::EAGAIN) => {}
                // SAFETY: the kernel returned a fresh descriptor that only we know.
                other => return other.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }),
            }
        }
        Err(Errno::EAGAIN)
    })
}

/// Which mount a handle is on: its number in /proc/PID/mountinfo. Linux 5.8.
///
/// # Errors
/// Those of statx(2).
pub fn mount_id(handle: BorrowedFd<'_>) -> Result<u64, Errno> {
    // SAFETY: all zero is a valid statx.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: an empty C string, and a statx to be written that outlives the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_statx,
            handle.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_MNT_ID,
            &raw mut stat,
        )
    };
    Errno::result(done).map(|_| stat.stx_mnt_id)
}

/// Changes the mode of what a handle leads to, also of one that was opened with O_PATH.
///
/// # Errors
/// Those of chmod(2).
pub fn change_mode(handle: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    // Linux 6.6; the same number on every architecture that Rust knows musl for.
    const FCHMODAT2: libc::c_long = 452;
    // SAFETY: a C string and integers.
    let done =
        unsafe { libc::syscall(FCHMODAT2, handle.as_raw_fd(), c"".as_ptr(), mode, libc::AT_EMPTY_PATH) };
    match Errno::result(done) {
        // EPERM: of a filter that doesn't know it. What may really not be changed is told by the other call, too.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let magic = format!("/proc/self/fd/{}", handle.as_raw_fd());
            with_path(magic.as_str(), |path| {
                // SAFETY: a C string that lives across the call.
                Errno::result(unsafe { libc::chmod(path.as_ptr(), mode) }).map(drop)
            })
        }
        other => other.map(drop),
    }
}
