//! Opening what a stream is made of.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// The null device, for reading and writing.
pub fn null() -> Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/null");
    Ok(file.context("open /dev/null")?.into())
}

/// Whether a descriptor is the null device.
pub fn is_null(fd: impl AsFd) -> bool {
    let device = |file: &File| file.metadata().map(|meta| meta.rdev());
    let fd = fd.as_fd().try_clone_to_owned().map(File::from);
    matches!(fd.and_then(|file| device(&file)), Ok(rdev) if rdev == nix::sys::stat::makedev(1, 3))
}

/// Opens a file for appending; it and its directory are made if they aren't there.
pub fn append(path: &Path) -> Result<OwnedFd> {
    let open = || OpenOptions::new().append(true).create(true).mode(0o644).open(path);
    let file = open().or_else(|e| match (e.kind(), path.parent()) {
        (std::io::ErrorKind::NotFound, Some(parent)) => fs::create_dir_all(parent).and_then(|()| open()),
        _ => Err(e),
    });
    Ok(file.with_context(|| format!("open {}", path.display()))?.into())
}

/// Opens both ends of a fifo without waiting for anybody: the reader first, for a writer alone is refused.
pub fn fifo(path: &str) -> Result<(OwnedFd, OwnedFd)> {
    let reader = self::path(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    if !File::from(reader.try_clone()?).metadata()?.file_type().is_fifo() {
        bail!("not a fifo");
    }
    Ok((reader, self::path(path, OFlag::O_WRONLY | OFlag::O_NONBLOCK)?))
}

/// Opens a path of a fifo.
pub fn path(path: &str, how: OFlag) -> Result<OwnedFd> {
    Ok(nix::fcntl::open(path, how | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())?)
}

pub fn set_nonblocking(fd: impl AsFd) -> Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}
