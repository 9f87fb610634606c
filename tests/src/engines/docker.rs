//! A docker daemon in a sandbox, and its client.

use super::containerd::{start_daemon, stop_daemon};
use super::documented::write;
use super::{Client, Sandbox, documented, pack};
use crate::{Call, wait_for};
use std::process::Command;

/// A daemon with the image loaded, whose default runtime is the one under test. All that it has is removed on drop.
#[derive(Debug)]
pub struct Docker {
    sandbox: Sandbox,
    /// docker's own and, below it, containerd.
    daemons: Vec<Call>,
}

impl Docker {
    /// Starts one without networks, which take it seconds.
    pub fn start() -> Self {
        Self::start_with(&["--bridge", "none", "--iptables=false", "--ip6tables=false"])
    }

    /// Starts one with these flags.
    pub fn start_with(flags: &[&str]) -> Self {
        Self::configured(&documented("/etc/docker/daemon.json"), flags)
    }

    /// Starts one with this daemon.json.
    pub fn configured(config: &str, flags: &[&str]) -> Self {
        let sandbox = Sandbox::new();
        write(&sandbox.file("daemon.json"), config);
        // By itself docker starts one, but gives up on a slow machine.
        let containerd = start_daemon(&sandbox);
        let mut daemon = sandbox.command("dockerd");
        daemon.arg("--containerd").arg(sandbox.file("containerd.sock"));
        for (flag, name) in
            [("config-file", "daemon.json"), ("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid")]
        {
            daemon.arg(format!("--{flag}")).arg(sandbox.file(name));
        }
        daemon.args(sandbox.cgroup_parent().map(|parent| format!("--cgroup-parent={parent}")));
        daemon
            .args(["--log-level", "warn"])
            .arg("--host")
            .arg(format!("unix://{}", sandbox.file("sock").display()))
            .args(flags);
        let docker = Self { daemons: vec![Call::start(daemon, sandbox.file("docker")), containerd], sandbox };
        wait_for("the docker daemon", || docker.sandbox.file("sock").exists());
        let archive = pack(docker.sandbox.path());
        docker.call(&["load", "--input", archive.to_str().expect("a UTF-8 path")]).ok();
        docker
    }
}

impl Client for Docker {
    /// It has none unless it is started with flags for one.
    const OFFLINE: &[&str] = &[];

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.sandbox.command("docker");
        // Not the settings of whoever runs the tests.
        command.arg("--config").arg(self.sandbox.file("client"));
        command.arg("--host").arg(format!("unix://{}", self.sandbox.file("sock").display())).args(args);
        command
    }

    fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let containers = self.containers();
        if !containers.is_empty() {
            let ids: Vec<_> = containers.iter().map(String::as_str).collect();
            self.call(&[&["rm", "--force", "--volumes"], &ids[..]].concat());
        }
        self.daemons.drain(..).for_each(stop_daemon);
        self.sandbox.close(&containers);
    }
}
