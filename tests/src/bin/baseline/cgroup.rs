//! The container's cgroups, with the default config's one limit: which devices it may open.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::{must, sys};

const CONTROLLERS: [&str; 9] =
    ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"];

/// The devices that every container may use, as (major, minor); no minor means all of them.
const DEVICES: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(8)),
    (1, Some(7)),
    (5, Some(0)),
    (1, Some(5)),
    (1, Some(9)),
    (5, Some(1)),
    (136, None),
    (5, Some(2)),
];

/// Makes one group per v1 hierarchy that is there, ready for processes. Returns the groups' directories.
pub(crate) fn create_v1(name: &str) -> Vec<String> {
    let mut groups = Vec::with_capacity(CONTROLLERS.len());
    for controller in CONTROLLERS {
        let group = format!("/sys/fs/cgroup/{controller}/{name}");
        if nix::unistd::mkdir(group.as_str(), Mode::from_bits_truncate(0o755)).is_err() {
            continue;
        }
        match controller {
            // An empty cpuset takes no process.
            "cpuset" => {
                let cpus = fs::read_to_string("/sys/fs/cgroup/cpuset/cpuset.cpus").unwrap_or_default();
                put(&group, "cpuset.cpus", &cpus);
                put(&group, "cpuset.mems", "0");
            }
            "devices" => limit_devices_v1(&group),
            _ => {}
        }
        groups.push(group);
    }
    groups
}

/// Makes the one group that v2 needs.
pub(crate) fn create_v2(name: &str) -> Vec<String> {
    let group = format!("/sys/fs/cgroup/{name}");
    must("mkdir the cgroup", nix::unistd::mkdir(group.as_str(), Mode::from_bits_truncate(0o755)));
    vec![group]
}

/// A handle to clone into.
pub(crate) fn open(group: &str) -> OwnedFd {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    must("open the cgroup", nix::fcntl::open(group, flags, Mode::empty()))
}

fn limit_devices_v1(group: &str) {
    put(group, "devices.deny", "a");
    put(group, "devices.allow", "c *:* m");
    put(group, "devices.allow", "b *:* m");
    for (major, minor) in DEVICES {
        match minor {
            Some(minor) => put(group, "devices.allow", &format!("c {major}:{minor} rwm")),
            None => put(group, "devices.allow", &format!("c {major}:* rwm")),
        }
    }
}

/// v2 has no devices file: the same rules as a BPF program on the group.
pub(crate) fn limit_devices_v2(group: BorrowedFd<'_>) {
    let program = sys::device_program(&DEVICES);
    let program = must("load the device program", sys::load(&program));
    must("attach the device program", sys::attach(&program, group));
}

/// Moves the calling process, which has one thread, into every group. Moved from outside, by `cgroup.procs`, it
/// would wait for RCU in each hierarchy: three times as long as all the rest.
pub(crate) fn enter(groups: &[String]) {
    for group in groups {
        put(group, "tasks", "0");
    }
}

/// Removes the groups; the last process may still be leaving one.
pub(crate) fn remove(groups: &[String]) {
    for group in groups {
        for _ in 0..1000 {
            match fs::remove_dir(group) {
                Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                    sleep(Duration::from_micros(100));
                }
                _ => break,
            }
        }
    }
}

/// Writes a cgroup file. A host that lacks it gets a container without it, as with the reference in C.
fn put(group: &str, file: &str, value: &str) {
    let path = format!("{group}/{file}");
    if let Ok(fd) = nix::fcntl::open(path.as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()) {
        let _ = nix::unistd::write(&fd, value.as_bytes());
    }
}
