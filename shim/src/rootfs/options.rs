//! A mount's options, as fstab and containerd write them, sorted by who is to have them.

use anyhow::{Result, bail};
use interface::mount_options::{ATTRIBUTES, Propagation};
use nix::mount::MsFlags;

/// mount(2)'s flags for the attributes of mount_setattr(2), of which each has a name that the runtime knows, too.
const ATTRIBUTE_FLAGS: [(u64, MsFlags); 9] = [
    (libc::MOUNT_ATTR_RDONLY, MsFlags::MS_RDONLY),
    (libc::MOUNT_ATTR_NOSUID, MsFlags::MS_NOSUID),
    (libc::MOUNT_ATTR_NODEV, MsFlags::MS_NODEV),
    (libc::MOUNT_ATTR_NOEXEC, MsFlags::MS_NOEXEC),
    // Linux 5.10.
    (libc::MOUNT_ATTR_NOSYMFOLLOW, MsFlags::from_bits_retain(libc::MS_NOSYMFOLLOW)),
    (libc::MOUNT_ATTR_NODIRATIME, MsFlags::MS_NODIRATIME),
    (libc::MOUNT_ATTR_RELATIME, MsFlags::MS_RELATIME),
    (libc::MOUNT_ATTR_NOATIME, MsFlags::MS_NOATIME),
    (libc::MOUNT_ATTR_STRICTATIME, MsFlags::MS_STRICTATIME),
];

/// Options that are flags of mount(2) only: of the file system, or what it is to do. The runtime tells a file system in
/// another way (fsconfig(2)), and finds out for itself what to do.
const OTHER_FLAGS: [(&str, bool, MsFlags); 8] = [
    ("sync", true, MsFlags::MS_SYNCHRONOUS),
    ("async", false, MsFlags::MS_SYNCHRONOUS),
    ("dirsync", true, MsFlags::MS_DIRSYNC),
    ("mand", true, MsFlags::MS_MANDLOCK),
    ("nomand", false, MsFlags::MS_MANDLOCK),
    ("bind", true, MsFlags::MS_BIND),
    ("rbind", true, MsFlags::MS_BIND.union(MsFlags::MS_REC)),
    ("remount", true, MsFlags::MS_REMOUNT),
];

/// The flag of an option, and whether it is set or cleared.
fn flag(word: &str) -> Option<(MsFlags, bool)> {
    let other = OTHER_FLAGS.iter().find(|(name, ..)| *name == word);
    if let Some((_, set, flag)) = other {
        return Some((*flag, *set));
    }
    let (_, attribute, set) = ATTRIBUTES.iter().find(|(name, ..)| *name == word)?;
    let (_, flag) = ATTRIBUTE_FLAGS.iter().find(|(known, _)| known == attribute)?;
    Some((*flag, *set))
}

fn propagation(word: &str) -> Option<MsFlags> {
    let (kind, is_recursive) = Propagation::parse(word)?;
    let flags = MsFlags::from_bits_retain(kind.flag());
    Some(if is_recursive { flags | MsFlags::MS_REC } else { flags })
}

/// Options of one mount.
#[derive(Debug, PartialEq, Eq)]
pub struct MountOptions {
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

impl MountOptions {
    pub fn none() -> MountOptions {
        let (flags, propagation, data) = (MsFlags::empty(), Vec::new(), Vec::new());
        MountOptions { flags, propagation, data, on_loop: false, direct: false, id_maps: None }
    }

    /// # Errors
    /// Only users or only groups are mapped, which nobody means.
    pub fn parse(words: &[String]) -> Result<MountOptions> {
        let mut options = MountOptions::none();
        let (mut users, mut groups) = (None, None);
        for word in words {
            if let Some((flag, set)) = flag(word) {
                options.flags.set(flag, set);
            } else if let Some(flags) = propagation(word) {
                options.propagation.push(flags);
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

    /// The attributes for mount_setattr(2): to set, and to clear. mount(2) gives a bind mount none.
    pub fn attributes(&self) -> (u64, u64) {
        let wanted = ATTRIBUTE_FLAGS.iter().filter(|(_, flag)| self.flags.contains(*flag));
        let set = wanted.fold(0, |set, (attribute, _)| set | attribute);
        // Of those about times only one can be.
        (set, if set & libc::MOUNT_ATTR__ATIME == 0 { 0 } else { libc::MOUNT_ATTR__ATIME })
    }

    /// The file system's own options, as mount(2) takes them.
    pub fn data(&self) -> String {
        self.data.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<MountOptions> {
        MountOptions::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_flags_propagation_or_data() {
        let options = parse(&["rbind", "ro", "rprivate", "index=off", "lowerdir=/a:/b", "defaults"]).unwrap();
        assert_eq!(options.flags, MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY);
        assert_eq!(options.propagation, [MsFlags::MS_PRIVATE | MsFlags::MS_REC]);
        assert_eq!(options.data(), "index=off,lowerdir=/a:/b");
        assert!(!options.on_loop && options.id_maps.is_none());
    }

    #[test]
    fn every_attribute_that_the_runtime_knows_is_a_flag_here() {
        for (name, attribute, set) in ATTRIBUTES {
            let options = parse(&["bind", name]).unwrap();
            assert_eq!(options.data(), "", "{name}");
            let bind = MsFlags::MS_BIND;
            assert_eq!(options.flags != bind, *set, "{name}: {:?}", options.flags);
            assert_eq!(options.attributes().0, if *set { *attribute } else { 0 }, "{name}");
            let opposite = ATTRIBUTES.iter().find(|(_, other, is_set)| other == attribute && is_set != set);
            let both = parse(&["bind", opposite.unwrap().0, name]).unwrap();
            assert_eq!(both.flags, options.flags, "{name} is the last word");
        }
    }

    #[test]
    fn loop_devices_and_id_maps_are_nobodys_data() {
        let options =
            parse(&["ro", "loop", "direct-io", "device=/b", "uidmap=0:1:2", "gidmap=0:3:4"]).unwrap();
        assert!(options.on_loop && options.direct);
        assert_eq!(options.data(), "device=/b");
        assert_eq!(options.id_maps, Some(["0:1:2".to_owned(), "0:3:4".to_owned()]));
        assert_eq!(parse(&["direct-io"]).unwrap().data(), "direct-io");
        assert!(parse(&["uidmap=0:1:2"]).is_err());
    }
}
