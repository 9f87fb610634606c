//! Everything that can be seen of a directory tree, as lines to compare: modes, owners, times, contents, attributes.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What is below a directory, itself included: a line for each path.
pub fn snapshot(root: &Path) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let kind = metadata.file_type();
        let mut hasher = DefaultHasher::new();
        if kind.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if kind.is_symlink() {
            hasher.write(fs::read_link(&path).unwrap().as_os_str().as_bytes());
        } else if kind.is_file() {
            hasher.write(&fs::read(&path).unwrap());
        }
        // A directory's size and links are its file system's own affair.
        let (size, links) = if kind.is_dir() { (0, 0) } else { (metadata.size(), metadata.nlink()) };
        let device = if kind.is_char_device() || kind.is_block_device() { metadata.rdev() } else { 0 };
        let line = format!(
            "mode {:o} owner {}:{} time {}.{:09} size {size} links {links} device {device} content {:x} attributes {}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            hasher.finish(),
            attributes(&path),
        );
        seen.insert(path.strip_prefix(root).unwrap().display().to_string(), line);
    }
    seen
}

/// As getfattr(1) would say it, sorted.
fn attributes(path: &Path) -> String {
    let mut all: Vec<String> = xattr::list(path)
        .into_iter()
        .flatten()
        .map(|name| {
            let value = xattr::get(path, &name).ok().flatten().unwrap_or_default();
            format!("{}={}", name.display(), String::from_utf8_lossy(&value))
        })
        .collect();
    all.sort();
    all.join(",")
}
