//! The system calls that have no safe face in a library.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;

/// Rows and columns of the terminal on stdin; (0, 0) when there is none.
pub(crate) fn window_size() -> Result<(u16, u16), Errno> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` to the pointer, and `size` lives across the call.
    match Errno::result(unsafe { libc::ioctl(0, libc::TIOCGWINSZ, &raw mut size) }) {
        Ok(_) => Ok((size.ws_row, size.ws_col)),
        Err(Errno::ENOTTY) => Ok((0, 0)),
        Err(errno) => Err(errno),
    }
}

/// Clears MOUNT_ATTR_RDONLY of the mount that `path` lies on.
pub(crate) fn make_mount_writable(path: &std::ffi::CStr) -> Result<(), Errno> {
    let attr =
        libc::mount_attr { attr_set: 0, attr_clr: libc::MOUNT_ATTR_RDONLY, propagation: 0, userns_fd: 0 };
    let size = size_of_val(&attr);
    // SAFETY: a C string and a struct of the size that is told; both outlive the call.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, path.as_ptr(), 0, &raw const attr, size)
    };
    Errno::result(done).map(drop)
}

/// A copy of the mount that `path` lies on, as a descriptor that is never closed.
pub(crate) fn copy_mount(path: &std::ffi::CStr) -> Result<i64, Errno> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    // SAFETY: a C string that outlives the call.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), OPEN_TREE_CLONE)
    })
}
