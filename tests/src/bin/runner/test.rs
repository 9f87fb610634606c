//! One test, run in a process of its own.

use crate::sys;
use ampoule_tests::Scratch;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A test that a program listed.
pub(crate) struct Test {
    pub(crate) program: PathBuf,
    /// `FILE::NAME`, which is how its program knows it.
    pub(crate) title: String,
}

/// What a test is run with.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
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
    pub(crate) fn run(&self, settings: Settings) -> Ended {
        let began = Instant::now();
        // Not a pipe: what outlives a failed test would hold it open.
        let scratch = Scratch::new();
        let (path, skips) = (scratch.path().join("output"), scratch.path().join("skips"));
        let status = File::create(&path).and_then(|file| self.wait(file, &skips, settings));
        let output = last_of(&path);
        // Not what is printed, which may be anybody's words (see `met`).
        let skips = fs::read_to_string(&skips).unwrap_or_default();
        let skip = skips.lines().next().and_then(|line| line.strip_prefix("SKIP ")?.split_once(": "));
        let verdict = match (status, skip) {
            (Ok(Some(status)), Some((_, why))) if status.success() => Verdict::Skipped(why.to_owned()),
            (Ok(Some(status)), None) if status.success() => Verdict::Passed,
            (Ok(Some(status)), _) => Verdict::Failed(match (status.code(), status.signal()) {
                (Some(101), _) => "it panicked".into(),
                (Some(code), _) => format!("it exited with {code}"),
                (None, signal) => format!("signal {} ended it", signal.unwrap_or(0)),
            }),
            (Ok(None), _) => Verdict::Failed(format!("it was not done after {} s", settings.limit.as_secs())),
            (Err(error), _) => Verdict::Failed(format!("it could not be run: {error}")),
        };
        Ended { title: self.title.clone(), verdict, took: began.elapsed(), output }
    }

    /// Its exit status; `None` when the limit came first, and then it was killed.
    fn wait(&self, mut said: File, skips: &Path, settings: Settings) -> std::io::Result<Option<ExitStatus>> {
        let mut command = Command::new(&self.program);
        command.args(["--exact", &self.title, "--nocapture", "--include-ignored"]);
        command.env("REPEATS", settings.repeats.to_string()).env("SKIPS", skips).env_remove("EVENTS");
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
        command.process_group(0);
        sys::begin(&mut command, Signal::SIGKILL);
        // What outlives a test, and this run, must not hold open whereby its end is known.
        sys::close_others(&mut command);
        let mut child = command.spawn()?;
        let end = Instant::now() + settings.limit;
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

/// The end of what a test has printed: enough for people, and not too much for who collects it.
fn last_of(path: &Path) -> String {
    const MOST: u64 = 256 << 10;
    let read = || {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(MOST)))?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes).map(|_| bytes)
    };
    match read() {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("what it printed can't be read: {error}"),
    }
}

/// Whether a process group comes to its end by itself: what has ended may still have to be waited for.
fn is_gone(group: Pid) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    // Of another user's processes it says EPERM.
    while killpg(group, None) != Err(Errno::ESRCH) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
