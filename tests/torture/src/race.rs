//! What is exchanged while a container is made, and what must be so whichever came first.

use crate::subject::Subject;
use ampoule_tests::{Bundle, install};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A word that only files of the host's hold.
pub const SECRET: &str = "a secret of the host's";

/// Two names that are exchanged, and what the container does with the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Race {
    /// `/proc` and a look-alike
    Proc,
    /// `/proc` and a look-alike, with `run`
    ProcOfRun,
    /// `/sys` and a look-alike
    Sys,
    /// `/dev` and a look-alike
    Dev,
    /// `/dev` and a symlink to the host's
    DevLink,
    /// A mount's directory and a symlink to a directory of the host's
    MountDirectory,
    /// The same directory's parent
    MountParent,
    /// A mount's file and a symlink to a file of the host's
    MountFile,
    /// A mount's file and a FIFO
    MountFifo,
    /// A device node, where `/dev` is no mount, and a symlink to a file of the host's
    Device,
    /// `/etc/passwd` and a FIFO
    Passwd,
    /// `/etc/passwd` and a FIFO, with exec
    PasswdOfExec,
    /// The working directory and a symlink to an open descriptor
    Cwd,
    /// The working directory and a symlink to an open descriptor, with exec
    CwdOfExec,
    /// The program and a symlink through an open descriptor to one of the host's
    Program,
    /// The same with exec
    ProgramOfExec,
    /// A directory that a tmpfs is filled from, and a symlink to one of the host's
    CopyUp,
    /// A file in such a directory, and a FIFO
    CopyUpFifo,
    /// The parent of a masked path in the root filesystem, and a symlink to a directory of the host's
    Masked,
    /// The parent of a read-only path in the root filesystem, and the same
    ReadOnly,
}

/// What is raced.
pub struct RacedPaths {
    /// The two names.
    pub pair: [PathBuf; 2],
    /// A directory of the host's, in which nothing may change.
    pub canary: PathBuf,
}

impl Race {
    /// All of them.
    pub fn all() -> &'static [Self] {
        <Self as clap::ValueEnum>::value_variants()
    }

    /// As the command line has it.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).expect("none is hidden").get_name().to_owned()
    }

    /// Whether it is exec that is raced, in a container that runs.
    pub fn is_of_exec(self) -> bool {
        matches!(self, Race::PasswdOfExec | Race::CwdOfExec | Race::ProgramOfExec)
    }

    /// Questions of the report, or one answer, that may rightly depend on who was first: a mount or a mask whose path is a symlink
    /// goes where that leads inside, and who changes the root filesystem later changes what the path means.
    pub fn leaves_open(self) -> &'static [&'static str] {
        match self {
            Race::MountDirectory | Race::MountParent | Race::MountFile | Race::MountFifo => {
                &["cat /proc/self/mountinfo", "ls /"]
            }
            Race::Masked | Race::ReadOnly => &["cat /proc/self/mountinfo"],
            // The directory keeps its place when its name changes.
            Race::CwdOfExec => &["cwd: -[\"/work\"] +[\"/work.other\"]"],
            // A file of the image's is what it is; what is refused of it is its mode.
            Race::Device => &["stat /dev/null"],
            _ => &[],
        }
    }

    /// Changes the bundle, and lays out both names.
    pub fn prepare(self, subject: &mut Subject) -> RacedPaths {
        let bundle = &mut subject.container.bundle;
        let root = bundle.rootfs();
        let canary = canary(bundle);
        let pair = match self {
            Race::Proc | Race::ProcOfRun => look_alike(&root, "proc"),
            Race::Sys => look_alike(&root, "sys"),
            Race::Dev => look_alike(&root, "dev"),
            Race::DevLink => linked(&root, "dev", "/dev".as_ref()),
            Race::MountDirectory | Race::MountParent | Race::MountFile | Race::MountFifo => {
                self.mount_target(bundle, &canary)
            }
            Race::Device => device_node(bundle, &canary),
            Race::Passwd | Race::PasswdOfExec => {
                // The home of who has no entry, too: a FIFO holds none.
                fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").expect("write passwd");
                fifo(&root, "etc/passwd")
            }
            Race::Cwd | Race::CwdOfExec => {
                bundle.config["process"]["cwd"] = json!("/work");
                fs::create_dir_all(root.join("work")).expect("make a directory");
                linked(&root, "work", &by_descriptor(&canary.join("dir")))
            }
            Race::Program | Race::ProgramOfExec => {
                linked(&root, "bin/probe", &by_descriptor(&canary.join("program")))
            }
            Race::CopyUp | Race::CopyUpFifo => self.copied_up(bundle, &canary),
            Race::Masked | Race::ReadOnly => {
                fs::create_dir_all(root.join("etc/keys/dir")).expect("make a directory");
                let list = if self == Race::Masked { "maskedPaths" } else { "readonlyPaths" };
                bundle.config["linux"][list].as_array_mut().expect("a list").push(json!("/etc/keys/dir"));
                linked(&root, "etc/keys", &canary)
            }
        };
        RacedPaths { pair, canary }
    }

    /// What something is mounted on, or its parent.
    fn mount_target(self, bundle: &mut Bundle, canary: &Path) -> [PathBuf; 2] {
        let root = bundle.rootfs();
        let is_dir = matches!(self, Race::MountDirectory | Race::MountParent);
        bind(bundle, "source", if is_dir { "/mnt/d" } else { "/mnt/f" }, is_dir);
        match self {
            Race::MountDirectory => linked(&root, "mnt/d", &canary.join("dir")),
            Race::MountParent => linked(&root, "mnt", canary),
            Race::MountFile => linked(&root, "mnt/f", &canary.join("file")),
            _ => fifo(&root, "mnt/f"),
        }
    }

    /// A directory that a tmpfs is filled from, or a file in it.
    fn copied_up(self, bundle: &mut Bundle, canary: &Path) -> [PathBuf; 2] {
        let root = bundle.rootfs();
        let mount =
            json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] });
        bundle.config["mounts"].as_array_mut().expect("a list").push(mount);
        fs::create_dir_all(root.join("data/dir")).expect("make a directory");
        fs::write(root.join("data/dir/file"), "of the image's").expect("write a file");
        match self {
            Race::CopyUp => linked(&root, "data/dir", &canary.join("dir")),
            _ => fifo(&root, "data/dir/file"),
        }
    }
}

/// A path of the host's, by way of an open descriptor of whoever resolves it: the first after stdin, stdout and stderr.
fn by_descriptor(path: &Path) -> PathBuf {
    let up = "../".repeat(20);
    PathBuf::from(format!("/proc/self/fd/3/{up}{}", path.display().to_string().trim_start_matches('/')))
}

/// A device node in a /dev that is no mount, and a file of the host's.
fn device_node(bundle: &mut Bundle, canary: &Path) -> [PathBuf; 2] {
    let root = bundle.rootfs();
    let is_of_dev =
        |mount: &Value| mount["destination"].as_str().is_some_and(|path| path.starts_with("/dev"));
    bundle.config["mounts"].as_array_mut().expect("a list").retain(|mount| !is_of_dev(mount));
    let mut mknod = Command::new("mknod");
    let made = mknod.arg(root.join("dev/null")).args(["c", "1", "3"]).status();
    assert!(made.is_ok_and(|status| status.success()), "make a device node");
    linked(&root, "dev/null", &canary.join("file"))
}

/// Files of the host's, beside the root filesystem.
fn canary(bundle: &Bundle) -> PathBuf {
    let canary = bundle.beside("canary");
    fs::create_dir_all(canary.join("dir")).expect("make a directory");
    for file in ["file", "dir/file"] {
        fs::write(canary.join(file), SECRET).expect("write a file");
        fs::set_permissions(canary.join(file), fs::Permissions::from_mode(0o600)).expect("set a file's mode");
    }
    install(&bundle.rootfs().join("bin/probe"), &canary.join("program"));
    canary
}

fn names(root: &Path, name: &str) -> [PathBuf; 2] {
    [root.join(name), root.join(format!("{name}.other"))]
}

/// A directory, and one that has files of the same names.
fn look_alike(root: &Path, name: &str) -> [PathBuf; 2] {
    let pair = names(root, name);
    let names = [
        "sys/kernel",
        "sys/vm",
        "sys/fs/cgroup",
        "bus",
        "fs/cgroup",
        "irq",
        "acpi",
        "scsi",
        "asound",
        "firmware",
        "pts",
        "shm",
    ];
    for dir in names {
        fs::create_dir_all(pair[1].join(dir)).expect("make a directory");
    }
    for file in ["kcore", "keys", "timer_list", "sysrq-trigger", "sys/vm/swappiness", "kmsg"] {
        fs::write(pair[1].join(file), "a look-alike's").expect("write a file");
    }
    pair
}

/// What is there, and a symlink.
fn linked(root: &Path, name: &str, to: &Path) -> [PathBuf; 2] {
    let pair = names(root, name);
    symlink(to, &pair[1]).expect("make a symlink");
    pair
}

/// A file, and a FIFO that nobody writes to.
fn fifo(root: &Path, name: &str) -> [PathBuf; 2] {
    let pair = names(root, name);
    mkfifo(&pair[1], Mode::S_IRUSR | Mode::S_IWUSR).expect("make a FIFO");
    pair
}

/// A bind mount of something of the host's that the container may have.
fn bind(bundle: &mut Bundle, source: &str, target: &str, is_dir: bool) {
    let (source, inside) = (bundle.beside(source), bundle.rootfs().join(target.trim_start_matches('/')));
    fs::create_dir_all(inside.parent().expect("not the root")).expect("make a directory");
    for path in [&source, &inside] {
        match is_dir {
            true => fs::create_dir(path),
            false => fs::write(path, "to be mounted"),
        }
        .expect("make what is mounted, and where");
    }
    let mount = json!({ "destination": target, "type": "bind", "source": source, "options": ["bind", "ro"] });
    bundle.config["mounts"].as_array_mut().expect("a list").push(mount);
}
