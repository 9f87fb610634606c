//! What the host still has of a container, a shim or an engine, by the unique name that all of it carries: told in lines for
//! a failure, and removed by hand.

use crate::{cgroups_named, command_line, mountinfo, pids_mentioning, remove_cgroup};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;

/// `process PID COMMAND`, of each with the name in its command line or cgroup.
pub fn processes(name: &str) -> Vec<String> {
    let pids = pids_mentioning(name).into_iter();
    pids.map(|pid| format!("process {pid} {}", command_line(pid))).collect()
}

/// `cgroup PATH`, of each with the name in its path.
pub fn cgroups(name: &str) -> Vec<String> {
    cgroups_named(name).iter().map(|dir| format!("cgroup {}", dir.display())).collect()
}

/// `mount TARGET`, of each at or below a directory.
pub fn mounts(directory: &Path) -> Vec<String> {
    let below = mountinfo().into_iter().filter(|mount| Path::new(&mount.target).starts_with(directory));
    below.map(|mount| format!("mount {}", mount.target)).collect()
}

/// `KIND PATH`, of each entry of a directory. One that isn't there has none.
pub fn entries(kind: &str, directory: &Path) -> Vec<String> {
    let all = fs::read_dir(directory).into_iter().flatten().flatten();
    all.map(|entry| format!("{kind} {}", entry.path().display())).collect()
}

/// Kills all processes with the name.
pub fn kill_processes(name: &str) {
    for pid in pids_mentioning(name) {
        // It may have ended since.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Removes all cgroups with the name, children first, with what is in them.
pub fn remove_cgroups(name: &str) {
    cgroups_named(name).iter().rev().for_each(|dir| remove_cgroup(dir));
}
