//! Which pid namespace a process is in (pid_namespaces(7)).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::Pid;

/// ioctl_ns(2), Linux 4.9.
const NS_GET_PARENT: libc::c_ulong = 0xb702;

/// A namespace that stays what it is as long as this is there.
pub struct PidNamespace(OwnedFd);

impl PidNamespace {
    /// The one that a process is in.
    ///
    /// # Errors
    /// ENOENT, ESRCH: the process has ended. EACCES: it may not be looked at.
    pub fn of(pid: Pid) -> Result<PidNamespace, Errno> {
        let path = format!("/proc/{pid}/ns/pid");
        open(&*path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map(PidNamespace)
    }

    /// Whether a namespace is this one or lies inside.
    ///
    /// # Errors
    /// Those of ioctl_ns(2).
    pub fn contains(&self, other: PidNamespace) -> Result<bool, Errno> {
        let this = fstat(&self.0)?;
        let mut inner = other;
        loop {
            let stat = fstat(&inner.0)?;
            if (stat.st_dev, stat.st_ino) == (this.st_dev, this.st_ino) {
                return Ok(true);
            }
            match inner.parent()? {
                Some(above) => inner = above,
                None => return Ok(false),
            }
        }
    }

    /// None: it is our own, or not inside that.
    fn parent(&self) -> Result<Option<PidNamespace>, Errno> {
        // SAFETY: integers only.
        match Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), NS_GET_PARENT as _) }) {
            // SAFETY: the kernel returned a fresh descriptor (close-on-exec) that only we know.
            Ok(fd) => Ok(Some(PidNamespace(unsafe { OwnedFd::from_raw_fd(fd) }))),
            Err(Errno::EPERM) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_one_contains_itself() {
        let own = || PidNamespace::of(nix::unistd::getpid()).unwrap();
        assert!(own().contains(own()).unwrap());
        assert_eq!(PidNamespace::of(Pid::from_raw(i32::MAX)).err(), Some(Errno::ENOENT));
    }
}
