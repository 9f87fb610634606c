//! A tree as an image layer: an uncompressed tar archive that depends on nothing but names, modes and contents.

use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// The layer of a directory's contents, or of one file as `/NAME`.
pub fn of(tree: &Path) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    if fs::metadata(tree)?.is_dir() {
        add_directory(&mut tar, tree, Path::new(""))?;
    } else {
        // A single file comes from a build, whose umask must not matter.
        let mode = if fs::metadata(tree)?.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        add(&mut tar, tree, Path::new(tree.file_name().context("it has no name")?), mode)?;
    }
    Ok(tar.into_inner()?)
}

/// Adds what is in a directory, by name: the order in which a file system lists it says nothing.
fn add_directory(tar: &mut Builder<Vec<u8>>, from: &Path, to: &Path) -> Result<()> {
    let mut names = fs::read_dir(from)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    names.sort();
    for name in names {
        let (from, to) = (from.join(&name), to.join(&name));
        let metadata = fs::symlink_metadata(&from)?;
        let mode = metadata.permissions().mode() & 0o7777;
        add(tar, &from, &to, mode).with_context(|| format!("/{}", to.display()))?;
        if metadata.is_dir() {
            add_directory(tar, &from, &to)?;
        }
    }
    Ok(())
}

fn add(tar: &mut Builder<Vec<u8>>, from: &Path, to: &Path, mode: u32) -> Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    let kind = metadata.file_type();
    let mut header = Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_mode(mode);
    header.set_size(0);
    if kind.is_dir() {
        header.set_entry_type(EntryType::Directory);
        tar.append_data(&mut header, to, std::io::empty())?;
    } else if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        tar.append_link(&mut header, to, fs::read_link(from)?)?;
    } else if kind.is_file() {
        let bytes = fs::read(from)?;
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, to, &bytes[..])?;
    } else {
        bail!("only files, directories and symbolic links can be packed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_does_not_depend_on_time_or_order() {
        let scratch = std::env::temp_dir().join(format!("ampoule-bundle-{}", std::process::id()));
        let make = |name: &str, files: &[&str]| {
            let tree = scratch.join(name);
            fs::create_dir_all(tree.join("dir")).unwrap();
            files.iter().for_each(|file| fs::write(tree.join(file), file).unwrap());
            std::os::unix::fs::symlink("dir/b", tree.join("link")).unwrap();
            of(&tree).unwrap()
        };
        let one = make("one", &["a", "dir/b"]);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let other = make("other", &["dir/b", "a"]);
        let _ = fs::remove_dir_all(&scratch);
        assert_eq!(one, other);
        let names: Vec<_> = tar::Archive::new(&one[..])
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["a", "dir", "dir/b", "link"]);
    }

    #[test]
    fn what_is_no_file_is_refused_by_name() {
        let error = of(Path::new("/dev/null")).unwrap_err();
        assert!(format!("{error:#}").contains("only files"), "{error:#}");
    }
}
