//! A layer's changes, carried out on a directory (image-spec, layer.md).
//!
//! Directories get their owner, mode and times when all else is done: what is made in them would change the times, and
//! an ordinary user could no longer write to one that is read-only.

mod bound;
mod meta;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, futimens, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{fchown, fchownat, linkat, symlinkat};
use tar::{Entry, EntryType};

use crate::tree::{self, Inner, Tree};
use bound::Bound;
use meta::Meta;

/// What marks a name as removed (layer.md#whiteouts).
const WHITEOUT: &[u8] = b".wh.";
/// A directory with this in it has nothing of the layers below.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Bytes that are copied at once.
const BUFFER: usize = 256 << 10;
/// Attributes that are this host's business, not the image's; umoci leaves out the same.
const HOSTS_OWN: [&str; 2] = ["security.selinux", "system.nfs4_acl"];

/// How much may come out of an image, however small it is.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Files, directories and all else.
    pub entries: u64,
    /// Bytes in files.
    pub bytes: u64,
}

/// A directory that layers are applied to, from the bottom up.
pub struct Target<'t> {
    tree: &'t Tree,
    left: Limits,
    /// Who is not root owns everything, and makes no devices.
    privileged: bool,
    /// What an ordinary user could not make.
    pub skipped: u64,
    buffer: Vec<u8>,
}

/// What is known while one layer is applied.
#[derive(Default)]
struct Layer {
    /// What this layer has, which its own whiteouts don't mean.
    here: BTreeSet<Inner>,
    /// Its directories.
    directories: BTreeMap<Inner, Meta>,
    /// The times of directories that something was made in, as they were.
    touched: BTreeMap<Inner, (TimeSpec, TimeSpec)>,
    /// The directory of the entry before: most follow each other.
    parent: Option<(Inner, OwnedFd)>,
}

impl<'t> Target<'t> {
    /// An empty directory, or one that the layers below were applied to.
    pub fn new(tree: &'t Tree, limits: Limits) -> Self {
        let privileged = nix::unistd::geteuid().is_root();
        Target { tree, left: limits, privileged, skipped: 0, buffer: vec![0; BUFFER] }
    }

    /// What the layers that follow may still have.
    pub fn left(&self) -> Limits {
        self.left
    }

    /// Applies a layer.
    ///
    /// # Errors
    /// The entry, and what is wrong with it.
    pub fn apply(&mut self, archive: &mut dyn Read) -> Result<()> {
        let mut layer = Layer::default();
        let bound = Bound::default();
        let mut archive = tar::Archive::new(bound.on(archive));
        for entry in archive.entries()? {
            let mut entry = entry.context("read the archive")?;
            bound.lift();
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            self.entry(&mut layer, &mut entry).with_context(|| format!("entry {name:?}"))?;
            bound.set(&entry).with_context(|| format!("entry {name:?}"))?;
        }
        self.finish(layer)
    }

    fn entry(&mut self, layer: &mut Layer, entry: &mut Entry<'_, impl Read>) -> Result<()> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        tree::spend(&mut self.left.entries)?;
        let path = Inner::new(&entry.path_bytes())?;
        let Some((parent, name)) = path.split() else {
            ensure!(kind.is_dir(), "the root must be a directory");
            layer.directories.insert(path, Meta::of(entry)?);
            return Ok(());
        };
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.whiteout(layer, &parent, name, OsStr::from_bytes(hidden));
        }
        let meta = Meta::of(entry)?;
        self.enter(layer, &parent)?;
        let (_, dir) = layer.parent.as_ref().context("it was opened above")?;
        let replaced = match kind.is_dir() {
            true => self.directory(dir, name)?,
            false => self.make(dir, name, kind, entry, &meta)?,
        };
        if replaced {
            // The directory of the entry before may have been in it.
            layer.parent = None;
            forget(&mut layer.directories, &path);
        }
        if kind.is_dir() {
            layer.directories.insert(path.clone(), meta);
        }
        layer.here.insert(path);
        Ok(())
    }

    /// Opens the directory that comes next, unless it is the one before.
    fn enter(&mut self, layer: &mut Layer, parent: &Inner) -> Result<()> {
        if layer.parent.as_ref().is_some_and(|(last, _)| last == parent) {
            return Ok(());
        }
        let dir = self.tree.directory(parent, &mut self.left.entries)?;
        if !layer.touched.contains_key(parent) {
            layer.touched.insert(parent.clone(), times(&fstat(&dir)?));
        }
        layer.parent = Some((parent.clone(), dir));
        Ok(())
    }

    /// Makes a directory, unless one is there; true when something else was in its place.
    fn directory(&self, dir: &OwnedFd, name: &OsStr) -> Result<bool> {
        let there = tree::stat(dir, name)?;
        if there.as_ref().is_some_and(is_directory) {
            self.clear_attributes(dir, name)?;
            return Ok(false);
        }
        if there.is_some() {
            tree::remove(dir, name)?;
        }
        mkdirat(dir, name, Mode::S_IRWXU).context("mkdir")?;
        Ok(there.is_some())
    }

    /// Makes anything but a directory; true when something was in its place.
    fn make(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        kind: EntryType,
        entry: &mut Entry<'_, impl Read>,
        meta: &Meta,
    ) -> Result<bool> {
        let replaced = tree::stat(dir, name)?.is_some();
        if replaced {
            tree::remove(dir, name)?;
        }
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(dir, name, entry, meta)?;
            }
            EntryType::Symlink => {
                let to = entry.link_name_bytes().context("it leads nowhere")?;
                symlinkat(OsStr::from_bytes(&to), dir, name).context("symlink")?;
                self.describe(dir, name, meta, false)?;
            }
            EntryType::Link => {
                let to = entry.link_name_bytes().context("it leads nowhere")?;
                self.link(dir, name, &Inner::new(&to).context("its target")?)?;
            }
            EntryType::Fifo => {
                mknodat(dir, name, SFlag::S_IFIFO, meta.mode, 0).context("mkfifo")?;
                self.describe(dir, name, meta, true)?;
            }
            EntryType::Char | EntryType::Block if !self.privileged => self.skipped += 1,
            EntryType::Char | EntryType::Block => {
                let header = entry.header();
                let number =
                    |number: std::io::Result<Option<u32>>| Ok::<_, anyhow::Error>(number?.unwrap_or(0));
                let device = nix::sys::stat::makedev(
                    number(header.device_major())?.into(),
                    number(header.device_minor())?.into(),
                );
                let kind = if kind == EntryType::Char { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
                mknodat(dir, name, kind, meta.mode, device).context("mknod")?;
                self.describe(dir, name, meta, true)?;
            }
            other => bail!("unsupported type {:?}", char::from(other.as_byte())),
        }
        Ok(replaced)
    }

    fn file(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        entry: &mut Entry<'_, impl Read>,
        meta: &Meta,
    ) -> Result<()> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).context("create")?);
        loop {
            let read = entry.read(&mut self.buffer).context("read the archive")?;
            if read == 0 {
                break;
            }
            self.left.bytes = self
                .left
                .bytes
                .checked_sub(read as u64)
                .context("the image unpacks to more bytes than allowed")?;
            file.write_all(&self.buffer[..read]).context("write")?;
        }
        if self.privileged {
            fchown(&file, Some(meta.owner), Some(meta.group)).context("chown")?;
        }
        self.set_attributes(dir, name, meta)?;
        // After the owner, whose change takes the bits of set-user-ID away.
        fchmod(&file, meta.mode).context("chmod")?;
        futimens(&file, &meta.accessed, &meta.modified).context("set its times")
    }

    fn link(&self, dir: &OwnedFd, name: &OsStr, to: &Inner) -> Result<()> {
        let (parent, last) = to.split().context("it links to the root")?;
        let parent = self.tree.find(&parent, OFlag::O_PATH | OFlag::O_DIRECTORY);
        let linked = parent.and_then(|parent| linkat(&parent, last, dir, name, AtFlags::empty()));
        linked.with_context(|| format!("link to {to}"))
    }

    /// Owner, mode, attributes and times of what is no file.
    fn describe(&self, dir: &OwnedFd, name: &OsStr, meta: &Meta, has_mode: bool) -> Result<()> {
        if self.privileged {
            fchownat(dir, name, Some(meta.owner), Some(meta.group), AtFlags::AT_SYMLINK_NOFOLLOW)
                .context("chown")?;
        }
        self.set_attributes(dir, name, meta)?;
        if has_mode {
            let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
            nix::sys::stat::fchmodat(dir, name, meta.mode, follow).context("chmod")?;
        }
        utimensat(dir, name, &meta.accessed, &meta.modified, UtimensatFlags::NoFollowSymlink)
            .context("set its times")
    }

    fn set_attributes(&self, dir: &OwnedFd, name: &OsStr, meta: &Meta) -> Result<()> {
        for (key, value) in &meta.attributes {
            if HOSTS_OWN.iter().any(|own| key == own) {
                continue;
            }
            match xattr::set(tree::path_of(dir, name), key, value) {
                // This file system has none of that kind; or the user has no right to it.
                Err(e) if e.raw_os_error() == Some(Errno::ENOTSUP as i32) => {}
                Err(e) if e.raw_os_error() == Some(Errno::EPERM as i32) && !self.privileged => {}
                set => set.with_context(|| format!("set the attribute {}", key.display()))?,
            }
        }
        Ok(())
    }

    /// An older layer's directory has none but the attributes of the newest one that has it.
    fn clear_attributes(&self, dir: &OwnedFd, name: &OsStr) -> Result<()> {
        let path = tree::path_of(dir, name);
        let keys = match xattr::list(&path) {
            Err(e) if e.raw_os_error() == Some(Errno::ENOTSUP as i32) => return Ok(()),
            other => other.context("list its attributes")?,
        };
        for key in keys.filter(|key| !HOSTS_OWN.iter().any(|own| key == own)) {
            match xattr::remove(&path, &key) {
                // The user has no right to it.
                Err(e) if e.raw_os_error() == Some(Errno::EPERM as i32) && !self.privileged => {}
                other => other.with_context(|| format!("remove the attribute {}", key.display()))?,
            }
        }
        Ok(())
    }

    fn whiteout(&mut self, layer: &mut Layer, parent: &Inner, name: &OsStr, hidden: &OsStr) -> Result<()> {
        let dir = match self.tree.find(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Ok(dir) => dir,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            Err(e) => return Err(e).with_context(|| format!("open {parent}")),
        };
        layer.touched.entry(parent.clone()).or_insert(times(&fstat(&dir)?));
        if name.as_bytes() == OPAQUE {
            return clear(&dir, parent, &layer.here);
        }
        // What aufs kept for itself.
        if hidden.as_bytes().starts_with(WHITEOUT) {
            return Ok(());
        }
        ensure!(!matches!(hidden.as_bytes(), b"" | b"." | b".."), "it removes nothing that has a name");
        if !has(&layer.here, &parent.join(hidden)) {
            tree::remove(&dir, hidden)?;
            layer.parent = None;
        }
        Ok(())
    }

    fn finish(&self, layer: Layer) -> Result<()> {
        for (path, (accessed, modified)) in &layer.touched {
            if let Some(dir) = self.still_there(path)? {
                futimens(&dir, accessed, modified).with_context(|| format!("set the times of {path}"))?;
            }
        }
        // What is further in comes first: its own directory may be closed to an ordinary user by then.
        for (path, meta) in layer.directories.iter().rev() {
            let Some(dir) = self.still_there(path)? else { continue };
            self.describe_directory(&dir, meta).with_context(|| format!("directory {path}"))?;
        }
        Ok(())
    }

    /// A directory, unless it has been removed since, or something else was put in its place.
    fn still_there(&self, path: &Inner) -> Result<Option<OwnedFd>> {
        match self.tree.find(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            other => other.map(Some).with_context(|| format!("open {path}")),
        }
    }

    fn describe_directory(&self, dir: &OwnedFd, meta: &Meta) -> Result<()> {
        if self.privileged {
            fchown(dir, Some(meta.owner), Some(meta.group)).context("chown")?;
        }
        self.set_attributes(dir, OsStr::new("."), meta)?;
        fchmod(dir, meta.mode).context("chmod")?;
        futimens(dir, &meta.accessed, &meta.modified).context("set its times")
    }
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec))
}

fn is_directory(stat: &FileStat) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()
}

/// Whether the layer has that, or something below it.
fn has(here: &BTreeSet<Inner>, path: &Inner) -> bool {
    here.range(path..).next().is_some_and(|next| next.is_within(path))
}

/// Removes what a directory has of the layers below.
fn clear(dir: &OwnedFd, path: &Inner, here: &BTreeSet<Inner>) -> Result<()> {
    for name in tree::names(dir)? {
        let below = path.join(&name);
        if !has(here, &below) {
            tree::remove(dir, &name).with_context(|| format!("remove {below}"))?;
        } else if tree::stat(dir, &name)?.is_some_and(|stat| is_directory(&stat)) {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let dir = openat(dir, name.as_os_str(), flags, Mode::empty())
                .with_context(|| format!("open {below}"))?;
            clear(&dir, &below, here)?;
        }
    }
    Ok(())
}

/// Forgets a directory that something else took the place of, and those in it.
fn forget(directories: &mut BTreeMap<Inner, Meta>, path: &Inner) {
    let gone: Vec<Inner> = directories
        .range(path..)
        .map(|(key, _)| key)
        .take_while(|key| key.is_within(path))
        .cloned()
        .collect();
    for key in gone {
        directories.remove(&key);
    }
}
