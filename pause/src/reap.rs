//! Taking children that have ended.

use crate::sys;

/// Takes every child that has ended, and tells its pid and wait status. Returns whether any child is left.
pub fn all(mut tell: impl FnMut(i32, u32)) -> bool {
    let mut status = 0;
    loop {
        match sys::reap(&mut status) {
            Ok(0) => return true,
            Ok(pid) => tell(pid, status),
            // ECHILD: nothing else can go wrong.
            Err(_) => return false,
        }
    }
}

/// The exit code of a wait status, 128 + signal when a signal ended it.
pub fn exit_code(status: u32) -> u8 {
    match status & 0x7f {
        0 => (status >> 8) as u8,
        signal => 128 + signal as u8,
    }
}
