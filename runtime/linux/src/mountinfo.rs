//! The mounts of a process, as the text of `/proc/PID/mountinfo` tells them (proc_pid_mountinfo(5)).

use std::fmt;

/// One mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount<'t> {
    /// Its number, unique while it is there.
    pub id: u64,
    /// The number of the mount that it is mounted on.
    pub parent: u64,
    /// The kind of its file system.
    pub kind: &'t str,
    /// The file system's own options, separated by commas.
    pub options: &'t str,
    root: &'t str,
    target: &'t str,
}

impl Mount<'_> {
    /// Which directory of its file system it shows.
    pub fn root(&self) -> String {
        unescape(self.root)
    }

    /// Where it is mounted, seen from the process's root.
    pub fn target(&self) -> String {
        unescape(self.target)
    }
}

/// A line that the kernel doesn't write.
#[derive(Debug)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mountinfo: {:?} is no mount", self.0)
    }
}

impl std::error::Error for Malformed {}

/// The mounts, in the order of the text.
///
/// # Errors
/// The first line that is none.
pub fn parse(text: &str) -> Result<Vec<Mount<'_>>, Malformed> {
    text.lines().map(|line| mount(line).ok_or_else(|| Malformed(line.to_owned()))).collect()
}

fn mount(line: &str) -> Option<Mount<'_>> {
    // Before the separator there may be any number of further fields, such as `shared:9`.
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let (id, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let (root, target) = (fields.nth(1)?, fields.next()?);
    let mut fields = after.split(' ');
    let (kind, options) = (fields.next()?, fields.nth(1)?);
    Some(Mount { id, parent, kind, options, root, target })
}

/// Space, tab, newline, backslash and `#` are written as `\` and three octal digits.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|o| u8::from_str_radix(o, 8).ok()) {
            Some(byte) => {
                out.push(byte as char);
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_stands_between_them() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n\
                    23 20 0:21 / / rw - proc proc rw\n";
        let [first, _] = parse(text).unwrap()[..] else { panic!("they are two") };
        assert_eq!(
            (first.id, first.parent, first.kind, first.options),
            (36, 35, "ext3", "rw,errors=continue")
        );
        assert_eq!((first.root(), first.target()), ("/mnt1".into(), "/mnt 2".into()));
    }

    #[test]
    fn a_line_that_is_no_mount_is_an_error() {
        for line in ["garbage", "1 2 0:3 / /", "1 2 0:3 / - proc proc rw", "a b 0:3 / / rw - proc proc rw"] {
            assert!(parse(line).unwrap_err().to_string().contains(line));
        }
    }

    #[test]
    fn what_is_no_number_stays_as_it_is() {
        assert_eq!(unescape("a\\134b\\011\\é\\9"), "a\\b\t\\é\\9");
    }
}
