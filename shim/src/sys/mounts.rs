//! Attributes and owners of mounts, and devices for images in files.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ampoule::sys::wait::reap;
use nix::unistd::Pid;

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn checked(answer: i64) -> io::Result<i64> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Changes attributes of the mount at a path, mount_setattr(2), Linux 5.12: those that aren't named stay.
///
/// # Errors
/// Nothing is mounted there.
pub fn set_attributes(target: &Path, set: u64, clear: u64) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    let (path, size) = (c_path(target)?, size_of_val(&attr));
    // SAFETY: the kernel reads a path and `size` bytes of attributes, which outlive the call.
    let answer = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, path.as_ptr(), 0, &raw const attr, size)
    };
    checked(answer).map(drop)
}

/// A copy of the mount at a path, attached nowhere, with the owners of its files mapped as a user namespace says. Private:
/// what is mounted and unmounted below one of the two is no matter of the other's.
///
/// # Errors
/// EINVAL: the file system has no mapped mounts.
pub fn id_mapped(source: &Path, namespace: &OwnedFd) -> io::Result<OwnedFd> {
    let (path, flags) = (c_path(source)?, libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC);
    // SAFETY: the kernel reads a path, which outlives the call.
    let fd = checked(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let mount = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let userns_fd = namespace.as_raw_fd() as u64;
    let (attr_set, propagation) = (libc::MOUNT_ATTR_IDMAP, libc::MS_PRIVATE);
    let attr = libc::mount_attr { attr_set, attr_clr: 0, propagation, userns_fd };
    let (fd, flags, size) = (mount.as_raw_fd(), libc::AT_EMPTY_PATH, size_of_val(&attr));
    // SAFETY: the kernel reads an empty path and `size` bytes of attributes, which outlive the call.
    checked(unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, &raw const attr, size)
    })?;
    Ok(mount)
}

/// Attaches a mount to a path.
///
/// # Errors
/// There is no such directory.
pub fn attach(mount: &OwnedFd, target: &Path) -> io::Result<()> {
    let (fd, path, flags) = (mount.as_raw_fd(), c_path(target)?, libc::MOVE_MOUNT_F_EMPTY_PATH);
    // SAFETY: the kernel reads two paths, which outlive the call.
    let answer = unsafe {
        libc::syscall(libc::SYS_move_mount, fd, c"".as_ptr(), libc::AT_FDCWD, path.as_ptr(), flags)
    };
    checked(answer).map(drop)
}

/// A user namespace with these maps, `INSIDE:OUTSIDE:COUNT,…`. Somebody must be in it to have it made: a child of ours,
/// for a moment.
///
/// # Errors
/// A map that the kernel refuses.
pub fn user_namespace(users: &str, groups: &str) -> io::Result<OwnedFd> {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: without a stack of its own the child goes on with a copy of ours, as after fork(2). The shim has one
    // thread, and the child makes only calls that are safe there.
    let pid = checked(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })? as i32;
    if pid == 0 {
        loop {
            // SAFETY: prctl(2) and pause(2) touch no memory of ours.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::pause();
            }
        }
    }
    let write = |file: &str, map: &str| {
        fs::write(format!("/proc/{pid}/{file}"), map.replace(':', " ").replace(',', "\n"))
    };
    let made = write("uid_map", users)
        .and_then(|()| write("gid_map", groups))
        .and_then(|()| File::open(format!("/proc/{pid}/ns/user")));
    super::kill(pid, libc::SIGKILL)?;
    while reap(Some(Pid::from_raw(pid)))?.is_none() {
        std::thread::yield_now();
    }
    made.map(OwnedFd::from)
}

/// `struct loop_config` (linux/loop.h).
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    /// Device, inode and number; offset and limit in the file.
    place: [u64; 5],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    file_name: [u8; 64],
    rest: [u64; 14],
}

const LOOP_CTL_GET_FREE: u32 = 0x4c82;
/// Linux 5.8: with all of its settings at once.
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
/// It is free again when nobody has it open or mounted.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// How often somebody else may take the device that was free.
const TRIES: u32 = 100;

/// A block device for an image in a file, which is there as long as it is open or mounted.
///
/// # Errors
/// The image can't be opened, or there is no device.
pub fn loop_device(image: &Path, read_only: bool, direct: bool) -> io::Result<(PathBuf, File)> {
    let mut open = OpenOptions::new();
    open.read(true).write(!read_only);
    let file = open.open(image)?;
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    let mut last = io::Error::from(io::ErrorKind::ResourceBusy);
    for _ in 0..TRIES {
        // SAFETY: this ioctl(2) takes no argument.
        let number = checked(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) }.into())?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open.open(&path)?;
        match configure(&device, &file, image, [read_only, direct]) {
            Ok(()) => return Ok((path, device)),
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => last = e,
            Err(e) => return Err(e),
        }
    }
    Err(last)
}

fn configure(device: &File, file: &File, image: &Path, [read_only, direct]: [bool; 2]) -> io::Result<()> {
    let mut flags = LO_FLAGS_AUTOCLEAR;
    flags |= if read_only { LO_FLAGS_READ_ONLY } else { 0 };
    flags |= if direct { LO_FLAGS_DIRECT_IO } else { 0 };
    // What losetup(8) shows; the kernel wants an end.
    let mut file_name = [0; 64];
    file_name.iter_mut().zip(image.as_os_str().as_bytes().iter().take(63)).for_each(|(to, from)| *to = *from);
    let info = LoopInfo { place: [0; 5], number: 0, encryption: [0; 2], flags, file_name, rest: [0; 14] };
    let fd = file.as_fd().as_raw_fd() as u32;
    let config = LoopConfig { fd, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: this ioctl(2) reads a `struct loop_config`, which outlives the call.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) }.into())
        .map(drop)
}

// The kernel's sizes: 232 bytes, and 304.
const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);
