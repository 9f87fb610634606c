//! Paths inside the container. They are not `AsRef<Path>`: the only way to open one is against the root's handle.

use std::fmt;

use serde::Serialize;

/// An absolute, lexically clean path inside the container. Whoever opens it must do so beneath the root directory
/// (openat2(2), RESOLVE_IN_ROOT): the container owns what its components point at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ContainerPath(String);

impl ContainerPath {
    /// Cleans `path`: relative means relative to `/`, `.` and `..` are resolved without looking, `/..` is `/`.
    pub fn new(path: &str) -> Self {
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                name => parts.push(name),
            }
        }
        ContainerPath(format!("/{}", parts.join("/")))
    }

    /// The text, from `/` on.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What to hand to a system call that resolves from the root's handle: `dev/pts`, or `.` for the root itself.
    pub fn beneath(&self) -> &str {
        if self.0 == "/" { "." } else { &self.0[1..] }
    }

    /// Whether this is `other` or lies below it.
    pub fn is_within(&self, other: &str) -> bool {
        self.0
            .strip_prefix(other.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for ContainerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_without_leaving_the_root() {
        for (given, clean) in [
            ("", "/"),
            ("/", "/"),
            ("dev", "/dev"),
            ("/a//b/./c/", "/a/b/c"),
            ("../../x", "/x"),
            ("/a/../..", "/"),
        ] {
            assert_eq!(ContainerPath::new(given).as_str(), clean);
        }
        assert!(ContainerPath::new("/dev/pts").is_within("/dev"));
        assert!(!ContainerPath::new("/device").is_within("/dev"));
    }
}
