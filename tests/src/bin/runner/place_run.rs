//! The tests of one place, run where this program runs.

use crate::event::TestEvent;
use crate::test::{Settings, Test};
use crate::{number, report, stop};
use ampoule_tests::places::{List, Place, Tier, Title};
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Runs them; whether none failed. Events go to the file that `EVENTS` names, or results are printed.
pub(crate) fn run(place: &str, tier: Tier) -> Result<bool> {
    stop::watch(|| ())?;
    let list = List::read();
    let tests = find(&list, place, tier)?;
    // Twice as many as CPUs: half of the time a test waits.
    let cpus = std::thread::available_parallelism()?.get() as u64;
    let jobs = number("JOBS", 2 * cpus)?;
    // Waits end sooner, each by itself; full repetitions in emulation take their time.
    let (repeats, limit) = if tier == Tier::Quick { (10, 600) } else { (100, 3600) };
    let settings = Settings {
        repeats: number("REPEATS", repeats)?,
        limit: Duration::from_secs(number("LIMIT", limit)?),
    };
    ensure!(jobs > 0 && settings.repeats > 0, "JOBS=0 or REPEATS=0 would show nothing");
    let events = EventWriter::open()?;

    let began = Instant::now();
    events.write(TestEvent::Begun { place: place.to_owned(), tests: tests.len() });
    let (alone, beside): (Vec<_>, Vec<_>) = tests.iter().partition(|test| list.is_alone(title(test)));
    let mut has_passed = true;
    for (tests, jobs) in [(beside, jobs), (alone, 1)] {
        has_passed &= run_all(&tests, jobs, |test| {
            let test = test.run(settings);
            let has_passed = !test.has_failed();
            events.write(TestEvent::Ended { place: place.to_owned(), test });
            has_passed
        });
    }
    events.write(TestEvent::Done { place: place.to_owned(), took: began.elapsed() });
    ensure!(!stop::is_stopped(), "stopped before the end");
    Ok(has_passed)
}

/// Runs tests, so many at a time; whether all passed.
fn run_all(tests: &[&Test], jobs: u64, run: impl Fn(&Test) -> bool + Sync) -> bool {
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let go_on = || tests.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !stop::is_stopped());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(test) = go_on() {
                    has_failed.fetch_or(!run(test), Ordering::Relaxed);
                }
            });
        }
    });
    !has_failed.into_inner()
}

/// Prints every place's tests.
pub(crate) fn list_all(tier: Tier) -> Result<()> {
    let all = every_test()?;
    for place in List::read().places {
        all.iter()
            .filter(|test| is_in(&place, tier, test))
            .for_each(|test| println!("{} {}", place.name, test.title));
    }
    Ok(())
}

/// The place's tests.
fn find(list: &List, place: &str, tier: Tier) -> Result<Vec<Test>> {
    let wanted = std::env::var("TESTS").unwrap_or_default();
    let known = list.places.iter().find(|known| known.name == place);
    let place = known.with_context(|| format!("tests/vm/places has no {place}"))?;
    let mut tests = every_test()?;
    tests.retain(|test| test.title.contains(&wanted) && is_in(place, tier, test));
    // With words for some tests, another place may have them: the run wants one that does.
    ensure!(!tests.is_empty() || !wanted.is_empty(), "there are no tests");
    Ok(tests)
}

fn is_in(place: &Place, tier: Tier, test: &Test) -> bool {
    place.has(tier, title(test))
}

fn title(test: &Test) -> Title<'_> {
    let program = test.program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (file, name) = test.title.split_once("::").unwrap_or(("", &test.title));
    Title { program, file, name }
}

/// All tests that there are.
fn every_test() -> Result<Vec<Test>> {
    let dir = std::env::var("PROGRAMS").unwrap_or_else(|_| "target/suite/tests".into());
    let mut programs: Vec<_> = fs::read_dir(&dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>())
        .with_context(|| format!("list {dir}; `make suite` builds them"))?;
    // Backwards: those of `any`, which are short, come last and fill what a long one leaves.
    programs.sort_by(|a, b| b.cmp(a));
    let mut tests = Vec::new();
    for program in programs {
        let titles = list(&program)?;
        tests.extend(titles.into_iter().map(|title| Test { program: program.clone(), title }));
    }
    Ok(tests)
}

/// Its tests, as `FILE::NAME`.
fn list(program: &Path) -> Result<Vec<String>> {
    let output = Command::new(program).args(["--list", "--format", "terse"]).output();
    let output = output.with_context(|| format!("run {}", program.display()))?;
    ensure!(output.status.success(), "{} --list: {}", program.display(), output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// Where events go: to the run that has started this one, or to a person, as text.
enum EventWriter {
    Run(Mutex<File>),
    Person,
}

impl EventWriter {
    fn open() -> Result<Self> {
        let Ok(path) = std::env::var("EVENTS") else { return Ok(Self::Person) };
        let file = File::options().append(true).open(&path).with_context(|| format!("open {path}"))?;
        Ok(Self::Run(Mutex::new(file)))
    }

    fn write(&self, event: TestEvent) {
        match self {
            // Whoever doesn't listen any more knows why.
            Self::Run(file) => {
                drop(file.lock().expect("no thread panics").write_all(event.line().as_bytes()))
            }
            Self::Person => {
                if let TestEvent::Ended { place, test } = event {
                    print!("{}", report::lines(&place, &test));
                }
            }
        }
    }
}
