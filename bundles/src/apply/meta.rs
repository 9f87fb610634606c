//! What an entry says of itself, besides its contents.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result};
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid};
use tar::Entry;

/// Owner, mode, times and extended attributes.
pub(super) struct Meta {
    pub(super) owner: Uid,
    pub(super) group: Gid,
    pub(super) mode: Mode,
    pub(super) accessed: TimeSpec,
    pub(super) modified: TimeSpec,
    pub(super) attributes: Vec<(OsString, Vec<u8>)>,
}

impl Meta {
    pub(super) fn of(entry: &mut Entry<'_, impl Read>) -> Result<Meta> {
        let (header, fields) = (entry.header(), entry.header().as_old());
        // Some builders leave a field empty where they mean 0.
        let number = |field: &[u8], read: std::io::Result<u64>| match field.iter().all(|b| b"\0 ".contains(b))
        {
            true => Ok(0),
            false => read,
        };
        // -1 is no id: chown(2) leaves as it is what it is given that for, and so it would be root's.
        let id = |id: u64, what| {
            let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            id.with_context(|| format!("its {what} is larger than any"))
        };
        let modified = number(&fields.mtime, header.mtime())?;
        let modified = TimeSpec::new(modified.try_into().unwrap_or(i64::MAX), 0);
        let mut meta = Meta {
            owner: Uid::from_raw(id(number(&fields.uid, header.uid())?, "owner")?),
            group: Gid::from_raw(id(number(&fields.gid, header.gid())?, "group")?),
            mode: Mode::from_bits_truncate(header.mode()? & 0o7777),
            accessed: modified,
            modified,
            attributes: Vec::new(),
        };
        let mut accessed = None;
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let extension = extension.context("read its extended header")?;
            let (key, value) = (extension.key_bytes(), extension.value_bytes());
            match key {
                b"mtime" => (meta.modified, meta.accessed) = (time(value)?, time(value)?),
                b"atime" => accessed = Some(time(value)?),
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        meta.attributes.push((OsString::from_vec(name.to_vec()), value.to_vec()));
                    }
                }
            }
        }
        meta.accessed = accessed.unwrap_or(meta.accessed);
        Ok(meta)
    }
}

/// Seconds since 1970 with a fraction, as pax(1) writes them.
fn time(text: &[u8]) -> Result<TimeSpec> {
    let parse = || {
        let text = std::str::from_utf8(text).ok()?;
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole: i64 = seconds.parse().ok()?;
        let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
        let nanoseconds: i64 = digits.parse().ok().filter(|n| *n >= 0)?;
        // Before 1970 the fraction counts downwards, and a timespec's upwards.
        Some(match seconds.starts_with('-') && nanoseconds > 0 {
            true => TimeSpec::new(whole.checked_sub(1)?, 1_000_000_000 - nanoseconds),
            false => TimeSpec::new(whole, nanoseconds),
        })
    };
    parse().with_context(|| format!("{:?} is no time", String::from_utf8_lossy(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_may_lie_before_1970() {
        let parts = |text: &str| time(text.as_bytes()).map(|t| (t.tv_sec(), t.tv_nsec())).unwrap();
        assert_eq!(parts("12"), (12, 0));
        assert_eq!(parts("12.5"), (12, 500_000_000));
        assert_eq!(parts("12.1234567899"), (12, 123_456_789));
        assert_eq!(parts("-1.25"), (-2, 750_000_000));
        assert_eq!(parts("-3"), (-3, 0));
        for wrong in ["", "x", "1.x", "1e9", "1.-5", "-9223372036854775808.5"] {
            assert!(time(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }
}
