//! Notices of v1 cgroups by eventfd(2) (Documentation/admin-guide/cgroup-v1/memory.rst, section 9).

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::stat::Mode;

use crate::kernfs;

/// Readable when there is a notice.
pub type Notices = EventFd;

/// Asks for notices about a file of a cgroup, until the descriptor is closed.
///
/// # Errors
/// Those of open(2), eventfd(2) and write(2).
pub fn listen(dir: &Path, file: &str) -> Result<Notices, Errno> {
    let notices = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let file = open(&dir.join(file), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let pair = format!("{} {}", notices.as_fd().as_raw_fd(), file.as_raw_fd());
    kernfs::write(&dir.join("cgroup.event_control"), &pair)?;
    Ok(notices)
}

/// How many notices have come since the last time.
///
/// # Errors
/// Those of read(2).
pub fn count(notices: &Notices) -> Result<u64, Errno> {
    match notices.read() {
        Err(Errno::EAGAIN) => Ok(0),
        other => other,
    }
}
