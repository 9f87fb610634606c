//! In the new process: the container's terminal.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use linux::mount::{attach, clone_tree};
use linux::tty;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, fstatfs};

use super::root::Root;
use crate::plan::path::ContainerPath;

/// linux/magic.h
const DEVPTS_SUPER_MAGIC: FsType = FsType(0x1cd1);

/// Opens a pty of the container's own devpts, binds its peer to /dev/console and makes it stdin, stdout, stderr and the
/// controlling terminal. Returns the pty master.
pub(super) fn open_console(root: &Root, size: Option<(u16, u16)>, node: bool) -> Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = match root.open(&ContainerPath::new("/dev/pts/ptmx"), flags) {
        Ok(master) if fstatfs(&master).context("fstatfs")?.filesystem_type() == DEVPTS_SUPER_MAGIC => master,
        Ok(_) => bail!("/dev/pts/ptmx is not of a devpts"),
        // Without a devpts of its own the container gets one of the host's.
        Err(Errno::ENOENT) => open("/dev/ptmx", flags, Mode::empty()).context("open /dev/ptmx")?,
        Err(e) => return Err(e).context("open /dev/pts/ptmx"),
    };
    let peer = tty::peer(&master).context("TIOCGPTPEER")?;
    if let Some(size) = size {
        tty::resize(&master, size).context("TIOCSWINSZ")?;
    }
    if node {
        let target = root.make_file(&ContainerPath::new("/dev/console"))?;
        let copy = clone_tree(peer.as_fd(), "", false).context("open_tree")?;
        attach(copy, target).context("move_mount on /dev/console")?;
    }
    nix::unistd::dup2_stdin(&peer).context("dup2")?;
    nix::unistd::dup2_stdout(&peer).context("dup2")?;
    nix::unistd::dup2_stderr(&peer).context("dup2")?;
    tty::control(&peer).context("TIOCSCTTY")?;
    Ok(master)
}
