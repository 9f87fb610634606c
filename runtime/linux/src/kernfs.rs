//! The small files of the kernel's own filesystems (procfs, sysfs, cgroups): read whole, written in one call.
//!
//! std's readers ask for a size first, and these files have none.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{read as read_fd, write as write_fd};

/// The text of a file; bytes that are no UTF-8 are replaced.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn read(path: &Path) -> Result<String, Errno> {
    read_at(AT_FDCWD, path)
}

/// The same of a file of a directory.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn read_at(dir: impl AsFd, path: &Path) -> Result<String, Errno> {
    take(openat(dir, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// The same of a file that is open.
///
/// # Errors
/// Those of read(2).
pub fn take(file: OwnedFd) -> Result<String, Errno> {
    // Most are shorter than this, and what is read need not be kept with room to spare.
    let mut part = [0; 4096];
    let mut bytes = Vec::new();
    loop {
        match read_fd(&file, &mut part) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&part[..n]),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// Opens a file that is there, for writing.
///
/// # Errors
/// Those of open(2).
pub fn open(path: &Path) -> Result<OwnedFd, Errno> {
    open_at(AT_FDCWD, path)
}

/// The same of a file of a directory.
///
/// # Errors
/// Those of open(2).
pub fn open_at(dir: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    openat(dir, path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Writes a value into a file that is there.
///
/// # Errors
/// Those of open(2) and write(2).
pub fn write(path: &Path, value: &str) -> Result<(), Errno> {
    put(open(path)?, value)
}

/// Writes one value.
///
/// # Errors
/// Those of write(2).
pub fn put(file: impl AsFd, value: &str) -> Result<(), Errno> {
    // v1's memory limits reclaim while they are written, and that can be interrupted.
    loop {
        match write_fd(&file, value.as_bytes()) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}
