//! Ids and capabilities by raw system calls: a libc's wrappers tell every thread, and there is only one.

use std::io;
use std::path::Path;

use nix::errno::Errno;

use crate::absent::absent;

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn prctl(option: libc::c_int, a: u64, b: u64) -> Result<libc::c_int, Errno> {
    // SAFETY: the options used in this file take integers only.
    Errno::result(unsafe { libc::prctl(option, a as libc::c_ulong, b as libc::c_ulong, 0, 0) })
}

/// What setresuid(2), setresgid(2) and chown(2) take for "leave it as it is".
const NO_ID: u32 = u32::MAX;

/// Supplementary groups.
///
/// # Errors
/// Those of setgroups(2): EPERM also where a user namespace forbids it. EINVAL for -1.
pub fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    if groups.contains(&NO_ID) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: pointer and length describe `groups`; the kernel only reads.
    unsafe {
        // Where there is nothing to change nothing is lost by being forbidden to.
        if groups.is_empty() && libc::getgroups(0, std::ptr::null_mut()) == 0 {
            return Ok(());
        }
        Errno::result(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr())).map(drop)
    }
}

/// Real, effective and saved ids.
///
/// # Errors
/// Those of setresgid(2), setresuid(2). EINVAL for -1, by which they'd change nothing.
pub fn set_ids(uid: u32, gid: u32) -> Result<(), Errno> {
    if [uid, gid].contains(&NO_ID) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: integers only.
    unsafe {
        Errno::result(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        Errno::result(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// Whether permitted capabilities survive giving up uid 0 (PR_SET_KEEPCAPS).
pub fn keep_capabilities(keep: bool) -> Result<(), Errno> {
    prctl(libc::PR_SET_KEEPCAPS, keep.into(), 0).map(drop)
}

/// Drops every capability from the bounding set that `keep` lacks.
///
/// # Errors
/// Those of PR_CAPBSET_DROP, such as EPERM without CAP_SETPCAP, unless there was nothing to drop.
pub fn limit_bounding(keep: u64) -> Result<(), Errno> {
    for cap in (0..64).filter(|cap| keep & (1 << cap) == 0) {
        let Err(refused) = prctl(libc::PR_CAPBSET_DROP, cap, 0) else { continue };
        match prctl(libc::PR_CAPBSET_READ, cap, 0) {
            Ok(0) => {}
            // The kernel knows neither this capability nor any after it: it is the one who says what there is.
            Err(Errno::EINVAL) if refused == Errno::EINVAL => break,
            Ok(_) | Err(_) => return Err(refused),
        }
    }
    Ok(())
}

/// Sets the three classic sets of this process, capset(2).
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> Result<(), Errno> {
    let header = Header { version: CAPABILITY_VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads two `Data`; both structs live across the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// The permitted set of this process, capget(2).
pub fn permitted() -> Result<u64, Errno> {
    let header = Header { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 writes two `Data`; both structs live across the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

/// Clears the ambient set and raises those of `mask` in it that are permitted and inheritable (Linux 4.3); the others
/// are left out, as runc does.
pub fn set_ambient(mask: u64) -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)?;
    for cap in (0..64).filter(|cap| mask & (1 << cap) != 0) {
        match prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, cap) {
            Ok(_) | Err(Errno::EPERM) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Whether this process is in a user namespace that isn't the host's, which has a number of its own (PROC_USER_INIT_INO
/// of linux/proc_ns.h).
///
/// # Errors
/// The link can't be read. A kernel without user namespaces has none.
pub fn in_user_namespace() -> io::Result<bool> {
    let link = absent(std::fs::read_link("/proc/self/ns/user"))?;
    Ok(link.is_some_and(|name| name != Path::new("user:[4026531837]")))
}
