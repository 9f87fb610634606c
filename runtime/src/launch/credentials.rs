//! In the new process: ids and capabilities, in the one order that works (capabilities(7)).

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail};
use linux::{credentials as sys, kernfs};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{Uid, fchown};

use super::root::open_regular;
use crate::plan::Credentials;

/// Takes the ids and the capabilities on.
pub(super) fn take(wanted: &Credentials) -> Result<()> {
    let sets = &wanted.capabilities;
    if wanted.uid != 0 {
        give_stdio(Uid::from_raw(wanted.uid))?;
    }
    // The bounding set needs CAP_SETPCAP, the ids CAP_SETUID: so first, and kept for the moment.
    sys::limit_bounding(sets.bounding).context("PR_CAPBSET_DROP")?;
    sys::keep_capabilities(true).context("PR_SET_KEEPCAPS")?;
    change_ids(wanted.uid, wanted.gid, &wanted.groups)?;
    sys::keep_capabilities(false).context("PR_SET_KEEPCAPS")?;
    sys::set_capabilities(sets.effective, sets.permitted, sets.inheritable).context("capset")?;
    sys::set_ambient(sets.ambient).context("PR_CAP_AMBIENT_RAISE")
}

/// Groups first, since changing them needs the user's capabilities. A namespace that maps only its creator's ids
/// has given up setgroups(2): there the user's groups stay, which give him nothing that he has not (runc does so).
pub(super) fn change_ids(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    match sys::set_groups(groups) {
        // In doubt the call's own error is reported.
        Err(Errno::EPERM) if is_denied().unwrap_or(false) => {
            if !groups.is_empty() {
                bail!("setgroups: this user namespace has only its creator's ids; map more with newgidmap");
            }
        }
        other => other.context("setgroups")?,
    }
    sys::set_ids(uid, gid).context("setresuid")
}

/// Whether this user namespace has given up setgroups(2). The file may be the container's, and nobody's word but the
/// kernel's: then it says nothing.
fn is_denied() -> Result<bool, Errno> {
    match open_regular(AT_FDCWD, "/proc/self/setgroups", OFlag::empty())? {
        Some(file) if fstatfs(&file)?.filesystem_type() == PROC_SUPER_MAGIC => {
            Ok(kernfs::take(file)? == "deny\n")
        }
        _ => Ok(false),
    }
}

/// /dev/stdout can be opened only by who owns what it leads to, so the payload's user gets its pipes, sockets and terminals,
/// and files that it may write to as it is. A file that was only lent for reading stays its owner's, and so does a device:
/// /dev/null is everybody's.
fn give_stdio(uid: Uid) -> Result<()> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        let stat = match fstat(fd) {
            Err(Errno::EBADF) => continue, // the caller has closed it
            stat => stat.context("fstat of stdin, stdout or stderr")?,
        };
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        let is_given = match kind {
            SFlag::S_IFIFO | SFlag::S_IFSOCK => true,
            SFlag::S_IFCHR => fd.is_terminal(),
            SFlag::S_IFREG => is_writable(fd),
            _ => false,
        };
        if !is_given || stat.st_uid == uid.as_raw() {
            continue;
        }
        match fchown(fd, Some(uid), None) {
            // Unmapped, read-only, or somebody else's: then it has to do as it is.
            Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS | Errno::EBADF) => {}
            Err(e) => return Err(e).context("chown of stdin, stdout or stderr"),
        }
    }
    Ok(())
}

/// Whether it was opened for writing.
fn is_writable(fd: BorrowedFd<'_>) -> bool {
    // A filter that is in force by now may refuse to tell: then the file stays whose it is.
    let flags = fcntl(fd, FcntlArg::F_GETFL).map_or(OFlag::O_RDONLY, OFlag::from_bits_truncate);
    flags.intersects(OFlag::O_WRONLY | OFlag::O_RDWR)
}
