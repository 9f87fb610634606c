//! Groups that a container has made in its own, deeper than a path can tell.

use ampoule_tests::{
    Bundle, Container, Layout, NO_PROC, ampoule_only, cgroups_named, is_root, pids_in, require, wait_for,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Pid, UnlinkatFlags, unlinkat, write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// A chain of groups, removed on drop.
struct Chain {
    groups: Vec<OwnedFd>,
    name: String,
}

impl Chain {
    /// A hundred, of which forty would fill a path.
    fn in_group(top: &Path) -> Self {
        let name = "g".repeat(100);
        let how = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut groups = vec![open(top, how, Mode::empty()).unwrap()];
        for _ in 0..100 {
            let above = groups.last().unwrap();
            mkdirat(above, &*name, Mode::S_IRWXU).unwrap();
            let next = openat(above, &*name, how, Mode::empty()).unwrap();
            groups.push(next);
        }
        Self { groups, name }
    }

    /// Moves a process into the deepest.
    fn take(&self, pid: i32) {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let procs = openat(self.groups.last().unwrap(), "cgroup.procs", flags, Mode::empty()).unwrap();
        write(procs, pid.to_string().as_bytes()).unwrap();
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        for group in self.groups.iter().rev().skip(1) {
            wait_for("a group to go", || {
                unlinkat(group, &*self.name, UnlinkatFlags::RemoveDir) != Err(Errno::EBUSY)
            });
        }
    }
}

/// A container in the host's pid namespace, where killing its init is not killing its child; the child; and a chain in each
/// hierarchy in which the child is the deepest.
fn deep(layout: Layout) -> (Container, i32, Vec<Chain>) {
    let bundle = Bundle::asking(&["spawn", "1", ",", "sleep", "1000"]).without_namespace("pid");
    let container = Container::on(layout, bundle);
    container.launch();
    container.wait_output("sleeping");
    let cgroups = container.cgroups();
    let (init, all) = (container.pid(), cgroups.dirs().cloned());
    let all: Vec<_> = all.filter(|dir| dir.to_string_lossy().contains(&container.id)).collect();
    let child = pids_in(&all[0]).into_iter().find(|pid| *pid != init).unwrap();
    let mut chains = Vec::new();
    // A new cpuset takes nobody before it was told which processors it has.
    for dir in all.iter().filter(|dir| !dir.starts_with("/sys/fs/cgroup/cpuset")) {
        let chain = Chain::in_group(dir);
        chain.take(child);
        chains.push(chain);
    }
    assert!(!chains.is_empty());
    (container, child, chains)
}

#[test]
fn forced_delete_ends_what_is_in_them_and_removes_them() {
    require!(is_root(), "root", named NO_PROC);
    ampoule_only!("runc 1.1 says that the name is too long");
    for layout in Layout::all() {
        let (container, child, chains) = deep(layout);
        let outcome = container.delete_force();
        if outcome.code != 0 {
            // For the clean-up.
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        drop(chains);
        outcome.ok();
        assert_eq!(cgroups_named(&container.id), Vec::<std::path::PathBuf>::new());
        assert_eq!(container.leftovers(), [""; 0]);
    }
}

#[test]
fn ps_and_kill_reach_what_is_in_them() {
    require!(is_root(), "root", named NO_PROC);
    ampoule_only!("runc 1.1 says that the name is too long");
    for layout in Layout::all() {
        let (container, child, chains) = deep(layout);
        let ps = container.call(&["ps", "--format", "json", &container.id]);
        let killed = container.call(&["kill", "--all", &container.id, "KILL"]);
        if ps.code != 0 || killed.code != 0 {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        wait_for("the child's end", || !std::fs::exists(format!("/proc/{child}/exe")).unwrap_or(false));
        drop(chains);
        assert!(ps.ok().stdout.contains(&child.to_string()));
        killed.ok();
    }
}

#[test]
fn many_beside_each_other_are_seen_once_and_removed() {
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let cgroups = container.cgroups();
    let dirs = cgroups.dirs().filter(|dir| dir.to_string_lossy().contains(&container.id));
    for dir in dirs {
        for n in 0..300 {
            std::fs::create_dir(dir.join(n.to_string())).unwrap();
            if n % 10 == 0 {
                std::fs::create_dir(dir.join(format!("{n}/inside"))).unwrap();
            }
        }
    }
    let pids = container.call(&["ps", "--format", "json", &container.id]).ok().stdout;
    assert_eq!(pids.trim(), format!("[{}]", container.pid()));
    container.delete_force().ok();
    assert_eq!(cgroups_named(&container.id), Vec::<std::path::PathBuf>::new());
}
