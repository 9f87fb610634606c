//! The root filesystem that a snapshotter describes: mounted in the bundle, and unmounted with what is below it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use containerd_shim_protos::types::mount::Mount;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// mount(2) takes a page of data, its end included.
const MOST_DATA: usize = 4095;

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

/// Mounts all of them, each on the bundle's `rootfs` or what it names in there; none stays if one fails.
///
/// # Errors
/// The mount that failed.
pub fn attach(mounts: &[Mount], rootfs: &Path) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(rootfs).with_context(|| format!("make {}", rootfs.display()))?;
    for wanted in mounts {
        if let Err(e) = attach_one(wanted, rootfs) {
            let _ = detach(rootfs);
            return Err(e).with_context(|| {
                format!("mount {} {} on {}", wanted.type_, wanted.source, rootfs.display())
            });
        }
    }
    Ok(())
}

fn attach_one(wanted: &Mount, rootfs: &Path) -> Result<()> {
    let target = target(wanted, rootfs)?;
    let mut words = Words::of(&wanted.options);
    let kind = Some(wanted.type_.as_str()).filter(|kind| !kind.is_empty() && *kind != "bind");
    // overlay's list of layers may be longer than a page: below a directory that is common to all, it is shorter.
    let base = if words.data().len() > MOST_DATA { words.shorten() } else { None };
    let data = words.data();
    if data.len() > MOST_DATA {
        bail!("its options are {} bytes, of which a mount takes {MOST_DATA}", data.len());
    }
    let flags = words.flags;
    within(base.as_deref(), || {
        mount(Some(wanted.source.as_str()), &target, kind, flags, Some(data.as_str())).map_err(Into::into)
    })?;
    // A bind mount takes none of these at once (mount(2)).
    if flags.contains(MsFlags::MS_BIND) && flags.intersects(MsFlags::MS_RDONLY | MsFlags::MS_NOSUID) {
        mount(None::<&str>, &target, None::<&str>, flags | MsFlags::MS_REMOUNT, None::<&str>)
            .context("make it read-only")?;
    }
    for flags in words.propagation {
        mount(None::<&str>, &target, None::<&str>, flags, None::<&str>).context("change its propagation")?;
    }
    Ok(())
}

/// `target` is relative to the root filesystem, in which nobody but containerd has written yet.
fn target(wanted: &Mount, rootfs: &Path) -> Result<PathBuf> {
    let inside = wanted.target.trim_start_matches('/');
    if Path::new(inside).components().any(|part| part.as_os_str() == "..") {
        bail!("its target {:?} leads out of the root filesystem", wanted.target);
    }
    Ok(if inside.is_empty() { rootfs.to_owned() } else { rootfs.join(inside) })
}

/// Options, sorted by what they are.
struct Words {
    flags: MsFlags,
    propagation: Vec<MsFlags>,
    data: Vec<String>,
}

impl Words {
    fn of(options: &[String]) -> Words {
        let mut words = Words { flags: MsFlags::empty(), propagation: Vec::new(), data: Vec::new() };
        for option in options {
            if let Some((_, set, flag)) = FLAGS.iter().find(|(name, ..)| name == option) {
                words.flags.set(*flag, *set);
            } else if let Some((_, flags)) = PROPAGATION.iter().find(|(name, _)| name == option) {
                words.propagation.push(*flags);
            } else if option != "defaults" {
                words.data.push(option.clone());
            }
        }
        words
    }

    fn data(&self) -> String {
        self.data.join(",")
    }

    /// Makes the layers relative to the directory that all of them are in, and tells which that is.
    fn shorten(&mut self) -> Option<PathBuf> {
        let layers = self.data.iter_mut().find(|option| option.starts_with("lowerdir="))?;
        let list: Vec<&str> = layers["lowerdir=".len()..].split(':').collect();
        let first = Path::new(list.first()?).parent()?;
        let base =
            first.ancestors().find(|dir| list.iter().all(|layer| Path::new(layer).starts_with(dir)))?;
        let short: Option<Vec<&str>> =
            list.iter().map(|l| Path::new(l).strip_prefix(base).ok()?.to_str()).collect();
        let (base, short) = (base.to_owned(), short?.join(":"));
        *layers = format!("lowerdir={short}");
        Some(base)
    }
}

/// Does something in another working directory: the shim has one thread.
fn within<T>(dir: Option<&Path>, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(dir) = dir else { return act() };
    let before = std::env::current_dir().context("find the working directory")?;
    std::env::set_current_dir(dir).with_context(|| format!("go to {}", dir.display()))?;
    let done = act();
    std::env::set_current_dir(&before).with_context(|| format!("go back to {}", before.display()))?;
    done
}

/// Unmounts whatever is mounted on a directory and below it.
///
/// # Errors
/// The kernel refuses. That nothing is mounted there is none.
pub fn detach(rootfs: &Path) -> Result<()> {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
    let Some(rootfs) = fs::canonicalize(rootfs).ok().and_then(|path| path.to_str().map(str::to_owned)) else {
        return Ok(());
    };
    let below: Vec<String> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4).map(unescape))
        .filter(|target| Path::new(target).starts_with(&rootfs))
        .collect();
    for target in below.iter().rev() {
        match umount2(target.as_str(), MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            // Somebody looks at it: it goes when they have.
            Err(Errno::EBUSY) => umount2(target.as_str(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
                .with_context(|| format!("unmount {target}"))?,
            Err(e) => return Err(e).with_context(|| format!("unmount {target}")),
        }
    }
    Ok(())
}

/// mountinfo writes blank, tab, newline and backslash as three octal digits (proc(5)).
fn unescape(word: &str) -> String {
    word.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(options: &[&str]) -> Words {
        Words::of(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_flags_propagation_or_data() {
        let words = words(&["rbind", "ro", "rprivate", "index=off", "lowerdir=/a:/b", "defaults"]);
        assert_eq!(words.flags, MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY);
        assert_eq!(words.propagation, [MsFlags::MS_PRIVATE | MsFlags::MS_REC]);
        assert_eq!(words.data(), "index=off,lowerdir=/a:/b");
    }

    #[test]
    fn layers_are_named_from_the_directory_that_holds_all_of_them() {
        let mut long = words(&["index=off", "lowerdir=/var/snap/9/fs:/var/snap/10/fs:/var/other"]);
        assert_eq!(long.shorten(), Some("/var".into()));
        assert_eq!(long.data(), "index=off,lowerdir=snap/9/fs:snap/10/fs:other");
        assert_eq!(words(&["upperdir=/a"]).shorten(), None);
    }

    #[test]
    fn a_target_stays_inside() {
        let wanted = |target: &str| Mount { target: target.to_owned(), ..Default::default() };
        let rootfs = Path::new("/b/rootfs");
        assert_eq!(target(&wanted(""), rootfs).unwrap(), rootfs);
        assert_eq!(target(&wanted("/etc"), rootfs).unwrap(), Path::new("/b/rootfs/etc"));
        assert!(target(&wanted("/../etc"), rootfs).is_err());
    }
}
