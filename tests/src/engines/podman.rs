//! podman with a store of a test's own, of root or of an ordinary user.

use super::documented::write;
use super::{IMAGE, Realm, documented, pack};
use crate::{Call, Outcome, Terminal, can_raise_limits};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;
use std::fs;
use std::process::Command;

/// A store with the image loaded, whose containers are the runtime's under test. All that it has is removed on drop.
#[derive(Debug)]
pub struct Podman {
    realm: Realm,
}

impl Podman {
    /// Loads the image into a new store.
    pub fn new() -> Self {
        let podman = Self { realm: Realm::new() };
        let mut config = documented("/etc/containers/containers.conf");
        if !geteuid().is_root() {
            // Others are in /dev/shm under one name for all of a user's podmans.
            config = config.replace("[engine]\n", "[engine]\nlock_type = \"file\"\n");
        }
        if !can_raise_limits() {
            config += "\n[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        }
        write(&podman.realm.beside("containers.conf"), &config);
        fs::create_dir(podman.realm.beside("home")).expect("make the runtime directory");
        let archive = pack(podman.realm.path());
        podman.call(&["load", "--quiet", "--input", archive.to_str().expect("a UTF-8 path")]).ok();
        podman
    }

    /// A call to be started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.realm.command("podman");
        command.env("CONTAINERS_CONF", self.realm.beside("containers.conf"));
        for (flag, name) in [("root", "root"), ("runroot", "run.podman"), ("tmpdir", "tmp")] {
            command.arg(format!("--{flag}")).arg(self.realm.beside(name));
        }
        // `run` or `pod create`, whose containers are below the pod's.
        let made = match args {
            ["run", ..] if !args.contains(&"--pod") => 1,
            ["pod", "create", ..] => 2,
            _ => 0,
        };
        let parent = self.realm.cgroup_parent().filter(|_| made > 0);
        command.args(&args[..made]).args(parent.map(|parent| format!("--cgroup-parent={parent}")));
        command.args(&args[made..]);
        command
    }

    /// A call, to its end.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Outcome {
        self.realm.finish(self.command(args))
    }

    /// `podman run --rm --network none FLAGS IMAGE COMMAND`, to its end.
    #[track_caller]
    pub fn run(&self, flags: &[&str], command: &[&str]) -> Outcome {
        self.call(&[&["run", "--rm", "--network", "none"], flags, &[IMAGE], command].concat())
    }

    /// `podman run --detach --name NAME FLAGS IMAGE COMMAND`.
    #[track_caller]
    pub fn detached(&self, name: &str, flags: &[&str], command: &[&str]) {
        self.call(&[&["run", "--detach", "--name", name], flags, &[IMAGE], command].concat()).ok();
    }

    /// `podman run -it --rm FLAGS IMAGE COMMAND` in a terminal, not waited for.
    pub fn run_in(&self, terminal: &Terminal, flags: &[&str], command: &[&str]) -> Call {
        let args = [&["run", "-it", "--rm", "--network", "none"], flags, &[IMAGE], command].concat();
        self.realm.start_in(terminal, self.command(&args))
    }

    /// What `podman inspect` knows of a container.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        let outcome = self.call(&["inspect", name]).ok();
        let mut all: Value = serde_json::from_str(&outcome.stdout).expect("inspect prints JSON");
        all[0].take()
    }

    /// Its realm.
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// The ids of all of its containers.
    fn containers(&self) -> Vec<String> {
        let outcome = self.call(&["ps", "--all", "--quiet", "--no-trunc"]);
        outcome.stdout.split_whitespace().map(str::to_owned).collect()
    }
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let containers = self.containers();
        if !containers.is_empty() {
            self.call(&["rm", "--all", "--force", "--volumes", "--time", "0"]);
        }
        // The process that keeps an ordinary user's namespaces.
        let pause = fs::read_to_string(self.realm.beside("tmp/pause.pid")).unwrap_or_default();
        if let Ok(pid) = pause.trim().parse() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.realm.close(&containers);
    }
}
