//! A container's cgroups, seen from the host: where they are, what they hold, and their removal.

use crate::{Layout, has_cgroup_v1, wait_for};
use nix::fcntl::{Flock, FlockArg};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The cgroup directories of one process, by controller (v2 under the empty name).
#[derive(Debug)]
pub struct Cgroups(BTreeMap<String, PathBuf>);

impl Cgroups {
    /// Reads where a process is, and finds it below the host's mounts.
    pub fn of(pid: i32) -> Self {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read the process's cgroup");
        let mut found = BTreeMap::new();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());
            for controller in controllers.split(',') {
                if let Some(mount) = mount_of(controller) {
                    found.insert(controller.to_owned(), mount.join(path.trim_start_matches('/')));
                }
            }
        }
        Self(found)
    }

    /// The directory of a controller on v1 or, where v1 doesn't have it, on v2 (`""`); panics when the host has
    /// neither.
    pub fn dir(&self, controller: &str) -> &Path {
        self.0
            .get(controller)
            .or_else(|| self.0.get(""))
            .unwrap_or_else(|| panic!("no {controller:?} hierarchy on this host"))
    }

    /// A file's content, without the last newline.
    pub fn read(&self, controller: &str, file: &str) -> String {
        let path = self.dir(controller).join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
        text.trim_end().to_owned()
    }

    /// Writes a file.
    pub fn write(&self, controller: &str, file: &str, value: &str) {
        let path = self.dir(controller).join(file);
        std::fs::write(&path, value).unwrap_or_else(|e| panic!("write {value} to {}: {e}", path.display()));
    }

    /// Freezes or thaws what is in here, past the runtime.
    pub fn freeze(&self, frozen: bool) {
        if has_cgroup_v1("freezer") {
            self.write("freezer", "freezer.state", if frozen { "FROZEN" } else { "THAWED" });
        } else {
            self.write("", "cgroup.freeze", if frozen { "1" } else { "0" });
        }
    }

    /// Every directory, one for each hierarchy: two controllers may share one.
    pub fn dirs(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.values().collect::<BTreeSet<_>>().into_iter()
    }
}

/// Where a controller's hierarchy is mounted.
pub(crate) fn mount_of(controller: &str) -> Option<PathBuf> {
    let mounts = crate::mountinfo();
    let found = mounts.iter().find(|m| match controller {
        "" => m.kind == "cgroup2",
        _ => m.kind == "cgroup" && m.super_options.contains(controller),
    });
    found.map(|m| PathBuf::from(&m.target))
}

/// Every cgroup, in any hierarchy, with `name` in its directory's path; parents before children.
pub fn cgroups_named(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let roots = crate::mountinfo().into_iter().filter(|m| m.kind.starts_with("cgroup"));
    let mut todo: Vec<PathBuf> = roots.map(|m| m.target.into()).collect();
    while let Some(dir) = todo.pop() {
        // One link each for its name, its dot and its children's dots: most have no children, and a hundred files to list.
        if std::fs::metadata(&dir).map_or(0, |dir| dir.nlink()) <= 2 {
            continue;
        }
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.path().to_string_lossy().contains(name) {
                    found.push(entry.path());
                }
                todo.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// The processes in a cgroup, without those of its children.
pub fn pids_in(dir: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).collect()
}

/// Thaws a cgroup, kills all in it and removes it: for what a runtime left behind, and for tests' own.
pub fn remove_cgroup(dir: &Path) {
    let _ = std::fs::write(dir.join("freezer.state"), "THAWED");
    let _ = std::fs::write(dir.join("cgroup.freeze"), "0");
    wait_for("the cgroup's processes to end", || {
        let pids = pids_in(dir);
        for pid in &pids {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
        }
        pids.is_empty()
    });
    wait_for("the cgroup to be removable", || match std::fs::remove_dir(dir) {
        Err(e) => e.kind() != std::io::ErrorKind::ResourceBusy,
        Ok(()) => true,
    });
}

/// A lock on the host's set of cgroup hierarchies, for all tests that run: the set stays as it is, or only the holder changes
/// it. containerd 1.x looks for the mount of each one that a process is in, and has no metrics of containers that were made
/// while there is one that it can't find.
#[derive(Debug)]
pub struct HierarchyLock {
    /// Set while one comes that was not there.
    has_guest: bool,
    _lock: Flock<File>,
}

impl HierarchyLock {
    /// Nobody changes the set meanwhile.
    pub fn shared() -> Self {
        Self { has_guest: false, _lock: Self::lock(FlockArg::LockShared) }
    }

    /// Waits until nobody relies on the set: [`Layout::Network`]'s hierarchy may come and go.
    pub fn exclusive() -> Self {
        let lock = Self::lock(FlockArg::LockExclusive);
        Self { has_guest: !has_network(), _lock: lock }
    }

    fn lock(how: FlockArg) -> Flock<File> {
        let file =
            File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("open what is locked");
        Flock::lock(file, how).expect("lock the hierarchies")
    }
}

impl Drop for HierarchyLock {
    fn drop(&mut self) {
        // A hierarchy that still had a group when it was unmounted stays until somebody mounts it again.
        for _ in 0..50 {
            if !self.has_guest || !has_network() {
                break;
            }
            let _ = Layout::Network.command("true".as_ref()).status();
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn has_network() -> bool {
    std::fs::read_to_string("/proc/self/cgroup").is_ok_and(|groups| groups.contains("net_cls"))
}
