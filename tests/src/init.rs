//! PID 1 programs that are held to the same promises: our pause, built for both architectures, and Debian's tini, dumb-init
//! and catatonit.

use crate::programs::{on_path, pause, workspace};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that runs a command as PID 1 of a container should: forwards signals, reaps orphans.
#[derive(Debug, Clone)]
pub struct Init {
    /// `pause`, `pause-aarch64`, `tini`, `dumb-init` or `catatonit`.
    pub name: &'static str,
    program: Vec<PathBuf>,
}

impl Init {
    /// Our own.
    pub fn ours() -> Self {
        Self { name: "pause", program: vec![pause()] }
    }

    /// Our own for aarch64, run by QEMU. `None` when it was not built, or without QEMU.
    pub fn aarch64() -> Option<Self> {
        let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
        let built = workspace().join(target).join("aarch64-unknown-linux-musl/release/pause");
        let program = vec![on_path("qemu-aarch64-static")?, built];
        program[1].exists().then_some(Self { name: "pause-aarch64", program })
    }

    /// All that are to be had on this machine. One that lacks is a skip.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::ours()];
        let debians = ["tini", "dumb-init", "catatonit"].map(|name| {
            let found = on_path(name).map(|path| Self { name, program: vec![path] });
            (name, found)
        });
        for (name, found) in [("pause-aarch64 and QEMU", Self::aarch64())].into_iter().chain(debians) {
            if crate::met(found.is_some(), name, None) {
                all.extend(found);
            }
        }
        all
    }

    /// The program's file.
    pub fn file(&self) -> &Path {
        self.program.last().expect("a program")
    }

    /// Its command line alone.
    pub fn bare(&self, args: &[&str]) -> Command {
        let mut words = Command::new(&self.program[0]);
        words.args(&self.program[1..]).args(args).stdin(Stdio::null());
        words
    }

    /// The command line that runs a command under it.
    pub fn command(&self, flags: &[&str], command: &[&str]) -> Command {
        let mut words = self.bare(flags);
        words.arg("--").args(command);
        words
    }
}

/// The same command as PID 1 of a namespace, with a /proc of its own.
pub fn as_pid_1(inner: &Command) -> Command {
    let mut outer = Command::new("unshare");
    outer.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    outer.arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    for (key, value) in inner.get_envs() {
        value.map(|value| outer.env(key, value));
    }
    outer
}

/// The first child of a process, once it has one.
pub fn child_of(pid: i32) -> i32 {
    let mut child = None;
    crate::wait_for("a child", || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        child = children.ok().and_then(|text| text.split_whitespace().next()?.parse().ok());
        child.is_some()
    });
    child.unwrap_or_default()
}

/// Waits until a process sleeps in the kernel's wait for signals, as an init with nothing to do does.
#[track_caller]
pub fn wait_for_sigwait(pid: i32) {
    crate::wait_for("the wait for signals", || {
        let call = std::fs::read_to_string(format!("/proc/{pid}/wchan"));
        call.is_ok_and(|text| text.contains("sigtimedwait"))
    });
}
