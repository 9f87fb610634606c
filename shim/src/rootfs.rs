//! The root filesystem that a snapshotter describes: mounted in the bundle, and unmounted with what is below it.

mod layers;
mod options;

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use containerd_shim_protos::types::mount::Mount;
use linux::absent::{absent, metadata};
use linux::mount::{clone_tree, map_ids, set_attributes};
use linux::mountinfo;
use linux::{kernfs, loop_device, user_namespace};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::reaper::Reaper;
use options::MountOptions;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// mount(2) takes a page of data, its end included.
const MAX_DATA: usize = 4095;

/// Kinds of mounts that a program makes, and which: what stands behind the prefix is its own kind.
const HELPERS: [(&str, &str); 2] = [("fuse3.", "mount.fuse3"), ("fuse.", "mount.fuse")];

/// More than a helper says.
const MAX_OUTPUT: u64 = 4096;

/// Mounts all of them, each on the bundle's `rootfs` or what it names in there; none stays if one fails.
///
/// # Errors
/// The mount that failed.
pub async fn attach(mounts: &[Mount], rootfs: &Path, reaper: &Reaper) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(rootfs).with_context(|| format!("make {}", rootfs.display()))?;
    for mount in mounts {
        if let Err(e) = attach_one(mount, rootfs, reaper).await {
            // The first error is the one to report.
            let _ = detach(rootfs);
            return Err(e)
                .with_context(|| format!("mount {} {} on {}", mount.type_, mount.source, rootfs.display()));
        }
    }
    Ok(())
}

async fn attach_one(request: &Mount, rootfs: &Path, reaper: &Reaper) -> Result<()> {
    let target = target(request, rootfs)?;
    for (prefix, helper) in HELPERS {
        if let Some(kind) = request.type_.strip_prefix(prefix) {
            return call(helper, kind, request, &target, reaper).await;
        }
    }
    let mut options = MountOptions::parse(&request.options)?;
    // Open until the mount has hold of them.
    let (source, _devices) = on_devices(request, &mut options)?;
    let maps = options.id_maps.as_ref();
    let namespace = maps.map(|maps| user_namespace::make(|pid| write_maps(pid, maps))).transpose();
    let namespace = namespace.context("make a user namespace of uidmap= and gidmap=")?;
    let is_overlay = request.type_ == "overlay";
    // overlay's list of layers may be longer than a page: below a directory that is common to all, it is shorter.
    let base = match is_overlay && (namespace.is_some() || options.data().len() > MAX_DATA) {
        true => layers::shorten(&mut options),
        false => None,
    };
    let attach = || attach_at(&request.type_, &source, &target, &options);
    match (&base, &namespace) {
        (None, _) => attach(),
        (Some(base), None) => layers::within(base, attach),
        (Some(base), Some(maps)) => {
            layers::within_mapped(base, maps, &rootfs.with_file_name("layers"), attach)
        }
    }?;
    if let (Some(maps), false) = (&namespace, is_overlay) {
        attach_mapped(&target, &target, maps).context("map its owners")?;
    }
    for flags in options.propagation {
        mount(None::<&str>, &target, None::<&str>, flags, None::<&str>).context("change its propagation")?;
    }
    Ok(())
}

fn attach_at(kind: &str, source: &Path, target: &Path, options: &MountOptions) -> Result<()> {
    let kind = Some(kind).filter(|kind| !kind.is_empty() && *kind != "bind");
    let data = options.data();
    if data.len() > MAX_DATA {
        bail!("its options are {} bytes, of which a mount takes {MAX_DATA}", data.len());
    }
    mount(Some(source), target, kind, options.flags, Some(data.as_str()))?;
    if options.flags.contains(MsFlags::MS_BIND) {
        let (set, clear) = options.attributes();
        if set != 0 {
            set_attributes(open_path(target)?, set, clear, 0, false).context("set its attributes")?;
        }
    }
    Ok(())
}

/// Mounts a copy of the mount at `source` on `target`, with the owners of its files mapped as a user namespace says.
/// Private: what is mounted and unmounted below one of the two is no matter of the other's.
fn attach_mapped(source: &Path, target: &Path, namespace: &OwnedFd) -> Result<()> {
    let mount = clone_tree(AT_FDCWD, source, false).context("open_tree")?;
    set_attributes(&mount, 0, 0, libc::MS_PRIVATE, false).context("mount_setattr")?;
    map_ids(&mount, namespace, false).context("mount_setattr")?;
    linux::mount::attach(mount, open_path(target)?).context("move_mount")
}

fn open_path(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}

/// The maps as options have them, `INSIDE:OUTSIDE:COUNT,…`.
fn write_maps(pid: Pid, [users, groups]: &[String; 2]) -> Result<()> {
    for (name, map) in [("uid_map", users), ("gid_map", groups)] {
        let path = format!("/proc/{pid}/{name}");
        let text = map.replace(':', " ").replace(',', "\n");
        kernfs::write(Path::new(&path), &text).with_context(|| format!("write {path}"))?;
    }
    Ok(())
}

/// What to mount: with `loop`, devices for the source and for the files that erofs has beside it (`device=`).
fn on_devices(request: &Mount, options: &mut MountOptions) -> Result<(PathBuf, Vec<File>)> {
    let source = PathBuf::from(&request.source);
    if !options.on_loop {
        return Ok((source, Vec::new()));
    }
    let (read_only, direct) = (options.flags.contains(MsFlags::MS_RDONLY), options.direct);
    let device = |image: &Path| {
        loop_device::make(image, read_only, direct)
            .with_context(|| format!("make a loop device of {}", image.display()))
    };
    let (source, first) = device(&source)?;
    let mut devices = vec![first];
    for option in &mut options.data {
        let Some(image) = option.strip_prefix("device=").map(Path::new) else { continue };
        let kind = metadata(image).with_context(|| format!("stat {}", image.display()))?;
        // What is not there mount(2) will tell.
        if kind.is_some_and(|kind| kind.is_file()) {
            let (path, next) = device(image)?;
            devices.push(next);
            *option = format!("device={}", path.display());
        }
    }
    Ok((source, devices))
}

/// Has a program make the mount. What it leaves running, a FUSE server, is the shim's child, and ends when it is
/// unmounted.
async fn call(helper: &str, kind: &str, request: &Mount, target: &Path, reaper: &Reaper) -> Result<()> {
    let mut output = File::from(memfd_create(c"output", MFdFlags::MFD_CLOEXEC)?);
    let mut command = Command::new(helper);
    command.arg(&request.source).arg(target);
    for option in &request.options {
        command.args(["-o", option]);
    }
    command.args(["-t", kind]).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
    let child = reaper.spawn(&mut command).with_context(|| format!("start {helper}"))?;
    let exit = child.end().await;
    if exit.status == 0 {
        return Ok(());
    }
    let mut text = Vec::new();
    output.rewind()?;
    output.take(MAX_OUTPUT).read_to_end(&mut text)?;
    bail!("{helper} ended with {}: {}", exit.status, String::from_utf8_lossy(&text).trim())
}

/// `target` is relative to the root filesystem, in which nobody but containerd has written yet.
fn target(request: &Mount, rootfs: &Path) -> Result<PathBuf> {
    let inside = request.target.trim_start_matches('/');
    if Path::new(inside).components().any(|part| part.as_os_str() == "..") {
        bail!("its target {:?} leads out of the root filesystem", request.target);
    }
    Ok(if inside.is_empty() { rootfs.to_owned() } else { rootfs.join(inside) })
}

/// Unmounts whatever is mounted on a directory and below it.
///
/// # Errors
/// The kernel refuses. That nothing is mounted there is none.
pub fn detach(rootfs: &Path) -> Result<()> {
    let text = kernfs::read(Path::new(MOUNTINFO)).with_context(|| format!("read {MOUNTINFO}"))?;
    let found = absent(fs::canonicalize(rootfs)).with_context(|| format!("find {}", rootfs.display()))?;
    let Some(rootfs) = found else { return Ok(()) };
    let below: Vec<String> = mountinfo::parse(&text)?
        .iter()
        .map(mountinfo::Mount::target)
        .filter(|target| Path::new(target).starts_with(&rootfs))
        .collect();
    for target in below.iter().rev() {
        match umount2(target.as_str(), MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            // Somebody looks at it: it goes when they have.
            Err(Errno::EBUSY) => umount2(target.as_str(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
                .with_context(|| format!("unmount {target}"))?,
            Err(e) => return Err(e).with_context(|| format!("unmount {target}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_stays_inside() {
        let mount_on = |target: &str| Mount { target: target.to_owned(), ..Default::default() };
        let rootfs = Path::new("/b/rootfs");
        assert_eq!(target(&mount_on(""), rootfs).unwrap(), rootfs);
        assert_eq!(target(&mount_on("/etc"), rootfs).unwrap(), Path::new("/b/rootfs/etc"));
        assert!(target(&mount_on("/../etc"), rootfs).is_err());
    }
}
