//! A containerd in the host's own namespaces, whose containers are bundles of the tests, not images: for tests of the shim.
//! `engines::Containerd` is the one that runs an image in a sandbox.

use crate::{Call, Outcome, Scratch, command_line, leftovers, pids_in, pids_mentioning, scratch, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Our runtime, as containerd's configuration and `ctr --runtime` name it (`runtime_type`).
pub const RUNTIME_TYPE: &str = "io.containerd.ampoule.v2";

/// A containerd that is killed on drop, with all its containers; nothing of them may be left.
pub struct HostContainerd {
    scratch: Scratch,
    /// containerd's namespace: in the name of every cgroup and in the command line of every shim.
    pub namespace: String,
    daemon: Option<Child>,
}

/// Whether it is installed, with its client.
pub fn has_containerd() -> bool {
    let there = |name| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok();
    there("containerd") && there("ctr")
}

impl HostContainerd {
    /// Starts it. `target/bin` is where it finds its shims first.
    pub fn start() -> Self {
        let scratch = Scratch::new();
        let dir = scratch.path().display();
        let off = ["grpc.v1.cri", "internal.v1.opt", "snapshotter.v1.btrfs", "snapshotter.v1.zfs"];
        let off: Vec<_> = off.iter().map(|plugin| format!("\"io.containerd.{plugin}\"")).collect();
        let config = format!(
            "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\ndisabled_plugins = [{}]\n\
             [grpc]\naddress = \"{dir}/c.sock\"\n[debug]\nlevel = \"debug\"\n",
            off.join(", ")
        );
        fs::write(scratch.path().join("config.toml"), config).expect("write containerd's configuration");
        let mut containerd = Self { scratch, namespace: scratch::unique_name(), daemon: None };
        containerd.resume();
        containerd
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Starts it, or starts it again.
    pub fn resume(&mut self) {
        let shim = crate::shim_program();
        let path =
            format!("{}:{}", shim.parent().expect("a directory").display(), std::env::var("PATH").unwrap());
        let log = File::options().create(true).append(true).open(self.path("log")).expect("open the log");
        let mut command = Command::new("containerd");
        command.arg("--config").arg(self.path("config.toml")).env("PATH", path).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("the log")).stderr(log);
        self.daemon = Some(command.spawn().expect("start containerd"));
        wait_for("containerd", || self.ctr(&["version"]).code == 0);
    }

    /// Kills it, and nothing else.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().expect("kill containerd");
            daemon.wait().expect("wait for containerd");
        }
    }

    /// A call of ctr, not started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.path("c.sock")).args(["--namespace", &self.namespace]).args(args);
        command.stdin(Stdio::null());
        command
    }

    /// Starts a call of ctr.
    pub fn call(&self, args: &[&str]) -> Call {
        Call::start(self.command(args), self.path(&format!("call-{}", scratch::unique_name())))
    }

    /// Makes a call of ctr.
    pub fn ctr(&self, args: &[&str]) -> Outcome {
        self.call(args).finish()
    }

    /// The arguments of `ctr run`, for a root file system and questions for the probe.
    pub fn run_args<'a>(
        &self,
        flags: &[&'a str],
        rootfs: &'a str,
        id: &'a str,
        questions: &[&'a str],
    ) -> Vec<&'a str> {
        let mut args = vec!["run", "--runtime", RUNTIME_TYPE];
        args.extend(flags);
        args.extend(["--rootfs", rootfs, id, "/bin/probe"]);
        args.extend(questions);
        args
    }

    /// The pids of the shims.
    pub fn shims(&self) -> Vec<i32> {
        let is_shim = |pid: &i32| command_line(*pid).contains("containerd-shim");
        pids_mentioning(&self.namespace).into_iter().filter(is_shim).collect()
    }

    /// What a task is said to be doing: `RUNNING`; `none` when there is none.
    pub fn status(&self, id: &str) -> String {
        let list = self.ctr(&["task", "ls"]).stdout;
        let line = list
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|w| w.first() == Some(&id));
        line.and_then(|words| words.get(2).map(|w| (*w).to_owned())).unwrap_or_else(|| "none".to_owned())
    }

    /// Where it keeps its containers' bundles.
    fn bundles(&self) -> PathBuf {
        self.path("state/io.containerd.runtime.v2.task").join(&self.namespace)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Everything of its containers that the host still has.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = leftovers::processes(&self.namespace);
        left.retain(|line| !line.contains(" ctr "));
        left.extend(leftovers::cgroups(&self.namespace));
        // The group above the containers' is containerd's.
        let own = format!("/{}", self.namespace);
        left.retain(|line| !(line.starts_with("cgroup ") && line.ends_with(&own)));
        left.extend(leftovers::mounts(self.scratch.path()));
        left.extend(leftovers::entries("bundle", &self.bundles()));
        left
    }
}

impl Drop for HostContainerd {
    fn drop(&mut self) {
        self.kill();
        leftovers::kill_processes(&self.namespace);
        let groups = || crate::cgroups_named(&self.namespace);
        for dir in groups() {
            for pid in pids_in(&dir) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while !groups().is_empty() && std::time::Instant::now() < end {
            groups().iter().rev().for_each(|dir| drop(fs::remove_dir(dir)));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // What a killed shim listened at, and the fifos of a ctr that was killed.
        for bundle in fs::read_dir(self.bundles()).into_iter().flatten().flatten() {
            let address = fs::read_to_string(bundle.path().join("address")).unwrap_or_default();
            let _ = fs::remove_file(address.trim_start_matches("unix://"));
        }
    }
}
