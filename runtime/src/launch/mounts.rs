//! In the new process: mounts. Made detached, changed by descriptor, attached by descriptor to what was opened in the root.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use linux::mount::{Filesystem, attach, clone_tree, map_ids, set_attributes};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, fstat};

use super::copy_up;
use super::root::Root;
use crate::plan::path::ContainerPath;
use crate::plan::step::{Mount, Parameter};
use crate::plan::{Attributes, Change};

/// fsconfig(2) takes no longer value.
const MAX_VALUE: usize = 255;

pub(super) fn mount(root: &mut Root, wanted: &Mount) -> Result<()> {
    let target = root.make_mount_point(&wanted.target)?;
    let long = |p: &Parameter| matches!(p, Parameter::Value(_, value) if value.len() > MAX_VALUE);
    if wanted.parameters.iter().any(long) {
        return mount_by_the_old_call(root, wanted, &target);
    }
    let mount = detached(wanted)?;
    // The mount had its own attributes from the start; left are those of the whole tree, and the propagation.
    if wanted.copy_up {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let from = openat(&target, ".", flags, Mode::empty());
        let from = from.with_context(|| format!("open {}", wanted.target))?;
        copy_up::copy(from.as_fd(), mount.as_fd()).with_context(|| format!("copy up {}", wanted.target))?;
    }
    let later = Attributes {
        own: Change { set: if wanted.copy_up { wanted.attributes.own.set } else { 0 }, clear: 0 },
        ..wanted.attributes.clone()
    };
    change(mount.as_fd(), &later)?;
    root.attach(&wanted.target, &mount, &target)
}

fn c(text: &str) -> Result<CString> {
    CString::new(text).with_context(|| format!("{text:?} holds a NUL byte"))
}

/// What the kernel says of a filesystem's parameter beats the bare number.
fn because<T>(fs: &Filesystem, done: Result<T, Errno>, doing: impl FnOnce() -> String) -> Result<T> {
    done.map_err(|e| match fs.log() {
        Some(log) => anyhow!("{}: {e} ({log})", doing()),
        None => anyhow!("{}: {e}", doing()),
    })
}

pub(super) fn set(fs: &Filesystem, parameter: &Parameter) -> Result<()> {
    let done = match parameter {
        Parameter::Flag(key) => fs.flag(&c(key)?),
        Parameter::Value(key, value) => fs.set(&c(key)?, &c(value)?),
    };
    because(fs, done, || format!("set option {parameter}"))
}

fn detached(wanted: &Mount) -> Result<OwnedFd> {
    let kind = &wanted.kind;
    let fs = match Filesystem::open(&c(kind)?) {
        Err(Errno::ENODEV) => {
            bail!("fsopen: {}: this kernel has no filesystem {kind}; is its module loaded?", Errno::ENODEV)
        }
        other => other.context("fsopen")?,
    };
    if !wanted.source.is_empty() {
        because(&fs, fs.set(c"source", &c(&wanted.source)?), || format!("set source {}", wanted.source))?;
    }
    for parameter in &wanted.parameters {
        set(&fs, parameter)?;
    }
    let first = if wanted.copy_up { 0 } else { wanted.attributes.own.set };
    because(&fs, fs.mount(first), || "fsmount".to_owned())
}

/// Options too long for fsconfig(2), as overlay's can be, go through mount(2), on a target that is the working
/// directory: no path is resolved twice. What protects the host is the mount's from the start here, too: who exchanges the target
/// now has another mount found than this one.
fn mount_by_the_old_call(root: &mut Root, wanted: &Mount, target: &OwnedFd) -> Result<()> {
    let data = wanted.parameters.iter().map(|p| match p {
        // A label has commas of its own.
        Parameter::Value(key, value) if key.ends_with("context") => format!("{key}=\"{value}\""),
        p => p.to_string(),
    });
    let data: Vec<String> = data.collect();
    let here =
        open(".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).context("open .")?;
    nix::unistd::fchdir(target).with_context(|| format!("fchdir {}", wanted.target))?;
    let mounted = nix::mount::mount(
        Some(wanted.source.as_str()),
        ".",
        Some(wanted.kind.as_str()),
        flags(wanted.attributes.own.set),
        Some(data.join(",").as_str()),
    );
    nix::unistd::fchdir(&here).context("fchdir back")?;
    mounted.context("mount")?;
    let mount = root.find(&wanted.target).with_context(|| format!("open {}", wanted.target))?;
    change(mount.as_fd(), &wanted.attributes)?;
    root.attached(&wanted.target, &mount, target)
}

/// Attributes as mount(2) spells them.
fn flags(attributes: u64) -> MsFlags {
    let known = [
        (libc::MOUNT_ATTR_RDONLY, MsFlags::MS_RDONLY),
        (libc::MOUNT_ATTR_NOSUID, MsFlags::MS_NOSUID),
        (libc::MOUNT_ATTR_NODEV, MsFlags::MS_NODEV),
        (libc::MOUNT_ATTR_NOEXEC, MsFlags::MS_NOEXEC),
        (libc::MOUNT_ATTR_NOSYMFOLLOW, MsFlags::from_bits_retain(libc::MS_NOSYMFOLLOW)),
    ];
    known.iter().filter(|(attribute, _)| attributes & attribute != 0).map(|(_, flag)| *flag).collect()
}

/// Applies all that a mount's options say about the mount.
pub(super) fn change(mount: BorrowedFd<'_>, attributes: &Attributes) -> Result<()> {
    for (change, recursive) in [(attributes.own, false), (attributes.tree, true)] {
        if !change.is_empty() {
            set_attributes(mount, change.set, change.clear, 0, recursive).context("mount_setattr")?;
        }
    }
    for (propagation, recursive) in &attributes.propagation {
        set_attributes(mount, 0, 0, propagation.flag(), *recursive)
            .with_context(|| format!("mount_setattr {propagation}"))?;
    }
    Ok(())
}

/// Attaches a tree that the runtime cloned on the host; the target becomes what the source is, a directory or a file.
pub(super) fn bind(root: &mut Root, tree: OwnedFd, path: &ContainerPath) -> Result<()> {
    let directory = is_directory(&tree).context("fstat")?;
    let target = if directory { root.make_mount_point(path)? } else { root.make_file(path)? };
    match attach(&tree, &target) {
        // mount(2) says ENOTDIR for it, and docker gives its advice on "not a directory".
        Err(e @ Errno::EINVAL) if !directory && is_directory(&target) == Ok(true) => {
            bail!("move_mount: {e}: the source is not a directory, what is there is one")
        }
        attached => attached.context("move_mount")?,
    }
    root.attached(path, &tree, &target)
}

fn is_directory(file: &OwnedFd) -> Result<bool, Errno> {
    Ok(SFlag::from_bits_truncate(fstat(file)?.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR)
}

/// Changes a mount that stands.
pub(super) fn remount(root: &Root, target: &ContainerPath, attributes: &Attributes) -> Result<()> {
    let mount = root.find(target).with_context(|| format!("open {target}"))?;
    change(mount.as_fd(), attributes)
}

/// A detached copy of a device of the host's. Its inode is the host's: read-only keeps its mode, owner and times, and what is
/// written to it goes to the device all the same.
pub(super) fn clone_device(path: &Path, readonly: bool) -> Result<OwnedFd> {
    let copy = clone_tree(AT_FDCWD, path, false).with_context(|| format!("open_tree {}", path.display()))?;
    // Private, for CRIU can't bring back several parts of one filesystem that are slaves of the host's mount.
    let set = if readonly { libc::MOUNT_ATTR_RDONLY } else { 0 };
    set_attributes(&copy, set, 0, libc::MS_PRIVATE, false).context("mount_setattr")?;
    Ok(copy)
}

/// A detached copy of what the host has at `path`, with those attributes, its owners as the user namespace maps them
/// (and those of the mounts below, if so).
pub(super) fn clone_host(
    path: &Path,
    recursive: bool,
    with: &Attributes,
    id_map: Option<(&OwnedFd, bool)>,
) -> Result<OwnedFd> {
    let tree = clone_tree(AT_FDCWD, path, recursive).context("open_tree")?;
    if let Some((namespace, recursive)) = id_map {
        map_ids(&tree, namespace, recursive).map_err(|e| match e {
            Errno::EINVAL => {
                anyhow!("mount_setattr: {e}: a filesystem here can't map ids, or they are mapped already")
            }
            e => anyhow!("mount_setattr: {e}"),
        })?;
    }
    change(tree.as_fd(), with)?;
    Ok(tree)
}
