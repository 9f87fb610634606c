//! One test, run in a process of its own.

use ampoule_tests::Scratch;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A test that a program listed.
pub(crate) struct Test {
    pub(crate) program: PathBuf,
    pub(crate) name: String,
}

/// How a test ended.
pub(crate) struct Ended {
    pub(crate) title: String,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
    /// All that it printed.
    pub(crate) output: String,
}

pub(crate) enum Verdict {
    Passed,
    /// What it lacked (see `require!`).
    Skipped(String),
    Failed(String),
}

impl Test {
    /// Its program's name and its own.
    pub(crate) fn title(&self) -> String {
        format!("{}::{}", self.program.file_name().unwrap_or_default().to_string_lossy(), self.name)
    }

    /// Runs it to its end or to the limit.
    pub(crate) fn run(&self, limit: Duration) -> Ended {
        let began = Instant::now();
        // Not a pipe: what outlives a failed test would hold it open.
        let scratch = Scratch::new();
        let path = scratch.path().join("output");
        let status = File::create(&path).and_then(|file| self.wait(file, limit));
        let output = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
        let skip = output.lines().find_map(|line| line.strip_prefix("SKIP ")?.split_once(": "));
        let verdict = match (status, skip) {
            (Ok(Some(status)), Some((_, why))) if status.success() => Verdict::Skipped(why.to_owned()),
            (Ok(Some(status)), None) if status.success() => Verdict::Passed,
            (Ok(Some(status)), _) => Verdict::Failed(match (status.code(), status.signal()) {
                (Some(101), _) => "it panicked".into(),
                (Some(code), _) => format!("it exited with {code}"),
                (None, signal) => format!("signal {} ended it", signal.unwrap_or(0)),
            }),
            (Ok(None), _) => Verdict::Failed(format!("it was not done after {} s", limit.as_secs())),
            (Err(error), _) => Verdict::Failed(format!("it could not be run: {error}")),
        };
        Ended { title: self.title(), verdict, took: began.elapsed(), output }
    }

    /// Its exit status; `None` when the limit came first, and then it was killed.
    fn wait(&self, output: File, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
        let mut child = Command::new(&self.program)
            .args(["--exact", &self.name, "--nocapture"])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
        child.wait()?;
        Ok(None)
    }
}
