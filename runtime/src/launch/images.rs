//! What a dump and a restore have in common: where CRIU's files are, and what a request says of the host's part of a
//! container.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlink};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Pid, Uid, chown};

use super::root::Root;
use crate::container::criu::{Failed, Request, Wishes, complaint};
use crate::plan::path::ContainerPath;
use crate::spec::NamespaceKind;

/// Where the streams that a container was given came from, as runc writes it.
pub(super) const DESCRIPTORS: &str = "descriptors.json";

/// What files of the container are masked with, and its name in the images.
pub(super) const NULL: &str = "/dev/null";

/// The name of a joined namespace in the images: runc's, so that either runtime can restore what the other has saved.
pub(super) fn name(kind: NamespaceKind) -> Option<(&'static str, &'static str)> {
    match kind {
        NamespaceKind::Network => Some(("net", "extRootNetNS")),
        NamespaceKind::Pid => Some(("pid", "extRootPidNS")),
        _ => None,
    }
}

/// Where CRIU works, and how.
pub struct Images {
    /// The directory of the images.
    pub images: PathBuf,
    /// The directory of the log, and of what CRIU keeps there while it works.
    pub work: PathBuf,
    /// CRIU itself.
    pub program: PathBuf,
    /// What the caller wants.
    pub wishes: Wishes,
}

/// Its directories, open while CRIU works, which takes them by their numbers in this process.
pub(super) struct Opened {
    images: File,
    work: File,
}

impl Images {
    /// `owner` is the container's root where that is not the host's.
    /// `whose` is the process in whose mount namespace they are opened: CRIU mounts in its working directory, and the
    /// kernel lets nobody mount in another namespace than their own.
    pub(super) fn open(&self, whose: Pid, owner: Option<u32>) -> Result<Opened> {
        if let Some(uid) = owner {
            share(&self.images, uid).with_context(|| format!("share {}", self.images.display()))?;
        }
        let open = |path: &Path| {
            let real = path.canonicalize()?;
            File::open(
                Path::new(&format!("/proc/{whose}/root")).join(real.strip_prefix("/").unwrap_or(&real)),
            )
        };
        let open = |path: &Path| open(path).with_context(|| format!("open {}", path.display()));
        Ok(Opened { images: open(&self.images)?, work: open(&self.work)? })
    }

    /// An error, with what CRIU's log says where it is CRIU's.
    pub(super) fn explain(&self, reason: anyhow::Error, log: &str) -> anyhow::Error {
        match reason.is::<Failed>() {
            true => anyhow!("{reason}: {}", complaint(&self.work, log)),
            false => reason,
        }
    }

    /// What is asked for in any case, with what is known already.
    pub(super) fn request(&self, opened: &Opened, log: &'static str, known: Request) -> Request {
        Request {
            wishes: self.wishes.clone(),
            images: opened.images.as_raw_fd(),
            work: opened.work.as_raw_fd(),
            log,
            ..known
        }
    }
}

/// CRIU reads images from inside, too: with no rights but those of root's group before the user namespace has its maps,
/// with those of its root afterwards.
fn share(dir: &Path, owner: u32) -> Result<()> {
    chown(dir, Some(Uid::from_raw(owner)), Some(Gid::from_raw(0))).context("chown")?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o750)).context("chmod")
}

/// A directory as the root that the container's paths start from.
pub(super) fn root(dir: &Path) -> Result<Root> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(Root::new(open(dir, flags, Mode::empty()).with_context(|| format!("open {}", dir.display()))?))
}

/// The path without symlinks, as mountpoints are known by; what is not there can't be one. `above` is what the kernel
/// shows before the root's own paths.
pub(super) fn resolved(root: &Root, path: &ContainerPath, above: &Path) -> Result<String> {
    let mut rest = PathBuf::new();
    let mut known = PathBuf::from(path.as_str());
    let found = loop {
        match root.find(&ContainerPath::new(&known.to_string_lossy())) {
            Ok(found) => break found,
            Err(Errno::ENOENT) if known.parent().is_some() => {
                rest = Path::new(known.file_name().unwrap_or_default()).join(rest);
                known.pop();
            }
            Err(e) => return Err(e).with_context(|| format!("open {}", known.display())),
        }
    };
    let link = format!("/proc/self/fd/{}", found.as_fd().as_raw_fd());
    let real = PathBuf::from(readlink(&*link).with_context(|| format!("read {link}"))?);
    let inside = Path::new("/").join(real.strip_prefix(above).unwrap_or(&real));
    Ok(ContainerPath::new(&inside.join(rest).to_string_lossy()).as_str().to_owned())
}
