//! The handle on the container's root: every path of the container is opened here, and cannot leave it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use crate::plan::path::ContainerPath;
use crate::plan::step::Entry;
use crate::sys::path::{RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2};

/// The root directory.
pub(super) struct Root(OwnedFd);

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Root {
    pub(super) fn new(dir: OwnedFd) -> Root {
        Root(dir)
    }

    /// Opens a path as it resolves with this directory as `/`.
    pub(super) fn open(&self, path: &ContainerPath, flags: OFlag) -> Result<OwnedFd, Errno> {
        self.open_text(path.beneath(), flags, 0)
    }

    fn open_text(&self, path: &str, flags: OFlag, mode: u32) -> Result<OwnedFd, Errno> {
        openat2(
            self.as_fd(),
            path,
            flags.bits(),
            mode,
            RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | strictness(path),
        )
    }

    /// A handle on what is there, for mounting on it.
    pub(super) fn find(&self, path: &ContainerPath) -> Result<OwnedFd, Errno> {
        self.open(path, OFlag::O_PATH)
    }

    /// A handle on the directory, made with its parents (mode 0755) if need be.
    pub(super) fn make_directory(&self, path: &ContainerPath) -> Result<OwnedFd> {
        self.make_directory_text(path.beneath())
    }

    fn make_directory_text(&self, path: &str) -> Result<OwnedFd> {
        match self.open_text(path, OFlag::O_PATH | OFlag::O_DIRECTORY, 0) {
            Err(Errno::ENOENT) => {}
            other => return other.with_context(|| refusal(path)),
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        let parent = self.make_directory_text(parent)?;
        match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
            // Made by somebody else since, or a symlink that leads nowhere: opening tells.
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(e).with_context(|| format!("mkdir /{path}")),
        }
        self.open_text(path, OFlag::O_PATH | OFlag::O_DIRECTORY, 0).with_context(|| refusal(path))
    }

    /// Makes it the root of this process.
    pub(super) fn enter(&self, how: Entry) -> Result<()> {
        fchdir(self).context("fchdir")?;
        match how {
            Entry::Pivot => {
                // Old and new root end up stacked in one place, so no directory for the old one is needed
                // (pivot_root(2), "pivot_root(".", ".")").
                pivot_root(".", ".").context("pivot_root (a root in an initramfs needs --no-pivot)")?;
                umount2(".", MntFlags::MNT_DETACH).context("umount2 of the old root")?;
            }
            Entry::Move | Entry::Chroot => chroot(".").context("chroot")?,
        }
        chdir("/").context("chdir /")
    }

    /// A handle on the file, made empty with its parents if need be.
    pub(super) fn make_file(&self, path: &ContainerPath) -> Result<OwnedFd> {
        match self.find(path) {
            Err(Errno::ENOENT) => {}
            other => return other.with_context(|| refusal(path.beneath())),
        }
        let (parent, _) = path.beneath().rsplit_once('/').unwrap_or((".", ""));
        self.make_directory_text(parent)?;
        self.open_text(path.beneath(), OFlag::O_CREAT | OFlag::O_RDONLY | OFlag::O_NOFOLLOW, 0o755)
            .with_context(|| format!("create {path}"))?;
        self.find(path).with_context(|| refusal(path.beneath()))
    }
}

/// The directory that the last node or link was made in: most are made in /dev, one after the other.
#[derive(Default)]
pub(super) struct Parent(Option<(String, OwnedFd)>);

impl Parent {
    /// A handle on a path's parent directory, made if need be, and the last name.
    pub(super) fn of<'p>(
        &mut self,
        root: &Root,
        path: &'p ContainerPath,
    ) -> Result<(BorrowedFd<'_>, &'p str)> {
        let (parent, name) = path.beneath().rsplit_once('/').unwrap_or((".", path.beneath()));
        if name == "." {
            bail!("/ is no place for it");
        }
        if self.0.as_ref().is_none_or(|(last, _)| last != parent) {
            self.0 = Some((parent.to_owned(), root.make_directory_text(parent)?));
        }
        let (_, dir) = self.0.as_ref().context("it was opened above")?;
        Ok((dir.as_fd(), name))
    }
}

/// An image that makes one of these a symlink wants the runtime to mount, or to write, elsewhere (CVE-2019-19921,
/// CVE-2023-27561).
fn strictness(path: &str) -> u64 {
    if matches!(path, "proc" | "sys" | "dev") { RESOLVE_NO_SYMLINKS } else { 0 }
}

fn refusal(path: &str) -> String {
    match strictness(path) {
        0 => format!("open /{path}"),
        _ => format!("open /{path}, which must be a directory and no symlink"),
    }
}
