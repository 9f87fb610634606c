//! The mount API of Linux 5.2 and 5.12: mounts are made detached, changed by descriptor, attached last.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::NixPath;
use nix::errno::Errno;
use nix::sys::statfs::{FsType, statfs};

use crate::absent::absent;
use crate::path::with_path;

const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;

fn descriptor(returned: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = Errno::result(returned)?;
    // SAFETY: the kernel returned a fresh descriptor that only we know.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// A filesystem being configured, fsopen(2).
pub struct Filesystem(OwnedFd);

impl Filesystem {
    /// Starts configuring a filesystem of that type. ENODEV: the kernel has none.
    pub fn open(kind: &CStr) -> Result<Self, Errno> {
        // SAFETY: a C string that outlives the call.
        descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) }).map(Filesystem)
    }

    fn configure(&self, command: u32, key: Option<&CStr>, value: Option<&CStr>) -> Result<(), Errno> {
        let pointer = |s: Option<&CStr>| s.map_or(std::ptr::null(), CStr::as_ptr);
        let fd = self.0.as_raw_fd();
        // SAFETY: key and value are null or C strings that outlive the call.
        let done = unsafe { libc::syscall(libc::SYS_fsconfig, fd, command, pointer(key), pointer(value), 0) };
        Errno::result(done).map(drop)
    }

    /// Sets a parameter without value.
    pub fn flag(&self, key: &CStr) -> Result<(), Errno> {
        self.configure(FSCONFIG_SET_FLAG, Some(key), None)
    }

    /// Sets a parameter. The kernel takes at most 255 bytes of value.
    pub fn set(&self, key: &CStr, value: &CStr) -> Result<(), Errno> {
        self.configure(FSCONFIG_SET_STRING, Some(key), Some(value))
    }

    /// Makes the superblock and a detached mount of it with MOUNT_ATTR_* `attributes`.
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd, Errno> {
        self.configure(FSCONFIG_CMD_CREATE, None, None)?;
        let fd = self.0.as_raw_fd();
        // SAFETY: integers only.
        descriptor(unsafe { libc::syscall(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes) })
    }

    /// What the filesystem has to say about the last failure: "e tmpfs: Bad value for 'size'".
    pub fn log(&self) -> Option<String> {
        let mut text = [0u8; 256];
        let n = nix::unistd::read(&self.0, &mut text).ok()?;
        let line = String::from_utf8_lossy(&text[..n]);
        let line = line.trim_end();
        Some(line.strip_prefix("e ").unwrap_or(line).to_owned())
    }
}

/// A detached copy of the mount at `path` (beneath `dir`; empty for `dir` itself), with all below it if `recursive`.
pub fn clone_tree<P: NixPath + ?Sized>(
    dir: BorrowedFd<'_>,
    path: &P,
    recursive: bool,
) -> Result<OwnedFd, Errno> {
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_EMPTY_PATH as libc::c_uint;
    if recursive {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    with_path(path, |path| {
        // SAFETY: a C string that outlives the call.
        descriptor(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
    })
}

/// Whether a directory is the top of a file system of that kind, or lies in one. False, too, where there is none.
///
/// # Errors
/// Those of statfs(2) but for ENOENT.
pub fn is_on(dir: &Path, kind: FsType) -> Result<bool, Errno> {
    Ok(absent(statfs(dir))?.is_some_and(|found| found.filesystem_type() == kind))
}

/// Attaches a detached mount onto what `target` refers to.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let (from, to) = (mount.as_fd().as_raw_fd(), target.as_fd().as_raw_fd());
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: two empty C strings.
    let done = unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags) };
    Errno::result(done).map(drop)
}

/// Changes attributes and propagation of the mount that `mount` refers to, mount_setattr(2), Linux 5.12.
pub fn set_attributes(
    mount: impl AsFd,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> Result<(), Errno> {
    let attr = libc::mount_attr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 };
    set_attr(mount.as_fd(), &attr, recursive)
}

/// Has a detached mount show owners as the user namespace maps them (MOUNT_ATTR_IDMAP, Linux 5.12).
pub fn map_ids(mount: impl AsFd, namespace: impl AsFd, recursive: bool) -> Result<(), Errno> {
    let userns_fd = namespace.as_fd().as_raw_fd() as u64;
    let attr = libc::mount_attr { attr_set: MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    set_attr(mount.as_fd(), &attr, recursive)
}

fn set_attr(mount: BorrowedFd<'_>, attr: &libc::mount_attr, recursive: bool) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let fd = mount.as_raw_fd();
    // SAFETY: an empty C string, and a struct of the size that is told.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, &raw const *attr, size_of_val(attr))
    };
    Errno::result(done).map(drop)
}
