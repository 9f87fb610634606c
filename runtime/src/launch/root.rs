//! The handle on the container's root: every path of the container is opened here, and cannot leave it.
//!
//! Whoever else writes to the root filesystem may exchange the directory that a procfs, a sysfs or /dev is mounted on for one
//! that looks like it, at any moment. So what lies below such a mount is looked up from the mount's own handle, and once the
//! root is entered it is checked that the path still leads there.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use linux::mount::attach;
use linux::path::{
    RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, mount_id, openat2,
};
use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat, mknodat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use super::restrictions::Restriction;
use crate::plan::path::ContainerPath;
use crate::plan::step::RootEntry;

/// The root directory, and what has to be as it was once it is entered.
pub(super) struct Root {
    dir: OwnedFd,
    /// The mounts of procfs, of sysfs and on /dev, by their paths beneath the root.
    anchors: BTreeMap<String, Anchor>,
    /// Restrictions that are on none of these.
    others: Vec<(ContainerPath, Restriction)>,
}

struct Anchor {
    /// The mount at its path: that one, or the last that was mounted over it.
    mount: OwnedFd,
    id: u64,
    /// Something was looked up below it.
    used: Cell<bool>,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Root {
    pub(super) fn new(dir: OwnedFd) -> Root {
        Root { dir, anchors: BTreeMap::new(), others: Vec::new() }
    }

    /// Opens a path as it resolves with this directory as `/`.
    pub(super) fn open(&self, path: &ContainerPath, flags: OFlag) -> Result<OwnedFd, Errno> {
        self.open_text(path.beneath(), flags)
    }

    fn open_text(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        if let Some(found) = self.open_anchored(path, flags) {
            return found;
        }
        let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | strictness(path);
        openat2(self.as_fd(), path, flags.bits(), 0, resolve)
    }

    /// None: the path leads through no anchor, or out of it.
    fn open_anchored(&self, path: &str, flags: OFlag) -> Option<Result<OwnedFd, Errno>> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let (end, anchor) = ends.rev().find_map(|end| Some((end, self.anchors.get(&path[..end])?)))?;
        let rest = path[end..].trim_start_matches('/');
        let rest = if rest.is_empty() { "." } else { rest };
        let resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
        match openat2(anchor.mount.as_fd(), rest, flags.bits(), 0, resolve) {
            // A link out of what is mounted there, or a mount of one file.
            Err(Errno::EXDEV) => None,
            Err(Errno::ENOTDIR) if rest == "." => None,
            found => {
                anchor.used.set(true);
                Some(found)
            }
        }
    }

    /// A handle on what is there, for mounting on it.
    pub(super) fn find(&self, path: &ContainerPath) -> Result<OwnedFd, Errno> {
        self.open(path, OFlag::O_PATH)
    }

    /// Attaches a mount to what was opened at a path, and remembers it if it is to be an anchor.
    pub(super) fn attach(&mut self, path: &ContainerPath, mount: &OwnedFd, target: &OwnedFd) -> Result<()> {
        attach(mount, target).context("move_mount")?;
        self.attached(path, mount, target)
    }

    /// The same of one that is attached already.
    pub(super) fn attached(&mut self, path: &ContainerPath, mount: &OwnedFd, target: &OwnedFd) -> Result<()> {
        self.covered(mount, target)?;
        let is_kernels = || {
            let kind = fstatfs(mount).context("fstatfs")?.filesystem_type();
            Ok::<_, anyhow::Error>(kind == PROC_SUPER_MAGIC || kind == SYSFS_MAGIC)
        };
        if path.as_str() == "/dev" || is_kernels()? {
            let (mount, id) = (mount.try_clone()?, mount_id(mount.as_fd())?);
            self.anchors.insert(path.beneath().to_owned(), Anchor { mount, id, used: Cell::default() });
        }
        Ok(())
    }

    /// Remembers a mount that may be above an anchor, by whatever path that was reached.
    pub(super) fn covered(&mut self, mount: &OwnedFd, target: &OwnedFd) -> Result<()> {
        if self.anchors.is_empty() {
            return Ok(());
        }
        let (below, there) = (mount_id(target.as_fd())?, fstat(target)?);
        for anchor in self.anchors.values_mut().filter(|anchor| anchor.id == below) {
            if same(&there, &fstat(&anchor.mount)?) {
                (anchor.mount, anchor.id) = (mount.try_clone()?, mount_id(mount.as_fd())?);
            }
        }
        Ok(())
    }

    /// A handle on what is to be restricted. None: there is nothing.
    pub(super) fn find_restricted(
        &mut self,
        path: &ContainerPath,
        how: Restriction,
    ) -> Result<Option<OwnedFd>> {
        let found = self.open_anchored(path.beneath(), OFlag::O_PATH).unwrap_or_else(|| {
            self.others.push((path.clone(), how));
            self.find(path)
        });
        match found {
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            found => found.map(Some).with_context(|| format!("open {path}")),
        }
    }

    /// Whether what was found is this very directory, as it is through a link to `/`.
    pub(super) fn is(&self, found: &OwnedFd) -> Result<bool> {
        Ok(same(&fstat(found)?, &fstat(self)?) && mount_id(found.as_fd())? == mount_id(self.as_fd())?)
    }

    /// A handle on the directory to mount on, made if need be.
    pub(super) fn make_mount_point(&self, path: &ContainerPath) -> Result<OwnedFd> {
        let target = self.make_directory(path)?;
        if self.is(&target)? {
            bail!("{path} leads to /, where a mount would be without effect");
        }
        Ok(target)
    }

    /// A handle on the directory, made with its parents (mode 0755) if need be.
    pub(super) fn make_directory(&self, path: &ContainerPath) -> Result<OwnedFd> {
        self.make_directory_text(path.beneath())
    }

    fn make_directory_text(&self, path: &str) -> Result<OwnedFd> {
        match self.open_text(path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
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
        self.open_text(path, OFlag::O_PATH | OFlag::O_DIRECTORY).with_context(|| refusal(path))
    }

    /// A handle on the file, made empty with its parents if need be. Nothing is opened to be read: it may be a FIFO.
    pub(super) fn make_file(&self, path: &ContainerPath) -> Result<OwnedFd> {
        match self.find(path) {
            Err(Errno::ENOENT) => {}
            other => return other.with_context(|| refusal(path.beneath())),
        }
        let (parent, name) = path.beneath().rsplit_once('/').unwrap_or((".", path.beneath()));
        let parent = self.make_directory_text(parent)?;
        match mknodat(&parent, name, SFlag::S_IFREG, Mode::from_bits_truncate(0o755), 0) {
            // As above.
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(e).with_context(|| format!("create {path}")),
        }
        self.find(path).with_context(|| refusal(path.beneath()))
    }

    /// Makes it the root of this process.
    pub(super) fn enter(&self, how: RootEntry) -> Result<()> {
        fchdir(self).context("fchdir")?;
        match how {
            RootEntry::PivotRoot => {
                // Old and new root end up stacked in one place, so no directory for the old one is needed
                // (pivot_root(2), "pivot_root(".", ".")").
                pivot_root(".", ".").context("pivot_root (a root in an initramfs needs --no-pivot)")?;
                umount2(".", MntFlags::MNT_DETACH).context("umount2 of the old root")?;
            }
            RootEntry::Chroot => chroot(".").context("chroot")?,
        }
        chdir("/").context("chdir /")?;
        self.verify()
    }

    /// What was restricted has to be what the container will find: by now its own paths are the process's.
    fn verify(&self) -> Result<()> {
        for (path, anchor) in self.anchors.iter().filter(|(_, anchor)| anchor.used.get()) {
            let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
            match open(format!("/{path}").as_str(), flags, Mode::empty()) {
                // Hidden together with a directory above.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Ok(there) if mount_id(there.as_fd())? == anchor.id => {}
                Ok(_) => bail!("/{path} was exchanged for something else since it was mounted"),
                Err(e) => return Err(e).with_context(|| format!("open /{path}")),
            }
        }
        for (path, how) in &self.others {
            if !how.holds(path)? {
                bail!("{path} was exchanged for something else since it was made {how}");
            }
        }
        Ok(())
    }
}

/// Opens a file of the container's to be read. None: it is no regular one. A FIFO would have us wait for its other end, and a
/// device may do anything. `flags` says whether a link is followed.
pub(super) fn open_regular<P: NixPath + ?Sized>(
    dir: impl AsFd,
    path: &P,
    flags: OFlag,
) -> Result<Option<OwnedFd>, Errno> {
    let flags = flags | OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = openat(dir, path, flags, Mode::empty())?;
    let is_regular = fstat(&file)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits();
    Ok(is_regular.then_some(file))
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

fn same(a: &FileStat, b: &FileStat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
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
