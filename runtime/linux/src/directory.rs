//! Directories by descriptor, getdents64(2): in one buffer of a fixed size, however long they are.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// One of what a directory holds.
pub struct DirEntry<'a> {
    /// Its name.
    pub name: &'a CStr,
    /// Its inode's number.
    pub inode: u64,
    /// Whether it is a directory, as far as the file system says so.
    pub is_dir: bool,
}

/// Shows everything but `.` and `..`, from the beginning, until `look` has found something. There is nothing in a directory
/// that was removed.
///
/// # Errors
/// Those of lseek(2) and getdents64(2).
pub fn find<T>(
    dir: BorrowedFd<'_>,
    mut look: impl FnMut(DirEntry<'_>) -> Option<T>,
) -> Result<Option<T>, Errno> {
    // Of `struct linux_dirent64`: the inode at 0, the entry's length at 16, the kind at 18, the name from 19 on.
    const NAME: usize = 19;
    lseek(dir, 0, Whence::SeekSet)?;
    let mut buffer = [0u8; 8192];
    loop {
        // SAFETY: pointer and length describe `buffer`, to which the kernel writes.
        let n = unsafe {
            libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
        };
        let mut rest = match Errno::result(n) {
            // It was removed since it was opened, and so is empty (fs/readdir.c, IS_DEADDIR).
            Err(Errno::ENOENT) => return Ok(None),
            other => &buffer[..other? as usize],
        };
        if rest.is_empty() {
            return Ok(None);
        }
        while let Some((inode, _)) = rest.split_first_chunk::<8>() {
            let length = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
            let (entry, next) = rest.split_at(length);
            rest = next;
            let name = CStr::from_bytes_until_nul(&entry[NAME..]).map_err(|_| Errno::EINVAL)?;
            if name == c"." || name == c".." {
                continue;
            }
            let (inode, is_dir) = (u64::from_ne_bytes(*inode), entry[18] == libc::DT_DIR);
            if let Some(found) = look(DirEntry { name, inode, is_dir }) {
                return Ok(Some(found));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::fd::AsFd;

    #[test]
    fn there_is_nothing_in_a_directory_that_was_removed() {
        let path = std::env::temp_dir().join(format!("ampoule-removed-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let dir = std::fs::File::open(&path).unwrap();
        std::fs::remove_dir(&path).unwrap();
        assert_eq!(find(dir.as_fd(), |entry| Some(entry.is_dir)), Ok(None));
    }

    #[test]
    fn every_entry_is_shown_once_with_its_kind() {
        let path = std::env::temp_dir().join(format!("ampoule-directory-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        // More than one buffer holds.
        for n in 0..500 {
            std::fs::create_dir(path.join(format!("{n:060}"))).unwrap();
        }
        std::fs::write(path.join("file"), "").unwrap();
        let dir = std::fs::File::open(&path).unwrap();
        for _ in 0..2 {
            let mut names = BTreeSet::new();
            let none = find::<()>(dir.as_fd(), |entry| {
                assert_eq!(entry.is_dir, entry.name != c"file");
                assert!(names.insert(entry.name.to_owned()));
                None
            });
            assert_eq!((none, names.len()), (Ok(None), 501));
        }
        assert_eq!(find(dir.as_fd(), |entry| (!entry.is_dir).then_some(7)), Ok(Some(7)));
        std::fs::remove_dir_all(path).unwrap();
    }
}
