//! tmpcopyup: what a directory holds is copied into the tmpfs that will cover it (config.md#linux-mount-options).

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::sendfile::sendfile;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::root::open_regular;

const HERE: AtFlags = AtFlags::AT_SYMLINK_NOFOLLOW;

/// Copies everything below `from` to `to`: kinds, contents, modes and owners, and those of the directory itself.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let mut dir = Dir::openat(from, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = fstatat(from, name, HERE)?;
        one(from, to, name, &stat).with_context(|| name.to_string_lossy().into_owned())?;
    }
    let stat = fstatat(from, ".", HERE)?;
    own(to, c".", &stat)
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &std::ffi::CStr, stat: &FileStat) -> Result<()> {
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    let flags = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    match kind {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::from_bits_truncate(0o700))?;
            let source = openat(from, name, flags | OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
            let target = openat(to, name, flags | OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
            return copy(source.as_fd(), target.as_fd());
        }
        SFlag::S_IFLNK => {
            symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?;
            fchownat(to, name, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)), HERE)?;
            return Ok(());
        }
        SFlag::S_IFREG => {
            let source = open_regular(from, name, flags)?.context("it is no regular file any more")?;
            let create = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            let target = openat(to, name, flags | create, Mode::from_bits_truncate(0o600))?;
            while sendfile(&target, &source, None, 1 << 20)? > 0 {}
        }
        kind => mknodat(to, name, kind, Mode::from_bits_truncate(0o600), stat.st_rdev)?,
    }
    own(to, name, stat)
}

fn own(dir: BorrowedFd<'_>, name: &std::ffi::CStr, stat: &FileStat) -> Result<()> {
    fchownat(dir, name, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)), HERE)?;
    // After the owner: chown(2) takes the set-id bits away.
    fchmodat(dir, name, Mode::from_bits_truncate(stat.st_mode & 0o7777), FchmodatFlags::FollowSymlink)?;
    Ok(())
}
