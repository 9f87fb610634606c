//! Where an engine of a test's own lives.

use crate::{Call, Outcome, Scratch, Terminal, cgroups_named, pids_mentioning, remove_cgroup, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A directory and, for root, a network namespace and a mount namespace with a /run of its own: every mount, bridge
/// and packet rule of the engine, and every state of its runtime, is gone with them.
#[derive(Debug)]
pub struct Realm {
    // Before the directory: dropped first.
    holder: Option<Child>,
    scratch: Scratch,
}

/// /run is new, but for systemd and its bus, and so is /dev/shm, where podman has its locks. Says so when it is done. (-n: mount(8) keeps a table of its own in /run.)
const FURNISH: &str = r#"
    busybox ip link set lo up && cd "$0" && mkdir run && mount -n -t tmpfs run run || exit
    for kept in systemd dbus; do
        [ ! -d /run/$kept ] || { mkdir run/$kept && mount -n --rbind /run/$kept run/$kept; } || exit
    done
    mount -n --move run /run && mount -n -t tmpfs shm /dev/shm && echo done >furnished && exec sleep infinity
"#;

impl Realm {
    /// An empty one.
    pub fn new() -> Self {
        let mut realm = Self { holder: None, scratch: Scratch::new() };
        if geteuid().is_root() {
            // Dies with the thread that runs the test.
            let mut holder = Command::new("setpriv");
            holder.args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "--propagation", "private"]);
            holder.args(["sh", "-c", FURNISH]).arg(realm.path()).stdin(Stdio::null());
            realm.holder = Some(holder.spawn().expect("start unshare"));
            wait_for("the realm to be furnished", || realm.beside("furnished").exists());
        }
        realm
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// A file in its directory.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// What is in everything's name.
    pub fn name(&self) -> &str {
        self.path().file_name().and_then(|name| name.to_str()).expect("a UTF-8 name")
    }

    /// A program to be started inside.
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
        Call::start(command, self.beside(&crate::scratch::unique_name()))
    }

    /// Starts a command in a terminal.
    pub fn start_in(&self, terminal: &Terminal, mut command: Command) -> Call {
        terminal.attach(&mut command);
        Call::seen(command)
    }

    /// Runs a program of this machine inside.
    #[track_caller]
    pub fn call(&self, program: &str, args: &[&str]) -> Outcome {
        let mut command = self.command(program);
        command.args(args);
        self.finish(command)
    }

    /// What the machine still has of it and of these containers, once its engine has removed them. What was killed
    /// may take a moment to go.
    pub fn leftovers(&self, containers: &[String]) -> Vec<String> {
        let names: Vec<_> = containers.iter().map(String::as_str).chain([self.name()]).collect();
        let processes =
            || names.iter().flat_map(|name| pids_mentioning(name)).filter(|pid| !self.is_holder(*pid));
        for _ in 0..100 {
            if processes().next().is_none() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let described = processes().map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("process {pid}: {}", String::from_utf8_lossy(&line).replace('\0', " "))
        });
        let cgroups = names.iter().flat_map(|name| cgroups_named(name));
        described.chain(cgroups.map(|dir| format!("cgroup {}", dir.display()))).collect()
    }

    /// Ends and removes what was left.
    pub fn clear(&self, containers: &[String]) {
        for name in containers.iter().map(String::as_str).chain([self.name()]) {
            for pid in pids_mentioning(name).into_iter().filter(|pid| !self.is_holder(*pid)) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            cgroups_named(name).iter().rev().for_each(|dir| remove_cgroup(dir));
        }
    }

    /// The end of an engine: panics when something is left, unless there is a panic already.
    pub fn close(&self, containers: &[String]) {
        let left = self.leftovers(containers);
        if !left.is_empty() {
            self.clear(containers);
            assert!(std::thread::panicking(), "left behind: {left:#?}");
        }
    }

    fn is_holder(&self, pid: i32) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.id() as i32 == pid)
    }
}

impl Default for Realm {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Realm {
    fn drop(&mut self) {
        if let Some(holder) = &mut self.holder {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}
