//! What callers asked to be told about a new process.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::linkat;

use crate::launch::{Launched, send_fd};

/// Where it is to be told.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs, reason = "runc's own flags")]
pub struct PidOutput<'a> {
    pub pid_file: Option<&'a Path>,
    pub pidfd_socket: Option<&'a Path>,
}

impl PidOutput<'_> {
    /// What engines wait for, the pid file last: whoever sees it may rely on all the rest.
    pub(super) fn write(&self, launched: &Launched) -> Result<()> {
        if let Some(socket) = self.pidfd_socket {
            send_fd::send_fd(&launched.pidfd, socket, "pidfd").context("--pidfd-socket")?;
        }
        if let Some(path) = self.pid_file {
            write_whole(path, &launched.pid.to_string())
                .with_context(|| format!("--pid-file {}", path.display()))?;
        }
        Ok(())
    }
}

/// A reader sees all of it or nothing, and whoever else may write to the directory can't have it go elsewhere. It has no
/// name until it is whole, so that nothing is left of it when the runtime is killed meanwhile.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let name = path.file_name().context("is no file name")?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let nameless = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = match open(dir, nameless, Mode::from_bits_truncate(0o644)) {
        Ok(file) => File::from(file),
        // The file system can't, or the kernel doesn't know the flag: then it is a directory that can't be written to.
        Err(Errno::EOPNOTSUPP | Errno::EISDIR) => return write_and_rename(path, name, text),
        Err(e) => return Err(e.into()),
    };
    (&file).write_all(text.as_bytes())?;
    let magic = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |to: &Path| linkat(AT_FDCWD, &*magic, AT_FDCWD, to, AtFlags::AT_SYMLINK_FOLLOW);
    match link(path) {
        Err(Errno::EEXIST) => {
            let beside = beside(path, name);
            link(&beside)?;
            replace(&beside, path)
        }
        other => Ok(other?),
    }
}

/// The same with a name, which is made anew: it follows no link, and waits for no reader. What can't be removed after an
/// error is not told, for the error is.
fn write_and_rename(path: &Path, name: &OsStr, text: &str) -> Result<()> {
    let beside = beside(path, name);
    let file = File::options().write(true).create_new(true).mode(0o644).open(&beside)?;
    (&file).write_all(text.as_bytes()).inspect_err(|_| drop(fs::remove_file(&beside)))?;
    replace(&beside, path)
}

fn replace(beside: &Path, path: &Path) -> Result<()> {
    fs::rename(beside, path).inspect_err(|_| drop(fs::remove_file(beside)))?;
    Ok(())
}

/// A name in the same directory that nobody can know before.
fn beside(path: &Path, name: &OsStr) -> PathBuf {
    // Seeded by the kernel.
    let chance = RandomState::new().build_hasher().finish();
    path.with_file_name(format!(".{}.{chance:016x}", name.to_string_lossy()))
}
