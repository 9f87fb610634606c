//! Where the hierarchies of cgroups are mounted, and where a process is in each (proc(5), cgroups(7)).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::statfs::CGROUP2_SUPER_MAGIC;

use super::{Hierarchy, Layout, Version, holds};
use crate::sys::absent::exists;
use crate::sys::kernfs;

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
    layout(&kernfs::read(Path::new(&path)).with_context(|| format!("read {path}"))?)
}

fn directories(layout: &Layout, which: impl Fn(&Hierarchy) -> bool) -> Vec<PathBuf> {
    let trees = layout.hierarchies.iter().filter(|tree| which(tree));
    trees.map(|tree| tree.mount.join(tree.own.trim_start_matches('/'))).collect()
}

/// The layout as seen from the process whose `/proc/PID/cgroup` reads `own`.
pub(super) fn layout(own: &str) -> Result<Layout> {
    let top = Path::new("/sys/fs/cgroup");
    if holds(top, CGROUP2_SUPER_MAGIC)? {
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

/// The layout that `/proc/self/mountinfo` and `/proc/self/cgroup` tell (proc(5), cgroups(7)).
pub(crate) fn parse(
    mountinfo: &str,
    own: &str,
    v2_controllers: impl Fn(&Path) -> Result<Vec<String>>,
) -> Result<Layout> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for (line, end) in mountinfo.lines().filter_map(|l| l.split_once(" - cgroup")) {
        let mut fields = line.split(' ').skip(3);
        let (Some(root), Some(mount)) = (fields.next(), fields.next()) else { continue };
        let mount = PathBuf::from(unescape(mount));
        let (version, controllers) = if end.starts_with("2 ") {
            (Version::V2, v2_controllers(&mount)?)
        } else {
            let options: Vec<&str> = end.rsplit(' ').next().unwrap_or_default().split(',').collect();
            (Version::V1, v1_controllers(own, &options))
        };
        let known = |h: &Hierarchy| h.version == version && h.controllers == controllers;
        let unusable = version == Version::V1 && controllers.is_empty();
        if unusable || hierarchies.iter().any(known) {
            continue; // a second mount of the same tree
        }
        let root = unescape(root);
        let inside = own_path(own, &controllers_or_v2(version, &controllers)).unwrap_or("/");
        let inside = match inside.strip_prefix(root.trim_end_matches('/')) {
            Some(rest) if rest.starts_with('/') => rest,
            _ => "/",
        };
        hierarchies.push(Hierarchy { version, mount, own: inside.to_owned(), controllers });
    }
    Ok(Layout { hierarchies })
}

/// `/proc/self/cgroup` writes v2's line with an empty list.
fn controllers_or_v2(version: Version, controllers: &[String]) -> Vec<&str> {
    match version {
        Version::V1 => controllers.iter().map(String::as_str).collect(),
        Version::V2 => Vec::new(),
    }
}

/// The `(controllers, path)` of each line `ID:CONTROLLERS:PATH`.
fn own_lines(own: &str) -> impl Iterator<Item = (&str, &str)> {
    own.lines().filter_map(|l| l.split_once(':')?.1.split_once(':'))
}

pub(super) fn own_path<'o>(own: &'o str, controllers: &[&str]) -> Option<&'o str> {
    own_lines(own)
        .find(|(list, _)| list.split(',').filter(|c| !c.is_empty()).eq(controllers.iter().copied()))
        .map(|l| l.1)
}

/// A v1 mount's options name its controllers among others (`rw,cpu,cpuacct,xattr`); the process's own list tells which.
fn v1_controllers(own: &str, options: &[&str]) -> Vec<String> {
    own_lines(own)
        .map(|(list, _)| list)
        .find(|list| !list.is_empty() && list.split(',').all(|c| options.contains(&c)))
        .map(|list| list.split(',').map(str::to_owned).collect())
        .unwrap_or_default()
}

/// mountinfo writes space, tab, newline and backslash as `\` and three octal digits.
pub(crate) fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|o| u8::from_str_radix(o, 8).ok()) {
            Some(byte) => {
                out.push(byte as char);
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}
