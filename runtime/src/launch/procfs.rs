//! A procfs of our own to write to: what lies at /proc may be something else (CVE-2019-16884, CVE-2025-52881).

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use linux::kernfs;
use linux::mount::Filesystem;
use linux::path::{RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

/// A handle on a procfs that nobody else can mount over.
pub(super) struct Procfs(OwnedFd);

impl Procfs {
    pub(super) fn open() -> Result<Procfs> {
        let fresh = Filesystem::open(c"proc").and_then(|fs| fs.mount(0));
        let dir = match fresh {
            Ok(dir) => dir,
            // In a user namespace the kernel refuses a fresh one while the host hides parts of its own.
            Err(Errno::EPERM) => {
                let dir = open("/proc", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
                let dir = dir.context("open /proc")?;
                if fstatfs(&dir).context("fstatfs /proc")?.filesystem_type() != PROC_SUPER_MAGIC {
                    anyhow::bail!("/proc is no procfs");
                }
                dir
            }
            Err(e) => return Err(e).context("mount a private procfs"),
        };
        Ok(Procfs(dir))
    }

    /// Writes an attribute of this process's, as the first of these files that the kernel has.
    ///
    /// Which process this is the mount itself knows: it may show the pids of another namespace than this one's.
    pub(super) fn write_own(&self, files: &[&str], value: &str) -> Result<()> {
        let own = readlinkat(self.0.as_fd(), "thread-self").context("readlink /proc/thread-self")?;
        let paths: Vec<_> = files.iter().map(|file| format!("{}/{file}", own.to_string_lossy())).collect();
        let is_there = |path: &&String| self.file(path, OFlag::O_WRONLY).map(drop) != Err(Errno::ENOENT);
        let path = paths.iter().find(is_there).or(paths.last()).context("no file is named")?;
        self.write(path, value)
    }

    /// What a file tells about this process.
    pub(super) fn read_own(&self, file: &str) -> Result<String> {
        let own = readlinkat(self.0.as_fd(), "thread-self").context("readlink /proc/thread-self")?;
        let path = format!("{}/{file}", own.to_string_lossy());
        let text = self.file(&path, OFlag::O_RDONLY).and_then(kernfs::take);
        text.with_context(|| format!("read /proc/{path}"))
    }

    /// Writes one value; the path may cross neither a symlink nor a mount.
    pub(super) fn write(&self, path: &str, value: &str) -> Result<()> {
        let file = self.file(path, OFlag::O_WRONLY).with_context(|| format!("open /proc/{path}"))?;
        nix::unistd::write(&file, value.as_bytes())
            .with_context(|| format!("write {value} to /proc/{path}"))?;
        Ok(())
    }

    fn file(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        let resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
        openat2(self.0.as_fd(), path, flags.bits(), 0, resolve)
    }
}
