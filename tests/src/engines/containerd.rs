//! A containerd in a sandbox, with an image, and its client `ctr`.

use super::documented::{arguments, write};
use super::{Sandbox, pack};
use crate::{Call, Outcome, Terminal, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Command;

/// Starts containerd in a sandbox; it listens at `containerd.sock`.
pub(super) fn start_daemon(sandbox: &Sandbox) -> Call {
    let at = |name: &str| sandbox.file(name).to_str().expect("a UTF-8 path").to_owned();
    let (root, state, socket) = (at("containerd.root"), at("containerd.state"), at("containerd.sock"));
    let config = format!(
        "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = {socket:?}\n"
    );
    write(&sandbox.file("containerd.toml"), &config);
    let mut daemon = sandbox.command("containerd");
    // Where it finds our shim.
    let shims = crate::shim_program();
    let path = std::env::var("PATH").unwrap_or_default();
    daemon.env("PATH", format!("{path}:{}", shims.parent().expect("a directory").display()));
    daemon.args(["--log-level", "warn"]).arg("--config").arg(sandbox.file("containerd.toml"));
    let daemon = Call::start(daemon, sandbox.file("containerd"));
    wait_for("containerd", || sandbox.file("containerd.sock").exists());
    daemon
}

/// Asks a daemon to end and waits for it.
pub(super) fn stop_daemon(daemon: Call) {
    let _ = kill(Pid::from_raw(daemon.pid()), Signal::SIGTERM);
    let outcome = daemon.finish();
    if std::thread::panicking() {
        eprintln!("a daemon said:\n{}", outcome.stderr);
    }
}

/// A daemon with the image loaded. Everything that it has is removed on drop.
#[derive(Debug)]
pub struct Containerd {
    sandbox: Sandbox,
    daemon: Option<Call>,
}

impl Containerd {
    /// Starts one.
    pub fn start() -> Self {
        let sandbox = Sandbox::new();
        let containerd = Self { daemon: Some(start_daemon(&sandbox)), sandbox };
        let archive = pack(containerd.sandbox.path());
        containerd.call(&["images", "import", archive.to_str().expect("a UTF-8 path")]).ok();
        containerd
    }

    /// A call of `ctr`, to be started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.sandbox.command("ctr");
        command
            .arg("--address")
            .arg(self.sandbox.file("containerd.sock"))
            .args(["--namespace", self.sandbox.name()]);
        command.args(args);
        command
    }

    /// A call of `ctr`, to its end.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Outcome {
        self.sandbox.finish(self.command(args))
    }

    /// `ctr run FLAGS IMAGE ID COMMAND`, with the runtime under test. Every id has the sandbox's name.
    pub fn running(&self, flags: &[&str], id: &str, command: &[&str]) -> Command {
        let mut run = self.command(&["run"]);
        run.args(arguments("ctr run ")).args(flags).args([super::IMAGE, &self.id(id)]).args(command);
        run
    }

    /// The same, to its end.
    #[track_caller]
    pub fn run(&self, flags: &[&str], id: &str, command: &[&str]) -> Outcome {
        self.sandbox.finish(self.running(flags, id, command))
    }

    /// The same in a terminal, not waited for.
    pub fn run_in(&self, terminal: &Terminal, flags: &[&str], id: &str, command: &[&str]) -> Call {
        self.sandbox.start_in(terminal, self.running(flags, id, command))
    }

    /// `ctr task VERB FLAGS ID COMMAND`.
    #[track_caller]
    pub fn task(&self, verb: &[&str], id: &str, command: &[&str]) -> Outcome {
        self.call(&[&["task"], verb, &[&self.id(id)], command].concat())
    }

    /// A container's id.
    pub fn id(&self, id: &str) -> String {
        format!("{id}-{}", self.sandbox.name())
    }

    /// Its sandbox.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn lines(&self, args: &[&str]) -> Vec<String> {
        self.call(args).stdout.split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for id in self.lines(&["task", "list", "--quiet"]) {
            self.call(&["task", "delete", "--force", &id]);
        }
        for id in self.lines(&["container", "list", "--quiet"]) {
            self.call(&["container", "delete", &id]);
        }
        if let Some(daemon) = self.daemon.take() {
            stop_daemon(daemon);
        }
        self.sandbox.close(&[self.id("")]);
    }
}
