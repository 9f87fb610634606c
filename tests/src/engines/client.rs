//! The command line that docker and podman share.

use super::{IMAGE, Sandbox};
use crate::{Call, Cgroups, Outcome, Terminal};
use serde_json::Value;
use std::process::Command;

/// A client of an engine that has the image and containers of its own.
pub trait Client {
    /// The flags of a container without a network, which would take seconds.
    const OFFLINE: &[&str];

    /// A call to be started.
    fn command(&self, args: &[&str]) -> Command;

    /// Where the engine lives.
    fn sandbox(&self) -> &Sandbox;

    /// A call, to its end.
    #[track_caller]
    fn call(&self, args: &[&str]) -> Outcome {
        self.sandbox().finish(self.command(args))
    }

    /// `run --rm FLAGS IMAGE COMMAND`, to its end.
    #[track_caller]
    fn run(&self, flags: &[&str], command: &[&str]) -> Outcome {
        self.call(&[&["run", "--rm"], flags, &[IMAGE], command].concat())
    }

    /// [`Client::run`] without a network.
    #[track_caller]
    fn run_offline(&self, flags: &[&str], command: &[&str]) -> Outcome {
        self.run(&[Self::OFFLINE, flags].concat(), command)
    }

    /// `run --detach --name NAME FLAGS IMAGE COMMAND`.
    #[track_caller]
    fn detached(&self, name: &str, flags: &[&str], command: &[&str]) {
        self.call(&[&["run", "--detach", "--name", name], flags, &[IMAGE], command].concat()).ok();
    }

    /// [`Client::detached`] without a network.
    #[track_caller]
    fn detached_offline(&self, name: &str, flags: &[&str], command: &[&str]) {
        self.detached(name, &[Self::OFFLINE, flags].concat(), command);
    }

    /// [`Client::run_offline`] in a terminal, not waited for.
    fn run_in(&self, terminal: &Terminal, command: &[&str]) -> Call {
        let args = [&["run", "-it", "--rm"], Self::OFFLINE, &[IMAGE], command].concat();
        self.sandbox().start_in(terminal, self.command(&args))
    }

    /// What `inspect` knows of a container.
    #[track_caller]
    fn inspect(&self, name: &str) -> Value {
        let outcome = self.call(&["inspect", name]).ok();
        let mut all: Value = serde_json::from_str(&outcome.stdout).expect("inspect prints JSON");
        all[0].take()
    }

    /// The cgroups of a running container.
    #[track_caller]
    fn cgroups(&self, name: &str) -> Cgroups {
        Cgroups::of(self.inspect(name)["State"]["Pid"].as_i64().expect("a pid") as i32)
    }

    /// The ids of all of its containers.
    fn containers(&self) -> Vec<String> {
        let outcome = self.call(&["ps", "--all", "--quiet", "--no-trunc"]);
        outcome.stdout.split_whitespace().map(str::to_owned).collect()
    }
}
