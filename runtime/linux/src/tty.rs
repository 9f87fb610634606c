//! Pseudo-terminals, ioctl_tty(2).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Opens the other end of a pty by its master: no path that somebody may have replaced (Linux 4.13).
pub fn peer(master: impl AsFd) -> Result<OwnedFd, Errno> {
    let fd = master.as_fd().as_raw_fd();
    let unlock: libc::c_int = 0;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCSPTLCK reads one int, TIOCGPTPEER takes flags.
    unsafe {
        Errno::result(libc::ioctl(fd, libc::TIOCSPTLCK as _, &raw const unlock))?;
        let peer = Errno::result(libc::ioctl(fd, libc::TIOCGPTPEER as _, flags))?;
        Ok(OwnedFd::from_raw_fd(peer))
    }
}

/// Makes `tty` the controlling terminal of this session's leader.
pub fn control(tty: impl AsFd) -> Result<(), Errno> {
    // SAFETY: takes an integer.
    Errno::result(unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCSCTTY as _, 0) }).map(drop)
}

/// Rows and columns of a terminal. ENOTTY: it is none.
pub fn size(tty: impl AsFd) -> Result<(u16, u16), Errno> {
    // SAFETY: all zero is a valid winsize; TIOCGWINSZ writes one.
    unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        Errno::result(libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCGWINSZ as _, &raw mut size))?;
        Ok((size.ws_row, size.ws_col))
    }
}

/// Sets rows and columns.
pub fn resize(tty: impl AsFd, (rows, columns): (u16, u16)) -> Result<(), Errno> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    Errno::result(unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCSWINSZ as _, &raw const size) })
        .map(drop)
}
