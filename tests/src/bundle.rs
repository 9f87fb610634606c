//! A bundle to describe: config.json as a value, and a root file system with the probe in it.

use crate::{Scratch, programs};
use nix::unistd::{User, getegid, geteuid};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A bundle in a scratch directory of its own.
#[derive(Debug)]
pub struct Bundle {
    scratch: Scratch,
    /// What will be written as config.json when a container is made.
    pub config: Value,
}

impl Bundle {
    /// A bundle with `runc spec`'s config whose process asks the probe: `Bundle::asking(&["cwd", ",", "env"])`.
    pub fn asking(questions: &[&str]) -> Self {
        let scratch = Scratch::new();
        let bundle = Self { scratch, config: default_spec() };
        for dir in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(bundle.rootfs().join(dir)).expect("make the rootfs");
        }
        let (from, to) = (programs::probe(), bundle.rootfs().join("bin/probe"));
        fs::hard_link(from, &to).unwrap_or_else(|_| install(from, &to));
        let mut args = vec!["/bin/probe"];
        args.extend(questions);
        bundle.with(|c| c["process"]["args"] = json!(args))
    }

    /// A bundle whose process sleeps until it is killed.
    pub fn sleeping() -> Self {
        Self::asking(&["sleep", "1000"])
    }

    /// Changes the config.
    #[must_use]
    pub fn with(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.config);
        self
    }

    /// Adds to the list at a JSON pointer, making the list when it is missing.
    #[must_use]
    pub fn adding(self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a JSON pointer");
        self.with(|config| {
            let list = &mut config.pointer_mut(parent).expect("the parent exists")[key];
            match list {
                Value::Array(list) => list.push(value),
                _ => *list = json!([value]),
            }
        })
    }

    /// Adds a new namespace.
    #[must_use]
    pub fn with_namespace(self, kind: &str) -> Self {
        self.adding("/linux/namespaces", json!({ "type": kind }))
    }

    /// Maps root and the others to 100000 and up, in a user namespace. An ordinary user's bundle is in one already.
    #[must_use]
    pub fn with_user_namespace(self) -> Self {
        if !geteuid().is_root() {
            return self;
        }
        self.with_namespace("user").with(|c| {
            let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
            c["linux"]["uidMappings"] = map.clone();
            c["linux"]["gidMappings"] = map;
        })
    }

    /// Removes a namespace, so that the runtime's own is kept.
    #[must_use]
    pub fn without_namespace(self, kind: &str) -> Self {
        self.with(|c| {
            c["linux"]["namespaces"].as_array_mut().expect("a list").retain(|n| n["type"] != kind);
        })
    }

    /// Makes the root file system writable.
    #[must_use]
    pub fn writable(self) -> Self {
        self.with(|c| c["root"]["readonly"] = json!(false))
    }

    /// The directory for `--bundle`.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// The root file system's directory.
    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// A file on the host, beside the root file system.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Puts a file into the root file system.
    #[must_use]
    pub fn with_file(self, path: &str, content: &str, mode: u32) -> Self {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("not the root")).expect("make the file's directory");
        fs::write(&path, content).expect("write the file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set the file's mode");
        self
    }

    /// Puts a directory into the root file system.
    #[must_use]
    pub fn with_dir(self, path: &str) -> Self {
        fs::create_dir_all(self.rootfs().join(path.trim_start_matches('/'))).expect("make the directory");
        self
    }

    /// Writes config.json as it is now.
    pub fn write(&self) {
        fs::write(self.beside("config.json"), self.config.to_string()).expect("write config.json");
    }
}

/// Copies a program.
///
/// By another process: a file that this one had open for writing could still be so in a child that another thread of
/// it is starting, and such a program cannot be run (ETXTBSY).
pub fn install(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg(from).arg(to).status().expect("run cp");
    assert!(done.success(), "copy {} to {}", from.display(), to.display());
}

/// What `runc spec` prints, but without a terminal; for an ordinary user, in a user namespace whose root they are and
/// whose other ids are their subordinate ones (subuid(5)).
pub fn default_spec() -> Value {
    let mut spec = roots_spec();
    if !geteuid().is_root() {
        spec["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "user" }));
        spec["linux"]["uidMappings"] = ids_of_a_user(geteuid().as_raw(), "/etc/subuid");
        spec["linux"]["gidMappings"] = ids_of_a_user(getegid().as_raw(), "/etc/subgid");
    }
    spec
}

/// What the default bundle's user or group of this number is on the host.
pub fn id_outside(inside: u32) -> u32 {
    let map = &default_spec()["linux"]["gidMappings"];
    match map[1]["hostID"].as_u64() {
        Some(first) if inside > 0 => first as u32 + inside - 1,
        Some(_) => getegid().as_raw(),
        None => inside,
    }
}

fn ids_of_a_user(own: u32, file: &str) -> Value {
    let user = User::from_uid(geteuid()).expect("read the user's name").expect("a user with a name").name;
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("read {file}: {e}"));
    let range = text.lines().find_map(|line| line.strip_prefix(&format!("{user}:"))?.split_once(':'));
    let (first, count) = range.unwrap_or_else(|| panic!("{file} gives {user} no ids"));
    let [first, count] = [first, count].map(|n| n.parse::<u32>().expect("a number"));
    json!([
        { "containerID": 0, "hostID": own, "size": 1 },
        { "containerID": 1, "hostID": first, "size": count },
    ])
}

fn roots_spec() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps, "ambient": caps },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "runc",
        "mounts": default_mounts(),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

fn default_mounts() -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    let quiet = ["nosuid", "noexec", "nodev"];
    json!([
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &quiet),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ])
}
