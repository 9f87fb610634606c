//! In the new process: device nodes and links.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use linux::mount::attach;
use linux::path;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};

use super::mounts;
use super::root::Root;
use crate::plan::path::ContainerPath;
use crate::plan::step::{Node, NodeKind};

fn kind(node: &Node) -> SFlag {
    match node.kind {
        NodeKind::Character => SFlag::S_IFCHR,
        NodeKind::Block => SFlag::S_IFBLK,
        NodeKind::Fifo => SFlag::S_IFIFO,
    }
}

fn is(stat: &FileStat, node: &Node) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == kind(node).bits()
        && (node.kind == NodeKind::Fifo || stat.st_rdev == libc::makedev(node.major, node.minor))
}

/// mknod(2) with exactly that mode and owner. A node that is there already may stay, anything else is in the way.
pub(super) fn make((parent, name): (BorrowedFd<'_>, &str), node: &Node) -> Result<()> {
    // The umask is 0 while the container is made, so the mode is the one that was asked for.
    let mode = Mode::from_bits_truncate(node.mode);
    let is_new = match mknodat(parent, name, kind(node), mode, libc::makedev(node.major, node.minor)) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(e) => return Err(e).context("mknod"),
    };
    let is_given = (node.uid, node.gid) != (0, 0);
    if is_new && !is_given {
        return Ok(());
    }
    // Whoever else writes to this directory may exchange the name: what is checked has to be what is changed.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let there = openat(parent, name, flags, Mode::empty()).context("open")?;
    if !is(&fstat(&there).context("fstat")?, node) {
        bail!("mknod: EEXIST: something else is there");
    }
    if is_given {
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        fchownat(&there, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH).context("chown")?;
    }
    // A new owner costs set-id bits.
    if !is_new || node.mode & 0o6000 != 0 {
        path::change_mode(there.as_fd(), node.mode).context("chmod")?;
    }
    Ok(())
}

/// The host's own node of that path, once it is sure to be that device.
pub(super) fn bind(root: &Root, path: &ContainerPath, node: &Node, readonly: bool) -> Result<()> {
    let copy = mounts::clone_device(Path::new(path.as_str()), readonly)?;
    if !is(&fstat(&copy).context("fstat")?, node) {
        bail!("the host's {path} is another device");
    }
    let target = root.make_file(path)?;
    attach(copy.as_fd(), target).context("move_mount")
}

/// A symlink, unless something is there: an image's own choice stands, but for what cannot work (a plain file at
/// /dev/ptmx).
pub(super) fn link((parent, name): (BorrowedFd<'_>, &str), path: &ContainerPath, to: &str) -> Result<()> {
    match symlinkat(to, parent, name) {
        Err(Errno::EEXIST) if path.as_str() == "/dev/ptmx" => {
            unlinkat(parent, name, UnlinkatFlags::NoRemoveDir).context("unlink")?;
            symlinkat(to, parent, name).context("symlink")
        }
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(e).context("symlink"),
    }
}
