//! User namespaces in which nobody is (user_namespaces(7)): for mounts whose owners are mapped.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2, read};

use crate::clone::{Fork, clone3};
use crate::process::exit_now;

/// Makes one, which lives as long as its handle, or a mount that uses it. `map` writes the maps of the process whose
/// number it gets: somebody must be in a namespace while it is made.
///
/// # Errors
/// Those of `map`, and of clone3(2) and open(2).
pub fn make<E: From<Errno>>(map: impl FnOnce(Pid) -> Result<(), E>) -> Result<OwnedFd, E> {
    let (wait, end) = pipe2(OFlag::O_CLOEXEC)?;
    match clone3(CloneFlags::CLONE_NEWUSER.bits() as u32 as u64, None)? {
        Fork::Child => {
            drop(end);
            // It only has to be there; once nobody holds the other end, be it that this program was killed, it goes.
            let _ = read(&wait, &mut [0]);
            exit_now(0)
        }
        Fork::Parent { pid, .. } => {
            let namespace = format!("/proc/{pid}/ns/user");
            let made = map(pid).and_then(|()| {
                open(&*namespace, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(E::from)
            });
            drop(end);
            while waitpid(pid, None) == Err(Errno::EINTR) {}
            made
        }
    }
}
