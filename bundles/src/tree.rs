//! The directory that an image is unpacked into. Every path of the image is opened here, as it resolves with this
//! directory as `/`, and so none leads out of it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{FileStat, Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// A root directory.
pub struct Tree(OwnedFd);

/// A name as an archive has it: no `..`, nothing empty, relative to the root. Empty for the root itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inner(PathBuf);

impl Inner {
    /// Absolute names mean the same as relative ones: some builders write them.
    ///
    /// # Errors
    /// A `..` in it, which no builder has reason to write.
    pub fn new(name: &[u8]) -> Result<Inner> {
        let parts = name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
        let mut path = PathBuf::new();
        for part in parts {
            ensure!(part != b"..", "there is a .. in it");
            ensure!(!part.contains(&0), "there is a zero byte in it");
            path.push(OsStr::from_bytes(part));
        }
        Ok(Inner(path))
    }

    /// The directory that it is in, and its last name; None for the root.
    pub fn split(&self) -> Option<(Inner, &OsStr)> {
        Some((Inner(self.0.parent()?.to_owned()), self.0.file_name()?))
    }

    /// That name in this directory.
    pub fn join(&self, name: &OsStr) -> Inner {
        Inner(self.0.join(name))
    }

    /// Whether it is that, or below it.
    pub fn is_within(&self, other: &Inner) -> bool {
        self.0.starts_with(&other.0)
    }

    fn text(&self) -> &Path {
        if self.0.as_os_str().is_empty() { Path::new(".") } else { &self.0 }
    }
}

impl std::fmt::Display for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}", self.0.display())
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Tree {
    /// The directory at a path of the host's.
    pub fn open(path: &Path) -> Result<Tree> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Tree(open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))?))
    }

    /// Opens what is there, following symbolic links as they look from inside.
    pub fn find(&self, path: &Inner, flags: OFlag) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        loop {
            // Somebody renamed something on the host meanwhile.
            match openat2(&self.0, path.text(), how) {
                Err(Errno::EAGAIN) => {}
                other => return other,
            }
        }
    }

    /// A directory, made with its parents (mode 0755) if need be; each counts as one of those that are `left`.
    pub fn directory(&self, path: &Inner, left: &mut u64) -> Result<OwnedFd> {
        match self.find(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT) => {}
            other => return other.with_context(|| format!("open {path}")),
        }
        let (parent, name) = path.split().context("the root is gone")?;
        let parent = self.directory(&parent, left)?;
        spend(left)?;
        match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
            // A symbolic link that leads nowhere; opening tells.
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(e).with_context(|| format!("mkdir {path}")),
        }
        self.find(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY).with_context(|| format!("open {path}"))
    }
}

/// Takes one off what is left of the entries that an image may have.
pub fn spend(left: &mut u64) -> Result<()> {
    *left = left.checked_sub(1).context("the image has more entries than allowed")?;
    Ok(())
}

/// What has that name in a directory; a symbolic link is itself.
pub fn stat(dir: impl AsFd, name: &OsStr) -> Result<Option<FileStat>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(e).context("fstatat"),
    }
}

/// Removes what has that name in a directory, with all below it. A name that isn't there is none to remove.
pub fn remove(dir: impl AsFd, name: &OsStr) -> Result<()> {
    match unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => match fs::remove_dir_all(path_of(&dir, name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).context("remove"),
            _ => Ok(()),
        },
        Err(e) => Err(e).context("unlink"),
    }
}

/// The names in a directory.
pub fn names(dir: impl AsFd) -> Result<Vec<OsString>> {
    let mut dir = nix::dir::Dir::openat(dir, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// A path of the host's to a name in a directory, for calls that take no descriptor. No symbolic link is followed on
/// the way: what comes before the name is a descriptor.
pub fn path_of(dir: impl AsFd, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_fd().as_raw_fd().to_string()).join(name)
}

/// A file's text, at most `limit` bytes of it; empty when there is none.
///
/// # Errors
/// It is there, but is no file or can't be read.
pub fn text(tree: &Tree, path: &str, limit: u64) -> Result<String> {
    use std::io::Read;
    // A fifo in place of the file would not block: nobody waits for a writer with O_NONBLOCK.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let file = match tree.find(&Inner::new(path.as_bytes())?, flags) {
        Ok(file) => fs::File::from(file),
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
        Err(e) => return Err(e).with_context(|| format!("open {path}")),
    };
    if !file.metadata()?.is_file() {
        bail!("{path} is not a file");
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).with_context(|| format!("read {path}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
