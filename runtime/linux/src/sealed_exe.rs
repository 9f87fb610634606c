//! The program's own file, which processes inside containers can reach as `/proc/PID/exe`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::mount::{clone_tree, set_attributes};

const OWN: &CStr = c"/proc/self/exe";

/// Makes sure that nobody can write to the file behind `/proc/PID/exe` of this process and its children
/// (CVE-2019-5736): unless that is so already, starts the program again, from a read-only copy of the mount that it
/// lies on. Once exec has closed its descriptor the copy is in no mount namespace, where no right inside a container
/// can change or copy it. No byte of the file is copied, and nothing is charged to anybody.
///
/// Who may not copy a mount (an ordinary user) gets a sealed copy in memory instead.
///
/// # Errors
/// Those of the calls that make the copies; the program must not enter a container then.
pub fn protect() -> Result<(), Errno> {
    // Also a host whose programs lie on a read-only file system.
    if statvfs(OWN)?.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(());
    }
    // Whatever is against it, the other way protects as well.
    if let Ok(copy) = clone_tree(AT_FDCWD, OWN, false) {
        set_attributes(&copy, libc::MOUNT_ATTR_RDONLY, 0, 0, false)?;
        return start_again(copy);
    }
    let own = open(OWN, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    // Only files in memory have seals to tell.
    match fcntl(&own, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_truncate) {
        Ok(seals) if seals.contains(SealFlag::F_SEAL_WRITE) => Ok(()),
        _ => start_again(sealed_copy(&own)?),
    }
}

fn sealed_copy(file: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Where vm.memfd_noexec is set, it has to be asked for; before Linux 6.3 it can't be.
    let copy = match memfd_create(c"ampoule", flags | MFdFlags::from_bits_retain(libc::MFD_EXEC)) {
        Err(Errno::EINVAL) => memfd_create(c"ampoule", flags)?,
        other => other?,
    };
    // Beyond RLIMIT_FSIZE it fails, and the program ends with a word: without one it would end by SIGXFSZ. Whoever is started
    // again finds the mask as it was.
    let mask = SigSet::from(Signal::SIGXFSZ).thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    while sendfile(&copy, file, None, 1 << 30)? > 0 {}
    mask.thread_set_mask()?;
    let size = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(size | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL))?;
    Ok(copy)
}

/// Becomes the program in `file`, with the same arguments and environment. Returns only the reason why not.
fn start_again(file: impl AsFd) -> Result<(), Errno> {
    let args: Vec<CString> = std::env::args_os().filter_map(|a| CString::new(a.into_vec()).ok()).collect();
    let args: Vec<_> = args.iter().map(|a| a.as_ptr()).chain([std::ptr::null()]).collect();
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: an empty C string, a null-terminated array of C strings that lives across the call, and the
    // environment as libc keeps it, which nobody changes: there is one thread.
    unsafe {
        unsafe extern "C" {
            static environ: *const *const libc::c_char;
        }
        libc::syscall(libc::SYS_execveat, fd, c"".as_ptr(), args.as_ptr(), environ, libc::AT_EMPTY_PATH);
    }
    Err(Errno::last())
}
