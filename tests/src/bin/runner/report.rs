//! The run as people and CI systems see it: failures at once, progress, a line for each test in target/tests.log, JUnit.

use crate::event::TestEvent;
use crate::test::{Ended, Verdict};
use crate::{junit, summary};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// How often a log is told how far the run is. A terminal has it in its last line all the time.
const PROGRESS: Duration = Duration::from_secs(20);

/// Every test's line.
const LOG: &str = "target/tests.log";

/// The same for CI systems.
const JUNIT: &str = "target/junit.xml";

/// What is known of a place and its tests.
pub(crate) struct PlaceResults {
    machine: String,
    pub(crate) name: String,
    /// How many tests it has; none until it has begun.
    tests: Option<usize>,
    pub(crate) ended: Vec<Ended>,
    pub(crate) took: Option<Duration>,
}

impl PlaceResults {
    fn count(&self, kind: fn(&Verdict) -> bool) -> usize {
        self.ended.iter().filter(|test| kind(&test.verdict)).count()
    }

    pub(crate) fn failed(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Failed(_)))
    }

    pub(crate) fn skipped(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Skipped(_)))
    }

    /// Whether it has come to its end, and everything was reported.
    fn is_whole(&self) -> bool {
        self.took.is_some() && self.tests == Some(self.ended.len())
    }
}

pub(crate) struct Report {
    began: Instant,
    log: File,
    /// In the order of the list.
    places: Vec<PlaceResults>,
    /// What failed and is no test: a machine.
    broken: Vec<String>,
    is_terminal: bool,
    last_progress: Instant,
}

impl Report {
    /// Of places, each with its machine.
    pub(crate) fn new<'a>(places: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        // That of an earlier run would pass for this one's, if this one is killed.
        write_junit("")?;
        let log = owned(LOG)?;
        let silent = |(machine, name): (&str, &str)| {
            let (machine, name) = (machine.to_owned(), name.to_owned());
            PlaceResults { machine, name, tests: None, ended: Vec::new(), took: None }
        };
        let (now, is_terminal) = (Instant::now(), std::io::stdout().is_terminal());
        Ok(Self {
            began: now,
            log,
            places: places.map(silent).collect(),
            broken: Vec::new(),
            is_terminal,
            last_progress: now,
        })
    }

    pub(crate) fn record(&mut self, event: TestEvent) {
        let (TestEvent::Begun { place, .. } | TestEvent::Ended { place, .. } | TestEvent::Done { place, .. }) =
            &event;
        if let TestEvent::Ended { test, .. } = &event {
            let text = lines(place, test);
            // A full disk is told by the tests.
            let _ = self.log.write_all(text.as_bytes());
            if test.has_failed() {
                self.print(text.trim_end());
            }
        }
        let Some(results) = self.places.iter_mut().find(|results| results.name == *place) else { return };
        match event {
            TestEvent::Begun { tests, .. } => results.tests = Some(tests),
            TestEvent::Ended { test, .. } => results.ended.push(test),
            TestEvent::Done { took, .. } => results.took = Some(took),
        }
    }

    /// A line that no test has printed.
    pub(crate) fn print_output(&self, machine: &str, line: &str) {
        self.print(&format!("{machine}: {line}"));
    }

    /// A machine has ended with this code: 1 when a test failed. Whatever else is not as it should be is a failure, too:
    /// what was not reported has not passed.
    pub(crate) fn end(&mut self, machine: &str, code: i32) {
        let here = || self.places.iter().filter(|results| results.machine == machine);
        let cut_short = here().filter(|results| !results.is_whole());
        let mut broken: Vec<_> =
            cut_short.map(|results| format!("{} came to no end", results.name)).collect();
        if code != i32::from(here().any(|results| results.failed() > 0)) {
            broken.push(format!("the machine {machine} ended with {code}"));
        }
        for what in broken {
            self.print(&format!("FAIL {what}"));
            self.broken.push(what);
        }
    }

    fn print(&self, text: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        println!("{clear}{text}");
    }

    /// How far everything is, when it is time to say it.
    pub(crate) fn progress(&mut self) {
        let pause = if self.is_terminal { Duration::from_millis(200) } else { PROGRESS };
        if self.last_progress.elapsed() < pause {
            return;
        }
        self.last_progress = Instant::now();
        let parts: Vec<_> = self.places.iter().filter_map(part).collect();
        let now = if parts.is_empty() { "starting".to_owned() } else { parts.join(", ") };
        let line = format!("{}  {now}", summary::minutes(self.began.elapsed()));
        if self.is_terminal {
            print!("\r\x1b[K{line}");
            let _ = std::io::stdout().flush();
        } else {
            println!("{line}");
        }
    }

    /// The last lines, and the files. Whether nothing failed.
    pub(crate) fn finish(mut self, is_stopped: bool) -> Result<bool> {
        if is_stopped {
            self.broken.push("the run was stopped before its end".to_owned());
        }
        let suites = self.places.iter().map(|results| (results.name.as_str(), results.ended.as_slice()));
        write_junit(&junit::document(suites, &self.broken))?;
        self.print(&summary::of(&self.places, &self.broken, self.began.elapsed()));
        let has_any = self.places.iter().any(|results| !results.ended.is_empty());
        Ok(has_any && self.broken.is_empty() && self.places.iter().all(|results| results.failed() == 0))
    }
}

fn write_junit(text: &str) -> Result<()> {
    owned(JUNIT)?.write_all(text.as_bytes()).with_context(|| format!("write {JUNIT}"))
}

/// A new file that belongs to whom the source tree belongs to: root runs the tests.
fn owned(path: &str) -> Result<File> {
    let file = File::create(path).with_context(|| format!("make {path}"))?;
    let top = fs::metadata(".").context("look at the source tree")?;
    std::os::unix::fs::fchown(&file, Some(top.uid()), Some(top.gid()))
        .with_context(|| format!("chown {path}"))?;
    Ok(file)
}

/// `v2-root 120/310 (1 failed)`: of a place that runs, or in which something failed.
fn part(results: &PlaceResults) -> Option<String> {
    let (all, done, failed) = (results.tests?, results.ended.len(), results.failed());
    let failures = if failed > 0 { format!(" ({failed} failed)") } else { String::new() };
    (results.took.is_none() || failed > 0).then(|| format!("{} {done}/{all}{failures}", results.name))
}

/// A test's line, and for a failed test what it printed.
pub(crate) fn lines(place: &str, test: &Ended) -> String {
    let (title, seconds) = (&test.title, test.took.as_secs_f64());
    match &test.verdict {
        Verdict::Passed => format!("PASS [{seconds:>7.3}s] {title} @{place}\n"),
        Verdict::Skipped(why) => format!("SKIP [{seconds:>7.3}s] {title} @{place}: {why}\n"),
        Verdict::Failed(why) => {
            let mut text = format!("FAIL [{seconds:>7.3}s] {title} @{place}: {why}\n");
            test.output.lines().for_each(|line| text += &format!("    {line}\n"));
            text
        }
    }
}
