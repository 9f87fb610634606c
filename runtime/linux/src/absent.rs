//! What is not there. The one place where an error becomes "there is none": ENOENT says so, and no other errno does.

use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::path::Path;

use nix::errno::Errno;

/// An error that came of the kernel.
pub trait Cause {
    /// Its number.
    fn errno(&self) -> Errno;
}

impl Cause for Errno {
    fn errno(&self) -> Errno {
        *self
    }
}

impl Cause for io::Error {
    fn errno(&self) -> Errno {
        self.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
    }
}

/// None: it is not there.
///
/// # Errors
/// Whether it is there can't be told.
pub fn absent<T, E: Cause>(result: Result<T, E>) -> Result<Option<T>, E> {
    match result {
        Err(e) if e.errno() == Errno::ENOENT => Ok(None),
        other => other.map(Some),
    }
}

/// What stands at a path, links followed.
///
/// # Errors
/// As those of [`absent`].
pub fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    absent(fs::metadata(path))
}

/// Whether anything stands at a path.
///
/// # Errors
/// As those of [`absent`].
pub fn exists(path: &Path) -> io::Result<bool> {
    Ok(metadata(path)?.is_some())
}

/// Whether a directory stands at a path.
///
/// # Errors
/// As those of [`absent`].
pub fn is_dir(path: &Path) -> io::Result<bool> {
    Ok(metadata(path)?.is_some_and(|kind| kind.is_dir()))
}

/// All that is in a directory; nothing, if that is not there.
///
/// # Errors
/// It can't be read to its end.
pub fn entries(dir: &Path) -> io::Result<Vec<DirEntry>> {
    absent(fs::read_dir(dir))?.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_errno_means_absent() {
        assert_eq!(absent::<(), _>(Err(Errno::ENOENT)), Ok(None));
        for errno in [Errno::EIO, Errno::EMFILE, Errno::EACCES, Errno::ENOTDIR, Errno::ELOOP] {
            assert_eq!(absent::<(), _>(Err(errno)), Err(errno));
        }
        assert!(!exists(Path::new("/no/such/path")).unwrap());
        assert!(exists(Path::new("/proc/self/stat/below")).is_err());
        assert!(entries(Path::new("/no/such/path")).unwrap().is_empty());
        assert!(entries(Path::new("/proc/self/stat")).is_err());
    }
}
