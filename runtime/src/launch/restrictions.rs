//! In the new process: read-only and masked paths.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use linux::mount::{Filesystem, attach, clone_tree};
use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag, fstat, stat};
use nix::sys::statfs::TMPFS_MAGIC;
use nix::sys::statvfs::FsFlags;

use super::mounts::{self, change, set};
use super::root::Root;
use crate::plan::Attributes;
use crate::plan::path::ContainerPath;
use crate::plan::step::Parameter;

/// What is taken from the container at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Restriction {
    Readonly,
    Masked,
}

impl fmt::Display for Restriction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Restriction::Readonly => "read-only",
            Restriction::Masked => "masked",
        })
    }
}

impl Restriction {
    /// Whether it is in force at a path of this process's. Where nothing is there is nothing to be taken.
    pub(super) fn holds(self, path: &ContainerPath) -> Result<bool> {
        let path = path.as_str();
        let there = match stat(path) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(true),
            there => there.with_context(|| format!("stat {path}"))?,
        };
        if is_null(&there) {
            return Ok(true);
        }
        let on = nix::sys::statfs::statfs(path).with_context(|| format!("statfs {path}"))?;
        Ok(on.flags().contains(FsFlags::ST_RDONLY)
            && (self == Restriction::Readonly || on.filesystem_type() == TMPFS_MAGIC))
    }
}

/// Binds the path on itself, read-only with all below. What the root does not have needs no protection.
pub(super) fn readonly(root: &mut Root, path: &ContainerPath) -> Result<()> {
    let Some(target) = root.find_restricted(path, Restriction::Readonly)? else { return Ok(()) };
    if root.is(&target)? {
        // A bind over it would be above all that starts at "/".
        return change(root.as_fd(), &Attributes::readonly(true));
    }
    let tree = clone_tree(target.as_fd(), "", true).context("open_tree")?;
    change(tree.as_fd(), &Attributes::readonly(true))?;
    attach(&tree, &target).context("move_mount")?;
    root.covered(&tree, &target)
}

/// What hides masked paths. One read-only mount of each serves all: each of its own would add up.
#[derive(Default)]
pub(super) struct Masks {
    directory: Option<OwnedFd>,
    file: Option<OwnedFd>,
}

impl Masks {
    pub(super) fn hide(
        &mut self,
        root: &mut Root,
        path: &ContainerPath,
        label: Option<&Parameter>,
    ) -> Result<()> {
        let Some(target) = root.find_restricted(path, Restriction::Masked)? else { return Ok(()) };
        if root.is(&target)? {
            bail!("it leads to /, which can't be masked");
        }
        let kind = fstat(&target).with_context(|| format!("fstat {path}"))?.st_mode & SFlag::S_IFMT.bits();
        let is_directory = kind == SFlag::S_IFDIR.bits();
        let pattern = if is_directory { &mut self.directory } else { &mut self.file };
        // Only a mount that is attached can be cloned before Linux 6.15, so the first one is the pattern.
        let mask = match pattern {
            Some(first) => clone_tree(first.as_fd(), "", false).context("open_tree")?,
            None if is_directory => empty_directory(label)?,
            None => null()?,
        };
        attach(&mask, &target).context("move_mount")?;
        root.covered(&mask, &target)?;
        pattern.get_or_insert(mask);
        Ok(())
    }
}

fn empty_directory(label: Option<&Parameter>) -> Result<OwnedFd> {
    let fs = Filesystem::open(c"tmpfs").context("fsopen tmpfs")?;
    fs.set(c"nr_blocks", c"1").and_then(|()| fs.set(c"nr_inodes", c"1")).context("fsconfig tmpfs")?;
    if let Some(label) = label {
        set(&fs, label)?;
    }
    let guards = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    fs.mount(guards | libc::MOUNT_ATTR_NOEXEC).context("fsmount tmpfs")
}

/// The host's /dev/null, once it is sure to be that (CVE-2025-31133).
fn null() -> Result<OwnedFd> {
    let null = mounts::clone_device(Path::new("/dev/null"), true)?;
    if !is_null(&fstat(&null).context("fstat /dev/null")?) {
        bail!("/dev/null of the host is not the null device");
    }
    Ok(null)
}

fn is_null(stat: &FileStat) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits() && stat.st_rdev == libc::makedev(1, 3)
}
