//! Runs test programs inside the test machine (see `tests/vm`), many tests at a time, each in a process of its
//! own as cargo-nextest does: `suite PLACE PROGRAM...`. Prints one line a test, ends with 1 when one failed.
//!
//! - `TESTS`: only tests with this in their name.
//! - `JOBS`: how many at a time; as many as CPUs when unset.
//! - `LIMIT`: the seconds that one test may take; 60 when unset.
//! - `JUNIT`: a file that receives the results as one JUnit `testsuite`.

mod junit;
mod test;

use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use test::{Ended, Test, Verdict};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("suite: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> Result<u64> {
    std::env::var(name)
        .map_or(Ok(otherwise), |text| text.parse().with_context(|| format!("{name}={text} is no number")))
}

fn run() -> Result<bool> {
    let mut args = std::env::args().skip(1);
    let place = args.next().context("usage: suite PLACE PROGRAM...")?;
    let tests = find(args.map(PathBuf::from))?;
    // Another place may have them; tests/vm/test wants one that does.
    ensure!(!tests.is_empty() || std::env::var_os("TESTS").is_some(), "there are no tests");
    let cpus = std::thread::available_parallelism()?.get();
    let (jobs, limit) = (number("JOBS", cpus as u64)?, Duration::from_secs(number("LIMIT", 60)?));

    let began = Instant::now();
    let (next, ended) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = test.run(limit);
                    let mut all = ended.lock().expect("no thread panics");
                    report(&place, &one);
                    all.push(one);
                }
            });
        }
    });
    let ended = ended.into_inner().expect("no thread panics");
    if let Ok(path) = std::env::var("JUNIT") {
        let written = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| file.write_all(junit::testsuite(&place, &ended).as_bytes()));
        written.with_context(|| format!("write the results to {path}"))?;
    }
    Ok(summary(&place, &ended, began.elapsed()))
}

/// The tests of these programs, as they list them.
fn find(programs: impl Iterator<Item = PathBuf>) -> Result<Vec<Test>> {
    let wanted = std::env::var("TESTS").unwrap_or_default();
    let mut tests = Vec::new();
    for program in programs {
        let output = Command::new(&program).args(["--list", "--format", "terse"]).output();
        let output = output.with_context(|| format!("run {}", program.display()))?;
        ensure!(output.status.success(), "{} --list: {}", program.display(), output.status);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
        let found = names.map(|name| Test { program: program.clone(), name: name.to_owned() });
        tests.extend(found.filter(|test| test.title().contains(&wanted)));
    }
    Ok(tests)
}

/// One line, and for a failed test what it printed.
fn report(place: &str, ended: &Ended) {
    let (title, seconds) = (&ended.title, ended.took.as_secs_f64());
    match &ended.verdict {
        Verdict::Passed => println!("PASS [{seconds:>7.3}s] {title} @{place}"),
        Verdict::Skipped(why) => println!("SKIP [{seconds:>7.3}s] {title} @{place}: {why}"),
        Verdict::Failed(why) => {
            println!("FAIL [{seconds:>7.3}s] {title} @{place}: {why}");
            ended.output.lines().for_each(|line| println!("    {line}"));
        }
    }
}

/// The last lines: what failed, and how many did what. Whether none failed.
fn summary(place: &str, ended: &[Ended], took: Duration) -> bool {
    let failed: Vec<_> = ended.iter().filter(|e| matches!(e.verdict, Verdict::Failed(_))).collect();
    let skipped = ended.iter().filter(|e| matches!(e.verdict, Verdict::Skipped(_))).count();
    failed.iter().for_each(|e| println!("FAILED {} @{place}", e.title));
    let passed = ended.len() - failed.len() - skipped;
    let seconds = took.as_secs();
    println!("@{place}, {seconds} s: {passed} passed, {} failed, {skipped} skipped", failed.len());
    failed.is_empty()
}
