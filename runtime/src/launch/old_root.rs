//! Inside, with --no-pivot: the host's tree stays below the root that is entered, and a chroot is no wall. Whoever gets a
//! mount namespace of his own in a new user namespace may mount a procfs or a sysfs there without any mask, as long as a
//! whole one can be found in it (mount_namespaces(7)).

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;

use super::procfs::Procfs;
use crate::facts::cgroups::unescape;
use crate::sys::mount::{Filesystem, attach};
use crate::sys::path::mount_id;

/// Unmounts each whole procfs and sysfs but for those in the tree at `root`, and covers what can't be unmounted.
///
/// # Errors
/// One that can't be reached: it would be found all the same.
pub(super) fn leave(root: BorrowedFd<'_>, procfs: &Procfs) -> Result<()> {
    let own = mount_id(root).context("statx of the root")?;
    for mount in read(procfs, own)? {
        // EINVAL: a user namespace may not unmount it, for that would show what lies below. ENOENT: it has gone, or is
        // hidden; the second look tells.
        match umount2(&*mount.path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(e) => return Err(e).with_context(|| format!("umount2 {}", mount.path)),
        }
    }
    for mount in read(procfs, own)? {
        cover(&mount.path).with_context(|| format!("cover {}", mount.path))?;
    }
    Ok(())
}

struct Mount {
    parent: u64,
    path: String,
    is_whole: bool,
}

/// The whole procfs and sysfs mounts that this process sees outside of the one at its new root, the last first
/// (proc_pid_mountinfo(5)).
fn read(procfs: &Procfs, own: u64) -> Result<Vec<Mount>> {
    let text = procfs.read_own("mountinfo")?;
    let mount = |line: &str| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let (id, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let (root, path) = (fields.nth(1)?, unescape(fields.next()?));
        let is_whole = root == "/" && matches!(filesystem.split(' ').next()?, "proc" | "sysfs");
        Some((id, Mount { parent, path, is_whole }))
    };
    let all =
        text.lines().map(|line| mount(line).with_context(|| format!("mountinfo: {line:?} is no mount")));
    let all: BTreeMap<u64, Mount> = all.collect::<Result<_>>()?;
    let left: Vec<u64> = all.keys().copied().filter(|id| !is_below(&all, *id, own)).collect();
    let whole = all.into_iter().rev().filter(|(id, mount)| mount.is_whole && left.contains(id));
    Ok(whole.map(|(_, mount)| mount).collect())
}

fn is_below(mounts: &BTreeMap<u64, Mount>, mut id: u64, above: u64) -> bool {
    loop {
        match mounts.get(&id) {
            _ if id == above => return true,
            Some(mount) if mount.parent != id => id = mount.parent,
            _ => return false,
        }
    }
}

fn cover(path: &str) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let target = open(path, flags, Mode::empty()).context("open")?;
    let fs = Filesystem::open(c"tmpfs").context("fsopen tmpfs")?;
    attach(fs.mount(libc::MOUNT_ATTR_RDONLY).context("fsmount tmpfs")?, target).context("move_mount")
}
