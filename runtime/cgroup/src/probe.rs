//! Where the hierarchies of cgroups are mounted, and where a process is in each (proc(5), cgroups(7)).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use linux::absent::{absent, exists};
use linux::kernfs;
use linux::mount::is_on;
use nix::errno::Errno;
use nix::sys::statfs::CGROUP2_SUPER_MAGIC;

use crate::layout::{Hierarchy, Layout, Version, own_path, parse};

const MOUNTS: &str = "/proc/self/mountinfo";

/// The directories of a process's cgroups, but only those of that name: any other is not the container's alone.
///
/// # Errors
/// They can't be told; or the process has ended.
pub fn cgroups_of(pid: i32, name: &str) -> Result<Vec<PathBuf>> {
    let dirs = directories(&layout_of(pid)?, |_| true);
    let scope = format!("ampoule-{name}.scope");
    let is_its = |dir: &PathBuf| dir.file_name().is_some_and(|last| last == name || last == &*scope);
    Ok(dirs.into_iter().filter(is_its).collect())
}

/// The directories of the cgroups of a container that any runtime made, by its init. One at the top of its hierarchy is
/// the host's, not the container's.
///
/// # Errors
/// As those of [`cgroups_of`].
pub fn container_cgroups(pid: i32) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for dir in directories(&layout_of(pid)?, |tree| tree.own != "/") {
        if exists(&dir).with_context(|| format!("stat {}", dir.display()))? {
            found.push(dir);
        }
    }
    Ok(found)
}

/// The directory of a process's v2 cgroup, if there is that hierarchy.
///
/// # Errors
/// As those of [`cgroups_of`].
pub fn cgroup2_of(pid: i32) -> Result<Option<PathBuf>> {
    Ok(directories(&layout_of(pid)?, |tree| tree.version == Version::V2).into_iter().next())
}

fn layout_of(pid: i32) -> Result<Layout> {
    let path = format!("/proc/{pid}/cgroup");
    seen_from(&kernfs::read(Path::new(&path)).with_context(|| format!("read {path}"))?)
}

fn directories(layout: &Layout, which: impl Fn(&Hierarchy) -> bool) -> Vec<PathBuf> {
    let trees = layout.hierarchies.iter().filter(|tree| which(tree));
    trees.map(|tree| tree.mount.join(tree.own.trim_start_matches('/'))).collect()
}

/// A kernel without cgroups has no such file.
const OWN: &str = "/proc/self/cgroup";

/// The layout as this process sees it.
///
/// # Errors
/// What can't be read. A host without cgroups has none, and that is no error.
pub fn layout() -> Result<Layout> {
    seen_from(&own()?)
}

/// The text of this process's `/proc/self/cgroup`; empty where the kernel has no cgroups.
///
/// # Errors
/// It can't be read.
pub fn own() -> Result<String> {
    let text = absent(kernfs::read(Path::new(OWN))).with_context(|| format!("read {OWN}"))?;
    Ok(text.unwrap_or_default())
}

/// The layout as seen from the process whose `/proc/PID/cgroup` reads `own`.
fn seen_from(own: &str) -> Result<Layout> {
    let top = Path::new("/sys/fs/cgroup");
    if is_on(top, CGROUP2_SUPER_MAGIC)? {
        let path = own_path(own, &[]).unwrap_or("/");
        // Only a mount that shows part of the tree needs mountinfo to translate, and there the path leads nowhere.
        let leads = path == "/" || exists(&top.join(&path[1..])).with_context(|| format!("stat {path}"))?;
        if leads {
            let controllers = controllers_of(top)?;
            let tree = Hierarchy { version: Version::V2, mount: top.into(), controllers, own: path.into() };
            return Ok(Layout { hierarchies: vec![tree] });
        }
    }
    let mountinfo = kernfs::read(Path::new(MOUNTS)).with_context(|| format!("read {MOUNTS}"))?;
    parse(&mountinfo, own, controllers_of)
}

fn controllers_of(mount: &Path) -> Result<Vec<String>> {
    let path = mount.join("cgroup.controllers");
    match kernfs::read(&path) {
        Ok(text) => Ok(text.split_whitespace().map(str::to_owned).collect()),
        // Another mount hides it, or it is where we may not go: it is of no use to us.
        Err(Errno::ENOENT | Errno::EACCES) => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
    }
}
