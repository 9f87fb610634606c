//! A container under test: calls of the runtime, and the promise that nothing is left behind.

use crate::{
    Bundle, Cgroups, Outcome, Runtime, Scratch, Terminal, descendants_of, has_only_cgroup_v2, leftovers,
    patience, place, scratch, wait_for,
};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the runtime finds at /sys/fs/cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The host's own.
    Host,
    /// A pure v2 hierarchy: the host's own, or else in a mount namespace of the call's own.
    PureV2,
    /// net_cls and net_prio on v1 at /sys/fs/cgroup/net and nothing else, in a mount namespace of the call's own.
    Network,
}

impl Layout {
    /// A call of any program that finds this layout.
    pub fn command(self, program: &Path) -> Command {
        let mounts = match self {
            Layout::Host => return Command::new(program),
            Layout::PureV2 => "mount -t cgroup2 none /sys/fs/cgroup",
            Layout::Network => {
                "umount -Rl /sys/fs/cgroup && mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/net && \
                 mount -t cgroup -o net_cls,net_prio none /sys/fs/cgroup/net"
            }
        };
        let script = format!("{mounts} && exec \"$0\" \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(program);
        command
    }
}

impl Layout {
    /// Those that differ here.
    pub fn all() -> Vec<Self> {
        if has_only_cgroup_v2() { vec![Layout::Host] } else { vec![Layout::Host, Layout::PureV2] }
    }
}

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

    /// Makes a call that has its streams already, and waits for its end.
    pub fn finish(&self, mut command: Command) -> Outcome {
        let text = format!("{command:?}");
        let child = command.spawn().expect("start the runtime");
        // Its copies of the streams would keep them open.
        drop(command);
        Call { child, text, files: None }.finish()
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
            let _ = deleted.map(|child| Call { child, text: "delete --force".into(), files: None }.wait());
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

/// A call of the runtime, or of another program, that may still go on. Killed on drop.
#[derive(Debug)]
pub struct Call {
    child: Child,
    text: String,
    files: Option<PathBuf>,
}

impl Call {
    /// Starts a program with its output in `FILES.stdout` and `FILES.stderr`.
    pub fn start(mut command: Command, files: PathBuf) -> Self {
        let file = |end: &str| {
            let path = format!("{}.{end}", files.display());
            // The runtime may have given an earlier call's to the container's user.
            let _ = fs::remove_file(&path);
            File::create(path).expect("make a file")
        };
        let child = command.stdout(file("stdout")).stderr(file("stderr")).spawn();
        let child = child.unwrap_or_else(|e| panic!("start {:?}: {e}", command.get_program()));
        Self { child, text: format!("{command:?}"), files: Some(files) }
    }

    /// Starts a program whose output goes where the command says.
    pub fn start_with_streams(mut command: Command) -> Self {
        let child = command.spawn();
        let child = child.unwrap_or_else(|e| panic!("start {:?}: {e}", command.get_program()));
        Self { child, text: format!("{command:?}"), files: None }
    }

    /// Runs a program to its end; one that doesn't end in time is killed, and a panic.
    #[track_caller]
    pub fn run(command: Command) -> Outcome {
        let scratch = Scratch::new();
        Self::start(command, scratch.path().join("call")).finish()
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        let files = self.files.as_ref().map(|files| format!("{}.stdout", files.display()));
        files.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
    }

    /// The runtime's pid.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends the runtime a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).expect("signal the runtime");
    }

    /// Waits for the end; panics, with what was printed, when patience ends first.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        let code = self.wait();
        let read = |end: &str| match &self.files {
            Some(files) => {
                let bytes = fs::read(format!("{}.{end}", files.display())).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            None => String::new(),
        };
        let outcome = Outcome {
            code: code.unwrap_or(-1),
            stdout: read("stdout"),
            stderr: read("stderr"),
            call: self.text.clone(),
        };
        assert!(code.is_some(), "not finished after {:?}: {outcome}", patience());
        outcome
    }

    /// The exit code (128 + signal), or `None` when patience ended first; then the runtime is killed.
    fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + patience();
        while Instant::now() < end {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.end();
        None
    }

    /// Kills it and what it has started: the command of an init would outlive that.
    fn end(&mut self) {
        let started = descendants_of(self.pid());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in started {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.end();
        }
    }
}
