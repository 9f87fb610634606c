//! A cgroup and those inside, which the container may have made: deeper than a path can tell, than a stack goes, and
//! than there are descriptors. So one descriptor walks, down by a name and up by `..`, and remembers nothing of its way.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use linux::absent::absent;
use linux::directory;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// More often nobody's groups come and go under a walk, but one's who does it on purpose.
const PATIENCE: u32 = 1000;

/// Shows a group and each one inside to `visit`; those that go meanwhile are not missed, others may be seen twice.
///
/// # Errors
/// Those of `visit`; a directory that can't be read.
pub(super) fn each(top: &Path, visit: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
    let mut walk = || {
        let Some(mut cursor) = Cursor::at(top)? else { return Ok(()) };
        visit(cursor.dir.as_fd())?;
        cursor.visit_children(visit)?;
        let (mut behind, mut lost) = (None, 0);
        loop {
            match cursor.parent_behind(behind)? {
                Next::Child(name) => {
                    if cursor.down(&name)? {
                        cursor.visit_children(visit)?;
                        behind = None;
                    }
                }
                Next::None if cursor.depth == 0 => return Ok(()),
                Next::None => {
                    behind = cursor.up()?;
                    if behind.is_none() {
                        // What lay above went, too, with whoever removes the whole tree.
                        let Some(again) = Cursor::at(top)? else { return Ok(()) };
                        (cursor, lost) = (again, lost + 1);
                    }
                }
                Next::Lost => (behind, lost) = (None, lost + 1),
            }
            if lost > PATIENCE {
                bail!("its groups come and go all the time");
            }
        }
    };
    walk().with_context(|| top.display().to_string())
}

/// Removes all groups inside, the deepest first. False: there are processes in one, or more groups come all the time.
///
/// # Errors
/// The kernel refuses.
pub(super) fn remove_inside(top: &Path, end: Instant) -> Result<bool> {
    let walk = || {
        let Some(mut cursor) = Cursor::at(top)? else { return Ok(true) };
        // The group that we come from, in which there are no others.
        let mut left = None;
        while Instant::now() < end {
            match cursor.first_child()? {
                Some((name, inode)) => match unlinkat(&cursor.dir, &*name, UnlinkatFlags::RemoveDir) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(Errno::EBUSY) if left == Some(inode) => return Ok(false),
                    Err(Errno::EBUSY) => drop(cursor.down(&name)?),
                    Err(e) => return Err(e).with_context(|| format!("rmdir {}", name.to_string_lossy())),
                },
                None if cursor.depth == 0 => return Ok(true),
                None => {
                    left = cursor.up()?;
                    if left.is_none() {
                        let Some(again) = Cursor::at(top)? else { return Ok(true) };
                        cursor = again;
                    }
                }
            }
        }
        Ok(false)
    };
    walk().with_context(|| format!("remove what is in {}", top.display()))
}

/// Where a walk is.
struct Cursor {
    dir: OwnedFd,
    /// How far below its beginning.
    depth: usize,
}

enum Next {
    Child(CString),
    None,
    /// The one that it was to be behind is not there any more.
    Lost,
}

fn open(dir: BorrowedFd<'_>, name: &(impl nix::NixPath + ?Sized)) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    absent(openat(dir, name, flags, Mode::empty()))
}

/// Directory entries are what they say they are: a cgroup file system has no symbolic links. And each of its directories has
/// a link for its name, one for its dot, and one for each of its children's dots.
fn has_children(stat: &FileStat) -> bool {
    stat.st_nlink > 2
}

impl Cursor {
    fn at(top: &Path) -> Result<Option<Cursor>> {
        let dir = open(AT_FDCWD, top).context("open")?;
        Ok(dir.map(|dir| Cursor { dir, depth: 0 }))
    }

    /// False: it is gone.
    fn down(&mut self, name: &CStr) -> Result<bool> {
        let Some(dir) = open(self.dir.as_fd(), name).context("open one inside")? else { return Ok(false) };
        (self.dir, self.depth) = (dir, self.depth + 1);
        Ok(true)
    }

    /// The inode's number of where it was. None: the one above is gone.
    fn up(&mut self) -> Result<Option<u64>> {
        let inode = fstat(&self.dir).context("stat")?.st_ino;
        let Some(above) = open(self.dir.as_fd(), "..").context("open the one above")? else {
            return Ok(None);
        };
        (self.dir, self.depth) = (above, self.depth - 1);
        Ok(Some(inode))
    }

    fn first_child(&self) -> Result<Option<(CString, u64)>> {
        let first =
            |entry: directory::DirEntry<'_>| entry.is_dir.then(|| (entry.name.to_owned(), entry.inode));
        directory::find(self.dir.as_fd(), first).context("read")
    }

    fn visit_children(&self, visit: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
        if !has_children(&fstat(&self.dir).context("stat")?) {
            return Ok(());
        }
        let mut show = |name: &CStr| match open(self.dir.as_fd(), name).context("open one inside")? {
            Some(child) => visit(child.as_fd()),
            None => Ok(()),
        };
        let failed =
            directory::find(
                self.dir.as_fd(),
                |entry| {
                    if entry.is_dir { show(entry.name).err() } else { None }
                },
            );
        failed.context("read")?.map_or(Ok(()), Err)
    }

    /// The next that has children, behind the one with this inode.
    fn parent_behind(&self, inode: Option<u64>) -> Result<Next> {
        if !has_children(&fstat(&self.dir).context("stat")?) {
            return Ok(if inode.is_none() { Next::None } else { Next::Lost });
        }
        let mut is_behind = inode.is_none();
        let found = directory::find(self.dir.as_fd(), |entry| {
            if !entry.is_dir {
                return None;
            }
            if !is_behind {
                is_behind = inode == Some(entry.inode);
                return None;
            }
            match absent(fstatat(&self.dir, entry.name, AtFlags::AT_SYMLINK_NOFOLLOW)) {
                Ok(Some(stat)) if has_children(&stat) => Some(Ok(entry.name.to_owned())),
                Ok(_) => None,
                Err(e) => Some(Err(e)),
            }
        });
        Ok(match found.context("read")?.transpose().context("stat one inside")? {
            Some(name) => Next::Child(name),
            None if is_behind => Next::None,
            None => Next::Lost,
        })
    }
}
