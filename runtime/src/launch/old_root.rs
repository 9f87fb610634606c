//! In the new process, with --no-pivot: the host's tree stays below the root that is entered, and a chroot is no wall.
//! Whoever gets a mount namespace of his own in a new user namespace may mount a procfs or a sysfs there without any
//! mask, as long as a whole one can be found in it (mount_namespaces(7)).

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use linux::mount::{Filesystem, attach};
use linux::mountinfo::{self, Mount};
use linux::path::mount_id;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;

use super::procfs::Procfs;

/// Unmounts each whole procfs and sysfs but for those in the tree at `root`, and covers what can't be unmounted.
///
/// # Errors
/// One that can't be reached: it would be found all the same.
pub(super) fn leave(root: BorrowedFd<'_>, procfs: &Procfs) -> Result<()> {
    let own = mount_id(root).context("statx of the root")?;
    for path in read(procfs, own)? {
        // EINVAL: a user namespace may not unmount it, for that would show what lies below. ENOENT: it has gone, or is
        // hidden; the second look tells.
        match umount2(&*path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(e) => return Err(e).with_context(|| format!("umount2 {}", path)),
        }
    }
    for path in read(procfs, own)? {
        cover(&path).with_context(|| format!("cover {}", path))?;
    }
    Ok(())
}

/// The paths of the whole procfs and sysfs mounts that this process sees outside of the one at its new root, the last
/// first.
fn read(procfs: &Procfs, own: u64) -> Result<Vec<String>> {
    let text = procfs.read_own("mountinfo")?;
    let mounts: BTreeMap<u64, Mount<'_>> =
        mountinfo::parse(&text)?.into_iter().map(|mount| (mount.id, mount)).collect();
    let is_whole = |mount: &&Mount<'_>| mount.root() == "/" && matches!(mount.kind, "proc" | "sysfs");
    let whole = mounts.values().rev().filter(is_whole);
    Ok(whole.filter(|mount| !is_below(&mounts, mount.id, own)).map(Mount::target).collect())
}

fn is_below(mounts: &BTreeMap<u64, Mount<'_>>, mut id: u64, above: u64) -> bool {
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
