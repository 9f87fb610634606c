//! The handle on the container's root: every path of the container is opened here, and cannot leave it.
//!
//! Whoever else writes to the root filesystem may exchange a directory that something is mounted on for another one, at any
//! moment. So what lies below a mount of ours is looked up from that mount's own handle, and once the root is entered it is
//! checked that the path still leads there.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat, mknodat, stat};
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use super::restrictions::Restriction;
use crate::plan::path::ContainerPath;
use crate::plan::step::Entry;
use crate::sys::path::{
    RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, mount_id, openat2,
};

/// The root directory, and what has been mounted in it.
pub(super) struct Root {
    dir: OwnedFd,
    /// The last mount on each path, by its path beneath the root.
    mounts: BTreeMap<String, Mounted>,
    /// How many there were.
    count: usize,
    /// Restrictions with no mount of ours above them.
    unanchored: Vec<(ContainerPath, Restriction)>,
}

struct Mounted {
    mount: OwnedFd,
    /// A later one may hide those before it.
    order: usize,
    /// Something was restricted below it.
    restricted: bool,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Root {
    pub(super) fn new(dir: OwnedFd) -> Root {
        Root { dir, mounts: BTreeMap::new(), count: 0, unanchored: Vec::new() }
    }

    /// Opens a path as it resolves with this directory as `/`.
    pub(super) fn open(&self, path: &ContainerPath, flags: OFlag) -> Result<OwnedFd, Errno> {
        self.open_text(path.beneath(), flags)
    }

    fn open_text(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        if let Some((above, rest)) = self.above(path) {
            let mount = self.mounts[above].mount.as_fd();
            // A mount of one file has nothing beneath it.
            if rest == "." && flags == OFlag::O_PATH {
                return mount
                    .try_clone_to_owned()
                    .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or_default()));
            }
            let resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
            match openat2(mount, rest, flags.bits(), 0, resolve) {
                // A link in it leads out of it, so it starts at the root. Procfs, sysfs and devpts have none.
                Err(Errno::EXDEV) => {}
                other => return other,
            }
        }
        let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | strictness(path);
        openat2(self.as_fd(), path, flags.bits(), 0, resolve)
    }

    /// The path of the mount of ours that a path leads through or to (the last one, for that hides the others), and the
    /// rest of the path.
    fn above<'p>(&self, path: &'p str) -> Option<(&'p str, &'p str)> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let mounted = ends.filter_map(|end| Some((end, self.mounts.get(&path[..end])?.order)));
        let (end, _) = mounted.max_by_key(|(_, order)| *order)?;
        let rest = path[end..].trim_start_matches('/');
        Some((&path[..end], if rest.is_empty() { "." } else { rest }))
    }

    /// Remembers what has been mounted on a path.
    pub(super) fn mounted(&mut self, path: &ContainerPath, mount: OwnedFd) {
        self.count += 1;
        let mounted = Mounted { mount, order: self.count, restricted: false };
        self.mounts.insert(path.beneath().to_owned(), mounted);
    }

    /// Whether something has been mounted on that very path.
    pub(super) fn has_mount(&self, path: &ContainerPath) -> bool {
        self.mounts.contains_key(path.beneath())
    }

    /// A handle on what is there, for mounting on it.
    pub(super) fn find(&self, path: &ContainerPath) -> Result<OwnedFd, Errno> {
        self.open(path, OFlag::O_PATH)
    }

    /// A handle on what is to be restricted. None: there is nothing.
    pub(super) fn find_restricted(
        &mut self,
        path: &ContainerPath,
        how: Restriction,
    ) -> Result<Option<OwnedFd>> {
        match self.above(path.beneath()) {
            Some((above, _)) => {
                self.mounts.entry(above.to_owned()).and_modify(|mounted| mounted.restricted = true);
            }
            None => self.unanchored.push((path.clone(), how)),
        }
        match self.find(path) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            found => found.map(Some).with_context(|| format!("open {path}")),
        }
    }

    /// Whether what was found at a path is this very directory, as it is through a link to `/`.
    pub(super) fn is(&self, path: &ContainerPath, found: &OwnedFd) -> Result<bool> {
        Ok(self.above(path.beneath()).is_none()
            && same(&fstat(found)?, &fstat(self)?)
            && mount_id(found.as_fd())? == mount_id(self.as_fd())?)
    }

    /// A handle on the directory to mount on, made if need be.
    pub(super) fn make_mount_point(&self, path: &ContainerPath) -> Result<OwnedFd> {
        let target = self.make_directory(path)?;
        if self.is(path, &target)? {
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
        chdir("/").context("chdir /")?;
        self.verify()
    }

    /// What was restricted has to be what the container will find: by now its own paths are the process's.
    fn verify(&self) -> Result<()> {
        for (path, mounted) in self.mounts.iter().filter(|(_, mounted)| mounted.restricted) {
            match stat(format!("/{path}").as_str()) {
                // Hidden together with a directory above.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Ok(there) if same(&there, &fstat(&mounted.mount)?) => {}
                Ok(_) => bail!("/{path} was exchanged for something else since it was mounted"),
                Err(e) => return Err(e).with_context(|| format!("stat /{path}")),
            }
        }
        for (path, how) in &self.unanchored {
            if !how.holds(path)? {
                bail!("{path} was exchanged for something else since it was made {how}");
            }
        }
        Ok(())
    }
}

/// Opens a file of the container's to be read. It has to be a regular one: a FIFO would have us wait for its other end, and
/// a device may do anything. `flags` says whether a link is followed.
pub(super) fn open_regular<P: NixPath + ?Sized>(dir: impl AsFd, path: &P, flags: OFlag) -> Result<OwnedFd> {
    let flags = flags | OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = openat(dir, path, flags, Mode::empty()).context("open")?;
    if fstat(&file).context("fstat")?.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        bail!("it is no regular file");
    }
    Ok(file)
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
