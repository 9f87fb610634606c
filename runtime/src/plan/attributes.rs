//! Mount attributes: what mount_setattr(2) can say about a mount, once for itself and once for all below it.

use std::fmt;

use interface::mount_options::ATTRIBUTES;
pub use interface::mount_options::Propagation;
use serde::{Serialize, Serializer};

/// Bits of MOUNT_ATTR_* to set and to clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "mount_setattr(2)'s own names")]
pub struct Change {
    pub set: u64,
    pub clear: u64,
}

impl Change {
    /// Whether there is nothing to do.
    pub fn is_empty(self) -> bool {
        self == Change::default()
    }

    fn apply(&mut self, bits: u64, on: bool) {
        // The three access-time modes are one field, not bits: a new value has to clear the whole field.
        let field = if bits & libc::MOUNT_ATTR__ATIME != 0 || bits == libc::MOUNT_ATTR_RELATIME {
            bits | libc::MOUNT_ATTR__ATIME
        } else {
            bits
        };
        self.set &= !field;
        if on {
            self.set |= bits;
        }
        if !on || field != bits {
            self.clear |= field;
        } else {
            self.clear &= !bits;
        }
    }
}

/// Everything that a list of mount options says about the mount itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "mount_setattr(2)'s own names")]
pub struct Attributes {
    /// For the mount alone.
    pub own: Change,
    /// For the mount and all below it: the `r…` options of config.md#linux-mount-options.
    pub tree: Change,
    pub propagation: Vec<(Propagation, bool)>,
}

/// Every option that [`Attributes::take`] takes in.
pub(super) fn options() -> Vec<String> {
    let plain = ATTRIBUTES.iter().map(|(name, ..)| *name).chain(["private", "shared", "slave", "unbindable"]);
    plain
        .flat_map(|name| [name.to_owned(), format!("r{name}")])
        .filter(|name| Attributes::default().take(name))
        .collect()
}

impl Attributes {
    /// Takes one option in; false when it is not about the mount.
    pub fn take(&mut self, option: &str) -> bool {
        if let Some(found) = Propagation::parse(option) {
            self.propagation.push(found);
            return true;
        }
        let find = |name: &str| ATTRIBUTES.iter().find(|(n, _, _)| *n == name);
        // "ro" and "rw" are not "o" and "w": the plain name goes first.
        if let Some(&(_, bits, on)) = find(option) {
            self.own.apply(bits, on);
        } else if option == "ratime" {
            self.tree.apply(libc::MOUNT_ATTR_NOATIME, false);
        } else if let Some(&(_, bits, on)) = option.strip_prefix('r').and_then(find) {
            self.tree.apply(bits, on);
        } else {
            return false;
        }
        true
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.tree.is_empty() && self.propagation.is_empty()
    }

    /// Just one propagation for a whole tree.
    pub fn propagating(kind: Propagation, recursive: bool) -> Self {
        Attributes { propagation: vec![(kind, recursive)], ..Default::default() }
    }

    /// Just read-only.
    pub fn readonly(recursive: bool) -> Self {
        let change = Change { set: libc::MOUNT_ATTR_RDONLY, clear: 0 };
        if recursive {
            Attributes { tree: change, ..Default::default() }
        } else {
            Attributes { own: change, ..Default::default() }
        }
    }

    /// Takes out what it says about access times.
    pub fn leave_access_times(&mut self) {
        for change in [&mut self.own, &mut self.tree] {
            change.set &= !libc::MOUNT_ATTR__ATIME;
            change.clear &= !libc::MOUNT_ATTR__ATIME;
        }
    }

    /// Takes the read-only bit out, and says whether it was there.
    pub fn take_readonly(&mut self) -> bool {
        let was = self.own.set & libc::MOUNT_ATTR_RDONLY != 0;
        self.own.set &= !libc::MOUNT_ATTR_RDONLY;
        was
    }
}

/// ` (ro,nosuid,rnodev,rslave)`, or nothing.
impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        for (change, prefix) in [(self.own, ""), (self.tree, "r")] {
            let atime = change.set & libc::MOUNT_ATTR__ATIME;
            for &(name, bits, on) in ATTRIBUTES {
                let is_atime = bits & libc::MOUNT_ATTR__ATIME != 0 || bits == libc::MOUNT_ATTR_RELATIME;
                let said = match (is_atime, on) {
                    (true, true) => change.clear & libc::MOUNT_ATTR__ATIME != 0 && atime == bits,
                    (true, false) => false,
                    (false, true) => change.set & bits != 0,
                    (false, false) => change.clear & bits != 0,
                };
                if said {
                    words.push(format!("{prefix}{name}"));
                }
            }
        }
        words.extend(self.propagation.iter().map(|(p, rec)| format!("{}{p}", if *rec { "r" } else { "" })));
        if words.is_empty() { Ok(()) } else { write!(f, " ({})", words.join(",")) }
    }
}

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let text = self.to_string();
        s.serialize_str(text.trim_start_matches(" (").trim_end_matches(')'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[&str]) -> Attributes {
        let mut a = Attributes::default();
        for o in options {
            assert!(a.take(o), "{o}");
        }
        a
    }

    #[test]
    fn options_read_back_as_they_were_given() {
        for (given, text) in [
            (&["nosuid", "noexec", "nodev"][..], " (nosuid,nodev,noexec)"),
            (&["ro", "rw"], " (rw)"),
            (&["rw", "ro"], " (ro)"),
            (&["rro", "rnosuid", "rslave"], " (rro,rnosuid,rslave)"),
            (&["noatime", "strictatime"], " (strictatime)"),
            (&["strictatime", "relatime"], " (relatime)"),
            (&["ratime"], " (rrelatime)"),
            (&[], ""),
        ] {
            assert_eq!(of(given).to_string(), text, "{given:?}");
        }
        assert!(!Attributes::default().take("mode=755"));
        assert!(!Attributes::default().take("r"));
    }

    #[test]
    fn an_access_time_mode_clears_its_whole_field() {
        let a = of(&["noatime"]).own;
        assert_eq!(
            (a.set, a.clear),
            (libc::MOUNT_ATTR_NOATIME, libc::MOUNT_ATTR__ATIME | libc::MOUNT_ATTR_NOATIME)
        );
        // The kernel refuses bits that are both set and cleared, but for this field (fs/namespace.c).
        let a = of(&["ro", "rw", "ro"]).own;
        assert_eq!((a.set, a.clear), (libc::MOUNT_ATTR_RDONLY, 0));
    }
}
