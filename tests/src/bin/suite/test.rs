//! One test, run in a process of its own.

use crate::sys;
use ampoule_tests::Scratch;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A test that a program listed.
pub(crate) struct Test {
    pub(crate) program: PathBuf,
    /// `FILE::NAME`, which is how its program knows it.
    pub(crate) title: String,
}

/// How tests are run.
#[derive(Clone, Copy)]
pub(crate) struct How {
    /// Percent of a stress test's rounds.
    pub(crate) repeats: u64,
    /// The time that one may take.
    pub(crate) limit: Duration,
}

/// How a test ended.
pub(crate) struct Ended {
    pub(crate) title: String,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
    /// All that it printed.
    pub(crate) output: String,
}

impl Ended {
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed(_))
    }
}

pub(crate) enum Verdict {
    Passed,
    /// What it lacked (see `require!`).
    Skipped(String),
    Failed(String),
}

impl Test {
    /// Runs it to its end or to the limit.
    pub(crate) fn run(&self, how: How) -> Ended {
        let began = Instant::now();
        // Not a pipe: what outlives a failed test would hold it open.
        let scratch = Scratch::new();
        let path = scratch.path().join("output");
        let status = File::create(&path).and_then(|file| self.wait(file, how));
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
            (Ok(None), _) => Verdict::Failed(format!("it was not done after {} s", how.limit.as_secs())),
            (Err(error), _) => Verdict::Failed(format!("it could not be run: {error}")),
        };
        Ended { title: self.title.clone(), verdict, took: began.elapsed(), output }
    }

    /// Its exit status; `None` when the limit came first, and then it was killed.
    fn wait(&self, mut said: File, how: How) -> std::io::Result<Option<ExitStatus>> {
        let mut command = Command::new(&self.program);
        command.args(["--exact", &self.title, "--nocapture"]).env("REPEATS", how.repeats.to_string());
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
        command.process_group(0);
        sys::begin(&mut command, Signal::SIGKILL);
        let mut child = command.spawn()?;
        let end = Instant::now() + how.limit;
        let status = loop {
            match child.try_wait()? {
                Some(status) => break Some(status),
                None if Instant::now() > end => break None,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let group = Pid::from_raw(child.id() as i32);
        if status.is_some_and(|status| status.success()) && !is_gone(group) {
            writeln!(said, "it left processes of its group behind")?;
            killpg(group, Signal::SIGKILL)?;
            return Ok(Some(ExitStatus::from_raw(1 << 8)));
        }
        // The test itself, if it still runs, and what it has left running.
        let _ = killpg(group, Signal::SIGKILL);
        child.wait()?;
        Ok(status)
    }
}

/// Whether a process group comes to its end by itself: what has ended may still have to be waited for.
fn is_gone(group: Pid) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while killpg(group, None).is_ok() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
