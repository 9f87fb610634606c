//! Checkpoints: whether CRIU works here, and the verbs, for containers whose output goes to a pipe.

use crate::{Call, Container, Outcome, Runtime, wait_for};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Why a test can't say anything.
pub const WHY: &str =
    "this machine has no criu that works with its kernel (criu check), or no iptables for runc";

/// Whether there is a CRIU that works here. runc has it hold back packets by iptables.
pub fn works() -> bool {
    if !Runtime::get().is_ampoule() && Command::new("iptables-restore").arg("--version").output().is_err() {
        return false;
    }
    let mut check = Command::new("criu");
    check.arg("check").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    check.status().is_ok_and(|status| status.success())
}

/// The lines that a container writes, read from its pipe.
#[derive(Debug)]
pub struct OutputLines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl OutputLines {
    /// A pipe; the second is what a runtime is given.
    fn open() -> (Self, OwnedFd) {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("make a pipe");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(File::from(read)).lines() {
                kept.lock().expect("no reader panics").push(line.expect("read a line"));
            }
        });
        (Self { lines, reader }, write)
    }

    /// What was said so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no reader panics").clone()
    }

    /// Waits for a number of lines.
    #[track_caller]
    pub fn wait(&self, count: usize) -> Vec<String> {
        wait_for(&format!("{count} lines of output"), || self.lines().len() >= count);
        self.lines()
    }

    /// All that was ever said: nobody has the other end any more.
    #[track_caller]
    pub fn all(&self) -> Vec<String> {
        wait_for("the end of the output", || self.reader.is_finished());
        self.lines()
    }

    /// What a counter said, as numbers.
    pub fn numbers(lines: &[String]) -> Vec<u64> {
        lines.iter().map(|line| line.parse().unwrap_or_else(|_| panic!("no number: {line}"))).collect()
    }
}

/// Verbs of a container whose output is a pipe.
impl Container {
    /// The directory of its images.
    pub fn images(&self) -> PathBuf {
        self.bundle.beside("images")
    }

    /// A detached `run`.
    #[track_caller]
    pub fn run_piped(&self) -> OutputLines {
        let (outcome, stream) = piped(self.command(&self.args_for("run", &["--detach"])));
        outcome.ok();
        stream
    }

    /// `checkpoint`, with flags.
    pub fn checkpoint(&self, flags: &[&str]) -> Outcome {
        let images = self.images();
        let args = [&["checkpoint", "--image-path", images.to_str().expect("UTF-8")], flags, &[&self.id]];
        self.call(&args.concat())
    }

    /// A detached `restore`, with flags.
    pub fn restore(&self, flags: &[&str]) -> (Outcome, OutputLines) {
        let images = self.images();
        self.restore_with(&[&["--detach", "--image-path", images.to_str().expect("UTF-8")], flags].concat())
    }

    /// `restore` with these flags and no others.
    pub fn restore_with(&self, flags: &[&str]) -> (Outcome, OutputLines) {
        piped(self.command(&self.args_for("restore", flags)))
    }

    /// The probe's answer to a question that is asked by `exec`.
    #[track_caller]
    pub fn ask(&self, question: &[&str]) -> Value {
        self.call(&[&["exec", &self.id, "/bin/probe"], question].concat()).ok().answer()
    }
}

/// Makes a call whose output is the container's, too.
fn piped(mut command: Command) -> (Outcome, OutputLines) {
    let (stream, end) = OutputLines::open();
    command.stdout(end.try_clone().expect("duplicate a descriptor")).stderr(end);
    let outcome = Call::start_with_streams(command).finish();
    // The runtime's own words, when there is nobody else.
    let stderr = if outcome.code == 0 { String::new() } else { stream.all().join("\n") };
    (Outcome { stderr, ..outcome }, stream)
}
