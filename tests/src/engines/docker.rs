//! A docker daemon of a test's own.

use super::containerd::{end, serve};
use super::documented::write;
use super::{IMAGE, Realm, documented, pack};
use crate::{Call, Outcome, Terminal, wait_for};
use serde_json::Value;
use std::process::Command;

/// A daemon with the image loaded, whose default runtime is the one under test. All that it has is removed on drop.
#[derive(Debug)]
pub struct Docker {
    realm: Realm,
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
        let realm = Realm::new();
        write(&realm.beside("daemon.json"), config);
        // By itself docker starts one, but gives up on a slow machine.
        let containerd = serve(&realm);
        let mut daemon = realm.command("dockerd");
        daemon.arg("--containerd").arg(realm.beside("containerd.sock"));
        for (flag, name) in
            [("config-file", "daemon.json"), ("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid")]
        {
            daemon.arg(format!("--{flag}")).arg(realm.beside(name));
        }
        daemon.args(realm.cgroup_parent().map(|parent| format!("--cgroup-parent={parent}")));
        daemon
            .args(["--log-level", "warn"])
            .arg("--host")
            .arg(format!("unix://{}", realm.beside("sock").display()))
            .args(flags);
        let docker = Self { daemons: vec![Call::start(daemon, realm.beside("docker")), containerd], realm };
        wait_for("the docker daemon", || docker.realm.beside("sock").exists());
        let archive = pack(docker.realm.path());
        docker.call(&["load", "--input", archive.to_str().expect("a UTF-8 path")]).ok();
        docker
    }

    /// A call of its client, to be started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.realm.command("docker");
        // Not the settings of whoever runs the tests.
        command.arg("--config").arg(self.realm.beside("client"));
        command.arg("--host").arg(format!("unix://{}", self.realm.beside("sock").display())).args(args);
        command
    }

    /// A call of its client, to its end.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Outcome {
        self.realm.finish(self.command(args))
    }

    /// `docker run --rm FLAGS IMAGE COMMAND`, to its end.
    #[track_caller]
    pub fn run(&self, flags: &[&str], command: &[&str]) -> Outcome {
        self.call(&[&["run", "--rm"], flags, &[IMAGE], command].concat())
    }

    /// `docker run --detach --name NAME FLAGS IMAGE COMMAND`.
    #[track_caller]
    pub fn detached(&self, name: &str, flags: &[&str], command: &[&str]) {
        self.call(&[&["run", "--detach", "--name", name], flags, &[IMAGE], command].concat()).ok();
    }

    /// `docker run -it --rm IMAGE COMMAND` in a terminal, not waited for.
    pub fn run_in(&self, terminal: &Terminal, flags: &[&str], command: &[&str]) -> Call {
        let args = [&["run", "-it", "--rm"], flags, &[IMAGE], command].concat();
        self.realm.start_in(terminal, self.command(&args))
    }

    /// What `docker inspect` knows of a container.
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

impl Drop for Docker {
    fn drop(&mut self) {
        let containers = self.containers();
        if !containers.is_empty() {
            let ids: Vec<_> = containers.iter().map(String::as_str).collect();
            self.call(&[&["rm", "--force", "--volumes"], &ids[..]].concat());
        }
        self.daemons.drain(..).for_each(end);
        self.realm.close(&containers);
    }
}
