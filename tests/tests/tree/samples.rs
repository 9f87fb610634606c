//! The sample bundles do what they say, and leave nothing.

use ampoule_tests::{Outcome, Runtime, Scratch, ampoule_only, pids_mentioning, require};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const WHY: &str = "the samples are written for it";

/// A copy of a sample bundle, beside the built programs as the original is.
struct Sample {
    scratch: Scratch,
    dir: PathBuf,
}

impl Sample {
    fn of(name: &str) -> Self {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let scratch = Scratch::new();
        let dir = scratch.path().join("bundles").join(name);
        fs::create_dir_all(&dir).unwrap();
        symlink(tree.join("target"), scratch.path().join("target")).unwrap();
        let files = fs::read_dir(tree.join("bundles").join(name)).unwrap().map(|file| file.unwrap().path());
        let files: Vec<PathBuf> = files.filter(|file| file.is_file()).collect();
        let scripts = files.iter().filter(|file| file.extension().is_some_and(|end| end == "sh"));
        for file in &files {
            fs::copy(file, dir.join(file.file_name().unwrap())).unwrap();
        }
        let mut make = Command::new(tree.join("bundles/make-rootfs"));
        Outcome::of(make.arg(dir.join("rootfs")).args(scripts)).ok();
        Self { scratch, dir }
    }

    /// Runs its script; nothing of it is left then.
    fn run(&self, args: &[&str]) -> String {
        let mut command = Command::new(self.dir.join("run"));
        command.args(args).env("AMPOULE", Runtime::get().program()).stdin(Stdio::null());
        let output = Outcome::of(&mut command).ok().stdout;
        let name = self.scratch.path().to_str().unwrap();
        assert_eq!(pids_mentioning(name), Vec::<i32>::new(), "processes are left");
        output
    }
}

#[test]
fn hello_says_where_it_is() {
    let sample = Sample::of("hello");
    let mut command = Command::new(Runtime::get().program());
    command.arg("--root").arg(sample.scratch.path().join("state")).args(["run", "--bundle"]);
    command.arg(&sample.dir).arg(sample.scratch.path().file_name().unwrap());
    let outcome = Outcome::of(&mut command).ok();
    for line in ["Hello from inside a container.", "hostname   hello", "pid 1, 1 in sight", "/ is read-only"]
    {
        assert!(outcome.stdout.contains(line), "no {line:?}: {outcome}");
    }
}

#[test]
fn the_containers_of_a_pod_share_its_namespaces() {
    ampoule_only!(WHY);
    let output = Sample::of("pod").run(&[]);
    for line in
        ["hostname    pod", "process     1  /pause", "httpd", "Served from the container web, hostname pod."]
    {
        assert!(output.contains(line), "no {line:?}: {output}");
    }
}

fn has_bridges() -> bool {
    let script = "ip link add bridge0 type bridge && nft add table ip t && busybox true";
    let made = Command::new("unshare").args(["--net", "sh", "-c", script]).output();
    made.is_ok_and(|output| output.status.success())
}

#[test]
fn containers_on_a_bridge_reach_each_other_and_the_world_beyond() {
    ampoule_only!(WHY);
    require!(has_bridges(), "bridges, nft and busybox");
    let sample = Sample::of("bridge");
    for how in ["netdevices", "hook"] {
        let output = sample.run(&[how]);
        assert!(output.contains("bridge   Served by server, 10.88.0.11/24."), "{how}: {output}");
        // The server beyond sees the host's address, not the container's.
        assert!(output.contains("192.0.2.2] asked."), "{how}: {output}");
    }
}
