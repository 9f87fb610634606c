//! flock(2). (nix's guard panics where unlocking fails; std's locks need Rust 1.89.)

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// Takes a lock of an open file, shared or alone, if nobody is in the way; false: somebody is. It ends with the last copy of
/// the descriptor, or by [`unlock`].
///
/// # Errors
/// ENOLCK, or another of flock(2).
pub fn try_lock(file: impl AsFd, alone: bool) -> Result<bool, Errno> {
    let how = if alone { libc::LOCK_EX } else { libc::LOCK_SH };
    match flock(file, how | libc::LOCK_NB) {
        Err(Errno::EWOULDBLOCK) => Ok(false),
        other => other.map(|()| true),
    }
}

/// Waits for a lock of an open file for itself alone. It ends with the last copy of the descriptor, or by [`unlock`].
///
/// # Errors
/// ENOLCK, or another of flock(2).
pub fn lock(file: impl AsFd) -> Result<(), Errno> {
    flock(file, libc::LOCK_EX)
}

/// Gives the lock back, whoever else has a copy of the descriptor.
///
/// # Errors
/// Those of flock(2).
pub fn unlock(file: impl AsFd) -> Result<(), Errno> {
    flock(file, libc::LOCK_UN)
}

fn flock(file: impl AsFd, how: libc::c_int) -> Result<(), Errno> {
    loop {
        // SAFETY: integers only.
        match Errno::result(unsafe { libc::flock(file.as_fd().as_raw_fd(), how) }) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}
