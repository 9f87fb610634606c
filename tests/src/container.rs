//! A container under test: calls of the runtime, and the promise that nothing is left behind.

use crate::{
    Bundle, Call, Cgroups, Layout, Outcome, Runtime, Terminal, has_only_cgroup_v2, leftovers, place, scratch,
    wait_for,
};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a container of `runc spec`'s config, changed by `change`, to its end; the probe's answer to each of these questions.
#[track_caller]
pub fn ask(change: impl FnOnce(Bundle) -> Bundle, questions: &[&[&str]]) -> Vec<Value> {
    Container::of(change(Bundle::asking(&questions.join(&",")))).run().ok().answers()
}

/// A container that is force-deleted on drop, after which nothing of it may be left.
#[derive(Debug)]
pub struct Container {
    /// The container's id, unique among everything that runs at the same time.
    pub id: String,
    /// Its bundle.
    pub bundle: Bundle,
    layout: Layout,
}

impl Container {
    /// A container of this bundle; nothing is made yet.
    pub fn of(bundle: Bundle) -> Self {
        Self::on(Layout::Host, bundle)
    }

    /// A container on a host with this cgroup layout.
    pub fn on(layout: Layout, bundle: Bundle) -> Self {
        let is_the_hosts = layout == Layout::PureV2 && has_only_cgroup_v2();
        let layout = if is_the_hosts { Layout::Host } else { layout };
        let root = nix::unistd::geteuid().is_root();
        assert!(root || place() != "host", "the integration tests make containers: run them as root");
        // Here, where a panic finds no container to clean up.
        Runtime::get();
        fs::create_dir(bundle.beside("state")).expect("make the runtime's state directory");
        Self { id: scratch::unique_name(), bundle, layout }
    }

    /// The runtime's `--root`, which only this container uses.
    pub fn state_root(&self) -> PathBuf {
        self.bundle.beside("state")
    }

    /// A call of the runtime, not started: `command(&["kill", "--all"])`. The id is not added.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.layout.command(Runtime::get().program());
        command
            .arg("--root")
            .arg(self.state_root())
            .args(Runtime::get().flags())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Starts a call with stdout and stderr in files: a pipe would stay open as long as the container
    /// does.
    pub fn spawn(&self, command: Command, name: &str) -> Call {
        Call::start(command, self.bundle.beside(name))
    }

    /// Makes a call and waits for its end.
    pub fn call(&self, args: &[&str]) -> Outcome {
        let name = args.iter().find(|a| !a.starts_with('-')).copied().unwrap_or("call");
        self.spawn(self.command(args), name).finish()
    }

    /// `create`, with the bundle written out.
    pub fn create(&self) -> Outcome {
        self.create_with(&[])
    }

    /// `create` with flags.
    pub fn create_with(&self, flags: &[&str]) -> Outcome {
        self.call(&self.args_for("create", flags))
    }

    /// `run` in the foreground, to its end.
    pub fn run(&self) -> Outcome {
        self.run_with(&[])
    }

    /// `run` with flags.
    pub fn run_with(&self, flags: &[&str]) -> Outcome {
        self.call(&self.args_for("run", flags))
    }

    /// `run` in the foreground, not waited for.
    pub fn start_run(&self) -> Call {
        self.spawn(self.command(&self.args_for("run", &[])), "run")
    }

    /// `run` in the foreground of a terminal, not waited for.
    pub fn run_in(&self, terminal: &Terminal) -> Call {
        let mut command = self.command(&self.args_for("run", &[]));
        terminal.attach(&mut command);
        Call::start_with_streams(command)
    }

    /// The arguments of a verb that makes this container (`create`, `run`, `restore`); writes config.json.
    pub fn args_for<'a>(&'a self, verb: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
        self.bundle.write();
        let mut args = vec![verb, "--bundle", self.bundle.path().to_str().expect("a UTF-8 path")];
        args.extend(flags);
        args.push(&self.id);
        args
    }

    /// `start`.
    pub fn start(&self) -> Outcome {
        self.call(&["start", &self.id])
    }

    /// `create`, then `start`.
    #[track_caller]
    pub fn launch(&self) {
        self.create().ok();
        self.start().ok();
    }

    /// `kill`.
    pub fn kill(&self, signal: &str) -> Outcome {
        self.call(&["kill", &self.id, signal])
    }

    /// `delete`.
    pub fn delete(&self) -> Outcome {
        self.call(&["delete", &self.id])
    }

    /// `delete --force`.
    pub fn delete_force(&self) -> Outcome {
        self.call(&["delete", "--force", &self.id])
    }

    /// `state`, parsed.
    #[track_caller]
    pub fn state(&self) -> Value {
        let outcome = self.call(&["state", &self.id]).ok();
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {outcome}"))
    }

    /// The status that `state` tells; `none` when there is no container.
    pub fn status(&self) -> String {
        let outcome = self.call(&["state", &self.id]);
        let state: Value = serde_json::from_str(&outcome.stdout).unwrap_or_default();
        state["status"].as_str().unwrap_or("none").to_owned()
    }

    /// The host's pid of the container's first process.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let state = self.state();
        state["pid"].as_i64().filter(|p| *p > 0).unwrap_or_else(|| panic!("no pid in {state}")) as i32
    }

    /// The number of its first process in the innermost pid namespace that it is in.
    pub fn inner_pid(&self) -> String {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {path}: {e}"));
        let numbers = crate::field(&status, "NSpid");
        numbers.split_whitespace().last().expect("a number").to_owned()
    }

    /// The cgroups of the container's first process.
    #[track_caller]
    pub fn cgroups(&self) -> Cgroups {
        Cgroups::of(self.pid())
    }

    /// Waits for a status.
    #[track_caller]
    pub fn wait_status(&self, status: &str) {
        wait_for(&format!("status {status}"), || self.status() == status);
    }

    /// What the container has printed since `create` or detached `run`, as an outcome to ask for answers.
    pub fn output(&self) -> Outcome {
        let name = if self.bundle.beside("create.stdout").exists() { "create" } else { "run" };
        let read = |end| fs::read_to_string(self.bundle.beside(&format!("{name}.{end}"))).unwrap_or_default();
        Outcome {
            code: 0,
            stdout: read("stdout"),
            stderr: read("stderr"),
            call: format!("output of {}", self.id),
        }
    }

    /// Waits until the container has printed this.
    #[track_caller]
    pub fn wait_output(&self, text: &str) {
        wait_for(&format!("{text:?} in the output"), || self.output().stdout.contains(text));
    }

    /// Everything of the container that the host still has: processes, cgroups, mounts, state. A process that was
    /// killed may take a moment to go.
    pub fn leftovers(&self) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(1);
        let mut left = leftovers::processes(&self.id);
        while Instant::now() < end && !left.is_empty() {
            std::thread::sleep(Duration::from_millis(5));
            left = leftovers::processes(&self.id);
        }
        left.extend(leftovers::cgroups(&self.id));
        left.extend(leftovers::mounts(self.bundle.path()));
        left.extend(leftovers::entries("state", &self.state_root()));
        left
    }

    /// Kills and removes by hand what the runtime left of it.
    pub fn clean_up(&self) {
        leftovers::kill_processes(&self.id);
        leftovers::remove_cgroups(&self.id);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Without a record there is nothing that the runtime could delete.
        if !fs::read_dir(self.state_root()).is_ok_and(|mut records| records.next().is_none()) {
            let mut delete = self.command(&["delete", "--force", &self.id]);
            let deleted = delete.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            // If it can't be started or doesn't end, what is left tells so.
            let _ = deleted.map(|child| Call::of(child, "delete --force").wait());
        }
        let left = self.leftovers();
        if !left.is_empty() {
            self.clean_up();
            // runc tries for 0.3 s to remove a cgroup: too short for what is killed in emulation.
            let is_runc_in_emulation = !Runtime::get().is_ampoule() && place() != "host";
            let given_up = is_runc_in_emulation && left.iter().all(|one| one.starts_with("cgroup "));
            assert!(std::thread::panicking() || given_up, "`delete --force {}` left {left:#?}", self.id);
        }
    }
}
