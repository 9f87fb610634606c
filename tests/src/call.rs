//! A program that was started, its output, and its end in time: the runtime's calls above all.

use crate::{Outcome, Scratch, descendants_of, patience};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

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

    /// Starts a program whose output goes where the command says. The command's own copies of those streams are closed then.
    pub fn start_with_streams(mut command: Command) -> Self {
        let child = command.spawn();
        let child = child.unwrap_or_else(|e| panic!("start {:?}: {e}", command.get_program()));
        Self::of(child, &format!("{command:?}"))
    }

    /// A program that was started; `text` is what messages call it.
    pub(crate) fn of(child: Child, text: &str) -> Self {
        Self { child, text: text.to_owned(), files: None }
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
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("signal the runtime");
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
    pub(crate) fn wait(&mut self) -> Option<i32> {
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
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
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
