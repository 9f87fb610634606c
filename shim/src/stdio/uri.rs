//! Where containerd wants a stream to go: a path, or a URI with the scheme `fifo`, `file`, `binary` or `binary-v2`.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Where output goes. An empty text is no output.
#[derive(Debug, PartialEq, Eq)]
pub enum StdioUri {
    Null,
    Fifo(String),
    File(PathBuf),
    /// A file that is rotated to `PATH.1` before it grows beyond so many bytes: `file://PATH?max-size=BYTES`.
    RotatingFile(PathBuf, u64),
    Binary(Binary),
}

/// A logger's program.
#[derive(Debug, PartialEq, Eq)]
pub struct Binary {
    pub path: PathBuf,
    pub args: Vec<String>,
    /// Whether it is ready only when it says so with a byte, rather than when it closes its descriptor.
    pub says_ready: bool,
}

impl StdioUri {
    /// # Errors
    /// A scheme that is unknown, or a path that is not absolute.
    pub fn parse(text: &str) -> Result<StdioUri> {
        if text.is_empty() {
            return Ok(StdioUri::Null);
        }
        let Some((scheme, rest)) = text.split_once("://") else { return StdioUri::of_path(text) };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = unescape(path)?;
        if !path.starts_with('/') {
            bail!("{text:?}: expected an absolute path");
        }
        Ok(match scheme {
            "fifo" => StdioUri::Fifo(path),
            "file" => match query.strip_prefix("max-size=") {
                Some(size) => {
                    let size = size.parse().with_context(|| format!("{text:?}: expected max-size=BYTES"))?;
                    StdioUri::RotatingFile(path.into(), size)
                }
                None => StdioUri::File(path.into()),
            },
            "binary" | "binary-v2" => StdioUri::Binary(Binary {
                path: path.into(),
                args: arguments(query)?,
                says_ready: scheme == "binary-v2",
            }),
            _ => bail!("{text:?}: expected fifo://, file:// or binary://"),
        })
    }

    /// A path alone may be a file, too.
    fn of_path(text: &str) -> Result<StdioUri> {
        let meta = fs::metadata(text).with_context(|| format!("open {text}"))?;
        Ok(if meta.file_type().is_fifo() {
            StdioUri::Fifo(text.to_owned())
        } else {
            StdioUri::File(text.into())
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read_as_containerd_writes_them() {
        assert_eq!(StdioUri::parse("").unwrap(), StdioUri::Null);
        assert_eq!(StdioUri::parse("fifo:///run/a").unwrap(), StdioUri::Fifo("/run/a".into()));
        assert_eq!(StdioUri::parse("file:///var/log/a%20b").unwrap(), StdioUri::File("/var/log/a b".into()));
        assert_eq!(StdioUri::parse("file:///a?max-size=9").unwrap(), StdioUri::RotatingFile("/a".into(), 9));
        let binary = |says_ready| {
            let args = ["-f", "/a b", "-v"].map(str::to_owned).to_vec();
            StdioUri::Binary(Binary { path: "/bin/logger".into(), args, says_ready })
        };
        assert_eq!(StdioUri::parse("binary:///bin/logger?-f=/a%20b&-v").unwrap(), binary(false));
        assert_eq!(StdioUri::parse("binary-v2:///bin/logger?-f=/a+b&-v=").unwrap(), binary(true));
    }

    #[test]
    fn uris_that_lead_nowhere_are_errors() {
        for text in [
            "http://x/y",
            "file://relative",
            "file:///a?max-size=x",
            "file:///%4",
            "file:///%zz",
            "/no/such/file",
        ] {
            assert!(StdioUri::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_uri_or_an_error(text in "(file|fifo|binary|binary-v2|x)?(://)?[/a-z%0-9?&=+.é]{0,30}") {
            let _ = StdioUri::parse(&text);
        }
    }
}
