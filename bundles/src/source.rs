//! Where an image is kept: an OCI layout (a directory), the same in a tar archive, or what `docker save` writes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use tar::EntryType;

/// No index, manifest or configuration is larger (containerd's own limit for manifests is 8 MiB).
const MAX_DOCUMENT: u64 = 8 << 20;
/// No archive of an image has more members than this.
const MAX_MEMBERS: usize = 100_000;

/// An image's files, by their names within the layout.
pub enum Source {
    /// A directory.
    Directory(PathBuf),
    /// An archive, whose table of contents was read once.
    Archive {
        /// The archive.
        file: Arc<File>,
        /// Where each file is.
        members: HashMap<PathBuf, Member>,
    },
}

/// A file in an archive.
pub enum Member {
    /// Its bytes.
    Bytes {
        /// From here on
        start: u64,
        /// so many.
        size: u64,
    },
    /// The same as another: docker before 25 saves a layer that it has twice as a link.
    Link(PathBuf),
}

impl Source {
    /// Opens a directory or an archive.
    ///
    /// # Errors
    /// It isn't there, or is no image.
    pub fn open(path: &Path) -> Result<Source> {
        let file = File::open(path).context("open")?;
        if file.metadata()?.is_dir() {
            let source = Source::Directory(path.to_owned());
            let is_there = source.file(Path::new("index.json")).context("index.json")?.is_some();
            ensure!(is_there, "there is no index.json in it: it is not an OCI image layout");
            return Ok(source);
        }
        let mut magic = [0; 4];
        // What is shorter, or can't be read, is so below.
        let _ = file.read_exact_at(&mut magic, 0);
        match magic {
            [0x1f, 0x8b, ..] => bail!("the archive as a whole is compressed; gunzip it first"),
            [0x28, 0xb5, 0x2f, 0xfd] => bail!("the archive as a whole is compressed; unzstd it first"),
            _ => {}
        }
        let members = contents(&file).context("it can't be read as a tar archive")?;
        Ok(Source::Archive { file: Arc::new(file), members })
    }

    /// A whole document; None when there is none of that name.
    pub fn document(&self, name: &Path) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 <= MAX_DOCUMENT, "it is larger than {} MiB", MAX_DOCUMENT >> 20);
        Ok(Some(bytes))
    }

    /// A file, to be read from its beginning; None when there is none of that name.
    pub fn file(&self, name: &Path) -> Result<Option<Box<dyn Read + Send>>> {
        match self {
            Source::Directory(dir) => {
                let path = dir.join(name);
                match fs::metadata(&path) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                    // Opening a fifo would wait for somebody to write.
                    found => ensure!(found?.is_file(), "it is not a file"),
                }
                Ok(Some(Box::new(File::open(path)?)))
            }
            Source::Archive { file, members } => {
                let mut name = name;
                // A chain of links longer than that is a ring.
                for _ in 0..8 {
                    match members.get(name) {
                        None => return Ok(None),
                        Some(Member::Link(other)) => name = other,
                        Some(Member::Bytes { start, size }) => {
                            let (from, to) = (*start, start + size);
                            return Ok(Some(Box::new(Section { file: file.clone(), from, to })));
                        }
                    }
                }
                bail!("it is a link that leads back to itself")
            }
        }
    }
}

/// The names of an archive's files and links, and where they are.
fn contents(file: &File) -> Result<HashMap<PathBuf, Member>> {
    let mut members = HashMap::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = within(&entry.path()?);
        let member = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                Member::Bytes { start: entry.raw_file_position(), size: entry.size() }
            }
            EntryType::Link => Member::Link(within(&entry.link_name()?.unwrap_or_default())),
            EntryType::Symlink => {
                let parent = name.parent().unwrap_or(Path::new(""));
                Member::Link(within(&parent.join(entry.link_name()?.unwrap_or_default())))
            }
            _ => continue,
        };
        members.insert(name, member);
        ensure!(members.len() <= MAX_MEMBERS, "it has more than {MAX_MEMBERS} files");
    }
    ensure!(!members.is_empty(), "there is nothing in it");
    // The last byte must be there: a member that is cut short says so only when it is read.
    let size = file.metadata()?.len();
    for (name, member) in &members {
        if let Member::Bytes { start, size: length } = member {
            let end = start.checked_add(*length).filter(|end| *end <= size);
            ensure!(end.is_some(), "it is cut short in {}", name.display());
        }
    }
    Ok(members)
}

/// A name as it is looked up: without `.`, and with `..` resolved.
fn within(name: &Path) -> PathBuf {
    let mut path = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => drop(path.pop()),
            _ => {}
        }
    }
    path
}

/// Some bytes of a file, whose own position stays where it is.
struct Section {
    file: Arc<File>,
    from: u64,
    to: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.to - self.from).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..length], self.from)?;
        self.from += read as u64;
        Ok(read)
    }
}
