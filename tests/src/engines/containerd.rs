//! A containerd of a test's own, and its client `ctr`.

use super::documented::{arguments, write};
use super::{Realm, pack};
use crate::{Call, Outcome, Terminal, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Command;

/// Starts containerd in a realm; it listens at `containerd.sock`.
pub(super) fn serve(realm: &Realm) -> Call {
    let at = |name: &str| realm.beside(name).to_str().expect("a UTF-8 path").to_owned();
    let (root, state, socket) = (at("containerd.root"), at("containerd.state"), at("containerd.sock"));
    let config = format!(
        "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = {socket:?}\n"
    );
    write(&realm.beside("containerd.toml"), &config);
    let mut daemon = realm.command("containerd");
    // Where it finds our shim.
    let shims = crate::shim_program();
    let path = std::env::var("PATH").unwrap_or_default();
    daemon.env("PATH", format!("{path}:{}", shims.parent().expect("a directory").display()));
    daemon.args(["--log-level", "warn"]).arg("--config").arg(realm.beside("containerd.toml"));
    let daemon = Call::start(daemon, realm.beside("containerd"));
    wait_for("containerd", || realm.beside("containerd.sock").exists());
    daemon
}

/// Asks a daemon to end and waits for it.
pub(super) fn end(daemon: Call) {
    let _ = kill(Pid::from_raw(daemon.pid()), Signal::SIGTERM);
    let outcome = daemon.finish();
    if std::thread::panicking() {
        eprintln!("a daemon said:\n{}", outcome.stderr);
    }
}

/// A daemon with the image loaded. Everything that it has is removed on drop.
#[derive(Debug)]
pub struct Containerd {
    realm: Realm,
    daemon: Option<Call>,
}

impl Containerd {
    /// Starts one.
    pub fn start() -> Self {
        let realm = Realm::new();
        let containerd = Self { daemon: Some(serve(&realm)), realm };
        let archive = pack(containerd.realm.path());
        containerd.call(&["images", "import", archive.to_str().expect("a UTF-8 path")]).ok();
        containerd
    }

    /// A call of `ctr`, to be started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.realm.command("ctr");
        command
            .arg("--address")
            .arg(self.realm.beside("containerd.sock"))
            .args(["--namespace", self.realm.name()]);
        command.args(args);
        command
    }

    /// A call of `ctr`, to its end.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Outcome {
        self.realm.finish(self.command(args))
    }

    /// `ctr run FLAGS IMAGE ID COMMAND`, with the runtime under test. Every id has the realm's name.
    pub fn running(&self, flags: &[&str], id: &str, command: &[&str]) -> Command {
        let mut run = self.command(&["run"]);
        run.args(arguments("ctr run ")).args(flags).args([super::IMAGE, &self.id(id)]).args(command);
        run
    }

    /// The same, to its end.
    #[track_caller]
    pub fn run(&self, flags: &[&str], id: &str, command: &[&str]) -> Outcome {
        self.realm.finish(self.running(flags, id, command))
    }

    /// The same in a terminal, not waited for.
    pub fn run_in(&self, terminal: &Terminal, flags: &[&str], id: &str, command: &[&str]) -> Call {
        self.realm.start_in(terminal, self.running(flags, id, command))
    }

    /// `ctr task VERB FLAGS ID COMMAND`.
    #[track_caller]
    pub fn task(&self, verb: &[&str], id: &str, command: &[&str]) -> Outcome {
        self.call(&[&["task"], verb, &[&self.id(id)], command].concat())
    }

    /// A container's id.
    pub fn id(&self, id: &str) -> String {
        format!("{id}-{}", self.realm.name())
    }

    /// Its realm.
    pub fn realm(&self) -> &Realm {
        &self.realm
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
            end(daemon);
        }
        self.realm.close(&[self.id("")]);
    }
}
