//! Session keyrings, keyctl(2).

use std::ffi::CStr;

use nix::errno::Errno;

const JOIN_SESSION_KEYRING: libc::c_int = 1;
const SETPERM: libc::c_int = 5;
/// Everything for who holds it; view, read, search and link for its user: the kernel's default and search, without
/// which a process that changed its ids could not use it (keyrings(7)).
const PERMISSIONS: u32 = 0x3f1b_0000;

/// Joins the session keyring of that name, making it if need be.
///
/// # Errors
/// Those of keyctl(2); ENOSYS where the kernel has no keys.
pub fn join(name: &CStr) -> Result<(), Errno> {
    // SAFETY: `name` is a C string that outlives the call; SETPERM takes integers.
    unsafe {
        let key = Errno::result(libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()))?;
        Errno::result(libc::syscall(libc::SYS_keyctl, SETPERM, key, PERMISSIONS)).map(drop)
    }
}
