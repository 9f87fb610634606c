//! Where a stream leads, in containerd's words: a path, `fifo://`, `file://` or `binary://`.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Where output goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    Nowhere,
    Fifo(String),
    File(PathBuf),
    /// A file that is put aside, as `PATH.1`, before it grows beyond so many bytes: `file://PATH?max-size=N`.
    Capped(PathBuf, u64),
    Program(Program),
}

/// A logger.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    pub path: PathBuf,
    pub args: Vec<String>,
    /// Whether it is ready only when it says so with a byte, rather than when it closes its descriptor.
    pub says_ready: bool,
}

impl Place {
    /// # Errors
    /// A scheme that is unknown, or a path that is not absolute.
    pub fn parse(text: &str) -> Result<Place> {
        if text.is_empty() {
            return Ok(Place::Nowhere);
        }
        let Some((scheme, rest)) = text.split_once("://") else { return Place::path(text) };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = unescape(path)?;
        if !path.starts_with('/') {
            bail!("{text:?}: expected an absolute path");
        }
        Ok(match scheme {
            "fifo" => Place::Fifo(path),
            "file" => match query.strip_prefix("max-size=") {
                Some(size) => {
                    let size = size.parse().with_context(|| format!("{text:?}: expected max-size=BYTES"))?;
                    Place::Capped(path.into(), size)
                }
                None => Place::File(path.into()),
            },
            "binary" | "binary-v2" => Place::Program(Program {
                path: path.into(),
                args: arguments(query)?,
                says_ready: scheme == "binary-v2",
            }),
            _ => bail!("{text:?}: expected fifo://, file:// or binary://"),
        })
    }

    /// A path alone may be a file, too.
    fn path(text: &str) -> Result<Place> {
        let meta = fs::metadata(text).with_context(|| format!("open {text}"))?;
        Ok(if meta.file_type().is_fifo() { Place::Fifo(text.to_owned()) } else { Place::File(text.into()) })
    }
}

/// `KEY=VALUE&KEY` are arguments, in that order: `KEY VALUE KEY`.
fn arguments(query: &str) -> Result<Vec<String>> {
    let words = query.split('&').flat_map(|pair| pair.splitn(2, '='));
    words.filter(|word| !word.is_empty()).map(|word| unescape(&word.replace('+', " "))).collect()
}

/// `%41` is `A` (RFC 3986).
fn unescape(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.with_context(|| format!("{text:?}: expected two digits after %"))?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).with_context(|| format!("{text:?}: not UTF-8"))
}

pub fn null() -> Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/null");
    Ok(file.context("open /dev/null")?.into())
}

pub fn is_null(fd: impl AsFd) -> bool {
    let device = |file: &File| file.metadata().map(|meta| meta.rdev());
    let fd = fd.as_fd().try_clone_to_owned().map(File::from);
    matches!(fd.and_then(|file| device(&file)), Ok(rdev) if rdev == nix::sys::stat::makedev(1, 3))
}

/// Opens a file to be added to.
pub fn append(path: &Path) -> Result<OwnedFd> {
    let open = || OpenOptions::new().append(true).create(true).mode(0o644).open(path);
    let file = open().or_else(|e| match (e.kind(), path.parent()) {
        (std::io::ErrorKind::NotFound, Some(parent)) => fs::create_dir_all(parent).and_then(|()| open()),
        _ => Err(e),
    });
    Ok(file.with_context(|| format!("open {}", path.display()))?.into())
}

/// Opens both ends of a fifo without waiting for anybody: the reader first, for a writer alone is refused.
pub fn fifo(path: &str) -> Result<(OwnedFd, OwnedFd)> {
    let reader = open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    if !File::from(reader.try_clone()?).metadata()?.file_type().is_fifo() {
        bail!("it is no fifo");
    }
    Ok((reader, open(path, OFlag::O_WRONLY | OFlag::O_NONBLOCK)?))
}

pub fn open(path: &str, how: OFlag) -> Result<OwnedFd> {
    Ok(nix::fcntl::open(path, how | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())?)
}

pub fn set_nonblocking(fd: impl AsFd) -> Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_containerd_writes_them() {
        assert_eq!(Place::parse("").unwrap(), Place::Nowhere);
        assert_eq!(Place::parse("fifo:///run/a").unwrap(), Place::Fifo("/run/a".into()));
        assert_eq!(Place::parse("file:///var/log/a%20b").unwrap(), Place::File("/var/log/a b".into()));
        assert_eq!(Place::parse("file:///a?max-size=9").unwrap(), Place::Capped("/a".into(), 9));
        let program = |says_ready| {
            let args = ["-f", "/a b", "-v"].map(str::to_owned).to_vec();
            Place::Program(Program { path: "/bin/logger".into(), args, says_ready })
        };
        assert_eq!(Place::parse("binary:///bin/logger?-f=/a%20b&-v").unwrap(), program(false));
        assert_eq!(Place::parse("binary-v2:///bin/logger?-f=/a+b&-v=").unwrap(), program(true));
    }

    #[test]
    fn places_that_lead_nowhere_are_errors() {
        for text in [
            "http://x/y",
            "file://relative",
            "file:///a?max-size=x",
            "file:///%4",
            "file:///%zz",
            "/no/such/file",
        ] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_place_or_an_error(text in "(file|fifo|binary|binary-v2|x)?(://)?[/a-z%0-9?&=+.é]{0,30}") {
            let _ = Place::parse(&text);
        }
    }
}
