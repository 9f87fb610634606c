//! podman in a sandbox, with a store of its own, for root or for an ordinary user.

use super::documented::write;
use super::{Client, Sandbox, documented, pack};
use crate::can_raise_limits;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::fs;
use std::process::Command;

/// A store with the image loaded, whose containers are the runtime's under test. All that it has is removed on drop.
#[derive(Debug)]
pub struct Podman {
    sandbox: Sandbox,
}

impl Podman {
    /// Loads the image into a new store.
    pub fn new() -> Self {
        let podman = Self { sandbox: Sandbox::new() };
        let mut config = documented("/etc/containers/containers.conf");
        if !geteuid().is_root() {
            // Others are in /dev/shm under one name for all of a user's podmans.
            config = config.replace("[engine]\n", "[engine]\nlock_type = \"file\"\n");
        }
        if !can_raise_limits() {
            config += "\n[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        }
        write(&podman.sandbox.file("containers.conf"), &config);
        fs::create_dir(podman.sandbox.file("home")).expect("make the runtime directory");
        let archive = pack(podman.sandbox.path());
        podman.call(&["load", "--quiet", "--input", archive.to_str().expect("a UTF-8 path")]).ok();
        podman
    }
}

impl Client for Podman {
    const OFFLINE: &[&str] = &["--network", "none"];

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.sandbox.command("podman");
        command.env("CONTAINERS_CONF", self.sandbox.file("containers.conf"));
        for (flag, name) in [("root", "root"), ("runroot", "run.podman"), ("tmpdir", "tmp")] {
            command.arg(format!("--{flag}")).arg(self.sandbox.file(name));
        }
        // `run` or `pod create`, whose containers are below the pod's.
        let made = match args {
            ["run", ..] if !args.contains(&"--pod") => 1,
            ["pod", "create", ..] => 2,
            _ => 0,
        };
        let parent = self.sandbox.cgroup_parent().filter(|_| made > 0);
        command.args(&args[..made]).args(parent.map(|parent| format!("--cgroup-parent={parent}")));
        command.args(&args[made..]);
        command
    }

    fn sandbox(&self) -> &Sandbox {
        &self.sandbox
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
        let pause = fs::read_to_string(self.sandbox.file("tmp/pause.pid")).unwrap_or_default();
        if let Ok(pid) = pause.trim().parse() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.sandbox.close(&containers);
    }
}
