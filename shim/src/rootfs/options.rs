//! A mount's options, as fstab and containerd write them, sorted by who is to have them.

use anyhow::{Result, bail};
use nix::mount::MsFlags;

/// Options that are flags: set or cleared.
const FLAGS: [(&str, bool, MsFlags); 24] = [
    ("ro", true, MsFlags::MS_RDONLY),
    ("rw", false, MsFlags::MS_RDONLY),
    ("nosuid", true, MsFlags::MS_NOSUID),
    ("suid", false, MsFlags::MS_NOSUID),
    ("nodev", true, MsFlags::MS_NODEV),
    ("dev", false, MsFlags::MS_NODEV),
    ("noexec", true, MsFlags::MS_NOEXEC),
    ("exec", false, MsFlags::MS_NOEXEC),
    ("sync", true, MsFlags::MS_SYNCHRONOUS),
    ("async", false, MsFlags::MS_SYNCHRONOUS),
    ("dirsync", true, MsFlags::MS_DIRSYNC),
    ("mand", true, MsFlags::MS_MANDLOCK),
    ("nomand", false, MsFlags::MS_MANDLOCK),
    ("noatime", true, MsFlags::MS_NOATIME),
    ("atime", false, MsFlags::MS_NOATIME),
    ("nodiratime", true, MsFlags::MS_NODIRATIME),
    ("diratime", false, MsFlags::MS_NODIRATIME),
    ("relatime", true, MsFlags::MS_RELATIME),
    ("norelatime", false, MsFlags::MS_RELATIME),
    ("strictatime", true, MsFlags::MS_STRICTATIME),
    ("nostrictatime", false, MsFlags::MS_STRICTATIME),
    ("bind", true, MsFlags::MS_BIND),
    ("rbind", true, MsFlags::MS_BIND.union(MsFlags::MS_REC)),
    ("remount", true, MsFlags::MS_REMOUNT),
];

const PROPAGATION: [(&str, MsFlags); 8] = [
    ("private", MsFlags::MS_PRIVATE),
    ("rprivate", MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
    ("shared", MsFlags::MS_SHARED),
    ("rshared", MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
    ("slave", MsFlags::MS_SLAVE),
    ("rslave", MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
    ("unbindable", MsFlags::MS_UNBINDABLE),
    ("runbindable", MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC)),
];

/// Options of one mount.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    pub flags: MsFlags,
    pub propagation: Vec<MsFlags>,
    /// The file system's own.
    pub data: Vec<String>,
    /// The source is an image in a file.
    pub on_loop: bool,
    /// For the loop device: past the page cache.
    pub direct: bool,
    /// Users and groups of the mount: `INSIDE:OUTSIDE:COUNT,…`.
    pub id_maps: Option<[String; 2]>,
}

impl Options {
    pub fn none() -> Options {
        let (flags, propagation, data) = (MsFlags::empty(), Vec::new(), Vec::new());
        Options { flags, propagation, data, on_loop: false, direct: false, id_maps: None }
    }

    /// # Errors
    /// Only users or only groups are mapped, which nobody means.
    pub fn of(words: &[String]) -> Result<Options> {
        let mut options = Options::none();
        let (mut users, mut groups) = (None, None);
        for word in words {
            if let Some((_, set, flag)) = FLAGS.iter().find(|(name, ..)| name == word) {
                options.flags.set(*flag, *set);
            } else if let Some((_, flags)) = PROPAGATION.iter().find(|(name, _)| name == word) {
                options.propagation.push(*flags);
            } else if let Some(map) = word.strip_prefix("uidmap=") {
                users = Some(map.to_owned());
            } else if let Some(map) = word.strip_prefix("gidmap=") {
                groups = Some(map.to_owned());
            } else if word == "loop" {
                options.on_loop = true;
            } else if word != "defaults" {
                options.data.push(word.clone());
            }
        }
        options.id_maps = match (users, groups) {
            (Some(users), Some(groups)) => Some([users, groups]),
            (None, None) => None,
            _ => bail!("uidmap= and gidmap= go together"),
        };
        if options.on_loop {
            // A file system may have one of that name.
            options.direct = options.data.iter().any(|word| word == "direct-io");
            options.data.retain(|word| word != "direct-io");
        }
        Ok(options)
    }

    pub fn data(&self) -> String {
        self.data.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Result<Options> {
        Options::of(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_flags_propagation_or_data() {
        let options = of(&["rbind", "ro", "rprivate", "index=off", "lowerdir=/a:/b", "defaults"]).unwrap();
        assert_eq!(options.flags, MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY);
        assert_eq!(options.propagation, [MsFlags::MS_PRIVATE | MsFlags::MS_REC]);
        assert_eq!(options.data(), "index=off,lowerdir=/a:/b");
        assert!(!options.on_loop && options.id_maps.is_none());
    }

    #[test]
    fn loop_devices_and_id_maps_are_nobodys_data() {
        let options = of(&["ro", "loop", "direct-io", "device=/b", "uidmap=0:1:2", "gidmap=0:3:4"]).unwrap();
        assert!(options.on_loop && options.direct);
        assert_eq!(options.data(), "device=/b");
        assert_eq!(options.id_maps, Some(["0:1:2".to_owned(), "0:3:4".to_owned()]));
        assert_eq!(of(&["direct-io"]).unwrap().data(), "direct-io");
        assert!(of(&["uidmap=0:1:2"]).is_err());
    }
}
