//! The hierarchies of cgroups that a host has, and where a process is in each: as a plan may know them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use linux::mountinfo;

/// The mounted cgroup hierarchies. v1, v2 and the hybrid of both are the same thing here: each controller lives in
/// one of them, and that one's version says how it is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// In the order of their mounts.
    pub hierarchies: Vec<Hierarchy>,
}

/// One tree of cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// How its files are spelt.
    pub version: Version,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The controllers that live in it: `cpu`, `memory`, or a v1 name such as `name=systemd`.
    pub controllers: Vec<String>,
    /// This process's own cgroup, seen from `mount`; begins with `/`.
    pub own: String,
}

/// The two generations of the interface (cgroups(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub enum Version {
    V1,
    V2,
}

impl Layout {
    /// What a current distribution mounts.
    pub fn pure_v2() -> Self {
        let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];
        Layout { hierarchies: vec![Hierarchy::new(Version::V2, "/sys/fs/cgroup", &controllers)] }
    }

    /// What a distribution of the last decade mounts.
    pub fn pure_v1() -> Self {
        let trees: [&[&str]; 11] = [
            &["cpuset"],
            &["cpu", "cpuacct"],
            &["memory"],
            &["devices"],
            &["freezer"],
            &["net_cls", "net_prio"],
            &["blkio"],
            &["hugetlb"],
            &["pids"],
            &["rdma"],
            &["name=systemd"],
        ];
        let dir = |c: &[&str]| format!("/sys/fs/cgroup/{}", c.join(",").trim_start_matches("name="));
        Layout { hierarchies: trees.iter().map(|c| Hierarchy::new(Version::V1, &dir(c), c)).collect() }
    }

    /// v1 with a v2 tree beside it that holds no controller: systemd's hybrid mode.
    pub fn hybrid() -> Self {
        let mut layout = Layout::pure_v1();
        layout.hierarchies.push(Hierarchy::new(Version::V2, "/sys/fs/cgroup/unified", &[]));
        layout
    }
}

impl Hierarchy {
    fn new(version: Version, mount: &str, controllers: &[&str]) -> Self {
        let controllers = controllers.iter().map(|c| (*c).to_owned()).collect();
        Hierarchy { version, mount: mount.into(), controllers, own: "/".into() }
    }
}

/// The layout that `/proc/self/mountinfo` and `/proc/self/cgroup` tell (proc(5), cgroups(7)).
/// `v2_controllers` tells the controllers of a v2 mount.
///
/// # Errors
/// Those of `v2_controllers`, and of a text that the kernel doesn't write.
pub fn parse(
    mountinfo: &str,
    own: &str,
    v2_controllers: impl Fn(&Path) -> Result<Vec<String>>,
) -> Result<Layout> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for found in mountinfo::parse(mountinfo)? {
        let mount = PathBuf::from(found.target());
        let (version, controllers) = match found.kind {
            "cgroup2" => (Version::V2, v2_controllers(&mount)?),
            "cgroup" => {
                let options: Vec<&str> = found.options.split(',').collect();
                (Version::V1, v1_controllers(own, &options))
            }
            _ => continue,
        };
        let known = |h: &Hierarchy| h.version == version && h.controllers == controllers;
        let unusable = version == Version::V1 && controllers.is_empty();
        if unusable || hierarchies.iter().any(known) {
            continue; // a second mount of the same tree
        }
        let root = found.root();
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

/// The cgroup that a text of `/proc/PID/cgroup` names for a hierarchy's controllers: none for v2's.
pub fn own_path<'o>(own: &'o str, controllers: &[&str]) -> Option<&'o str> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
36 31 0:33 /docker/x /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
38 31 0:34 / /mnt/again rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/my\\040cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate
42 31 0:39 / /sys/fs/cgroup/gone rw,relatime - cgroup cgroup rw,freezer
";
    const OWN: &str =
        "4:memory:/docker/x/y\n2:cpu,cpuacct:/a\n1:name=systemd:/user.slice\n0::/user.slice/u\n";

    #[test]
    fn each_controller_is_found_in_its_tree_with_our_own_place_in_it() {
        let layout = parse(MOUNTINFO, OWN, |_| Ok(vec!["hugetlb".into()])).unwrap();
        let tree = |version, mount: &str, controllers: &[&str], own: &str| Hierarchy {
            own: own.into(),
            ..Hierarchy::new(version, mount, controllers)
        };
        assert_eq!(
            layout.hierarchies,
            [
                tree(Version::V1, "/sys/fs/cgroup/cpu,cpuacct", &["cpu", "cpuacct"], "/a"),
                tree(Version::V1, "/sys/fs/cgroup/memory", &["memory"], "/y"),
                tree(Version::V1, "/sys/fs/cgroup/systemd", &["name=systemd"], "/user.slice"),
                tree(Version::V2, "/sys/fs/my cgroup", &["hugetlb"], "/user.slice/u"),
            ]
        );
    }

    #[test]
    fn what_is_absent_is_empty_and_what_cannot_be_read_is_an_error() {
        assert_eq!(parse("", "", |_| Ok(Vec::new())).unwrap(), Layout::default());
        assert!(parse(MOUNTINFO, OWN, |_| anyhow::bail!("no")).is_err());
    }
}
