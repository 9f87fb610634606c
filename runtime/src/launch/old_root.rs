//! Inside, with --no-pivot: the host's tree stays below the root that is entered, and a chroot is no wall. Whoever gets a
//! mount namespace of his own in a new user namespace may mount a procfs or a sysfs there without any mask, as long as a
//! whole one can be found in it (mount_namespaces(7)).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;

use super::procfs::Procfs;
use crate::facts::cgroups::unescape;
use crate::sys::mount::{Filesystem, attach};
use crate::sys::path::mount_id;

/// Unmounts all that is mounted on this process's root directory but for the tree at `root`, and covers what can't be
/// unmounted.
pub(super) fn leave(root: BorrowedFd<'_>, procfs: &Procfs) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let top = open("/", flags, Mode::empty()).context("open /")?;
    let (top, own) =
        (mount_id(top.as_fd()).context("statx /")?, mount_id(root).context("statx of the root")?);
    let mounts = read(procfs)?;
    for mount in mounts.values().filter(|mount| mount.parent == top && mount.id != own) {
        // One above the other, if there are several. EINVAL: there is none, or none that a user namespace may unmount,
        // for it would show what lies below.
        loop {
            match umount2(&*mount.path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) => {}
                Err(Errno::EINVAL) => break,
                Err(e) => return Err(e).with_context(|| format!("umount2 {}", mount.path)),
            }
        }
    }
    let left = read(procfs)?;
    let whole = |mount: &&Mount| matches!(&*mount.kind, "proc" | "sysfs") && mount.root == "/";
    for mount in left.values().filter(whole).filter(|mount| !is_below(&left, mount.id, own)) {
        cover(&mount.path).with_context(|| format!("cover {}", mount.path))?;
    }
    Ok(())
}

struct Mount {
    id: u64,
    parent: u64,
    /// Which part of the filesystem it shows.
    root: String,
    path: String,
    kind: String,
}

/// Those that this process sees, by their ids (proc_pid_mountinfo(5)).
fn read(procfs: &Procfs) -> Result<BTreeMap<u64, Mount>> {
    let text = procfs.read_own("mountinfo")?;
    let mount = |line: &str| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let (id, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let (root, path) = (unescape(fields.nth(1)?), unescape(fields.next()?));
        Some((id, Mount { id, parent, root, path, kind: filesystem.split(' ').next()?.to_owned() }))
    };
    text.lines().map(|line| mount(line).with_context(|| format!("mountinfo: {line:?} is no mount"))).collect()
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
