//! The private surroundings that an engine of a test's own runs in: namespaces, a directory, and a check that nothing is
//! left of them.

use crate::{
    Call, HierarchyLock, Outcome, Scratch, Terminal, cgroups_named, command_line, leftovers, patience,
    pids_mentioning, systemd, wait_for,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A directory and, for root, a network namespace and a mount namespace with a /run of its own: every mount, bridge
/// and packet rule of the engine, and every state of its runtime, is gone with them.
#[derive(Debug)]
pub struct Sandbox {
    // Before the directory: dropped first.
    holder: Option<Child>,
    scratch: Scratch,
    _hierarchies: HierarchyLock,
}

/// /run is new, but for systemd and its bus; so are /dev/shm, where podman has its locks, and /var/lib, where plug-ins
/// for networks have theirs. Says so when it is done. (-n: mount(8) keeps a table of its own in /run.)
const SETUP: &str = r#"
    busybox ip link set lo up && cd "$0" && mkdir run && mount -n -t tmpfs run run || exit
    for kept in systemd dbus; do
        [ ! -d /run/$kept ] || { mkdir run/$kept && mount -n --rbind /run/$kept run/$kept; } || exit
    done
    mount -n --move run /run && mount -n -t tmpfs shm /dev/shm && mount -n -t tmpfs lib /var/lib && echo done >ready && exec sleep infinity
"#;

impl Sandbox {
    /// A new one, with nothing running in it.
    pub fn new() -> Self {
        let mut sandbox =
            Self { holder: None, scratch: Scratch::new(), _hierarchies: HierarchyLock::shared() };
        if geteuid().is_root() {
            // Dies with the thread that runs the test.
            let mut holder = Command::new("setpriv");
            holder.args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "--propagation", "private"]);
            holder.args(["sh", "-c", SETUP]).arg(sandbox.path()).stdin(Stdio::null());
            sandbox.holder = Some(holder.spawn().expect("start unshare"));
            wait_for("the sandbox to be set up", || sandbox.file("ready").exists());
        }
        sandbox
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// A file in its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A unique name, which is part of every id, cgroup and command line in here.
    pub fn name(&self) -> &str {
        self.path().file_name().and_then(|name| name.to_str()).expect("a UTF-8 name")
    }

    /// A program of this machine, to be started inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = match &self.holder {
            Some(holder) => {
                let mut command = Command::new("nsenter");
                command.args(["--target", &holder.id().to_string(), "--mount", "--net", "--", program]);
                command
            }
            None => Command::new(program),
        };
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end; its output is in files, for what it leaves running would hold pipes open.
    #[track_caller]
    pub fn finish(&self, command: Command) -> Outcome {
        self.start(command).finish()
    }

    /// Starts a command whose output is in files.
    pub fn start(&self, command: Command) -> Call {
        Call::start(command, self.file(&crate::scratch::unique_name()))
    }

    /// Starts a command in a terminal.
    pub fn start_in(&self, terminal: &Terminal, mut command: Command) -> Call {
        terminal.attach(&mut command);
        Call::start_with_streams(command)
    }

    /// Runs a program inside, to its end.
    #[track_caller]
    pub fn call(&self, program: &str, args: &[&str]) -> Outcome {
        let mut command = self.command(program);
        command.args(args);
        self.finish(command)
    }

    /// The cgroup that engines without systemd put containers below. None of the runtime's: the engine leaves it.
    pub fn cgroup_parent(&self) -> Option<String> {
        (geteuid().is_root() && !systemd::runs_on_v2()).then(|| format!("/{}", self.name()))
    }

    /// The end of an engine that has removed its containers: panics when something is left, unless there is a panic
    /// already. What was killed may take a moment to go, and podman's own clean-up of each container some more.
    pub fn close(&self, containers: &[String]) {
        let end = Instant::now() + patience() / 4;
        let left = loop {
            self.remove_own_cgroups(containers);
            let left = self.leftovers(containers);
            if left.is_empty() || Instant::now() > end {
                break left;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if !left.is_empty() {
            self.clear(containers);
            assert!(std::thread::panicking(), "left behind: {left:#?}");
        }
    }

    /// Those of pods and of all containers, which an engine leaves, whatever the runtime. One with something inside
    /// stays.
    fn remove_own_cgroups(&self, containers: &[String]) {
        for dir in cgroups_named(self.name()).iter().rev() {
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            if !containers.iter().any(|id| name.contains(id)) {
                let _ = fs::remove_dir(dir);
            }
        }
    }

    /// What the machine still has of it and of these containers.
    fn leftovers(&self, containers: &[String]) -> Vec<String> {
        let names = || containers.iter().map(String::as_str).chain([self.name()]);
        let pids = names().flat_map(pids_mentioning).filter(|pid| !self.is_holder(*pid));
        let processes = pids.map(|pid| format!("process {pid} {}", command_line(pid)));
        processes.chain(names().flat_map(leftovers::cgroups)).collect()
    }

    /// Ends and removes what was left.
    fn clear(&self, containers: &[String]) {
        for name in containers.iter().map(String::as_str).chain([self.name()]) {
            for pid in pids_mentioning(name).into_iter().filter(|pid| !self.is_holder(*pid)) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            leftovers::remove_cgroups(name);
        }
    }

    fn is_holder(&self, pid: i32) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.id() as i32 == pid)
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(holder) = &mut self.holder {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}
