//! The system calls that have no safe face in a library.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;

/// Rows and columns of the terminal on stdin; (0, 0) when there is none.
pub(crate) fn window_size() -> Result<(u16, u16), Errno> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` to the pointer, and `size` lives across the call.
    match Errno::result(unsafe { libc::ioctl(0, libc::TIOCGWINSZ, &raw mut size) }) {
        Ok(_) => Ok((size.ws_row, size.ws_col)),
        Err(Errno::ENOTTY) => Ok((0, 0)),
        Err(errno) => Err(errno),
    }
}
