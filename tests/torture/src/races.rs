//! `torture races`: paths that a container controls are exchanged while it is made.

use crate::bundle_kind::BundleKind;
use crate::case::{Failure, Finding, unexplained, words};
use crate::isolation::IsolationReport;
use crate::race::{Race, RacedPaths, SECRET};
use crate::sample::{self, Amount, Rng};
use crate::subject::Subject;
use crate::tally::{Figures, Tally};
use crate::verb::Verb;
use ampoule_tests::{Mount, Outcome, exchange, snapshot, while_repeating};
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Rounds of each race, where all is tried.
const ROUNDS: usize = 1800;

/// Plays rounds of all races, or of these.
pub fn run(which: &[Race], amount: Amount) -> Figures {
    let tally = Tally::begin("races");
    let races: Vec<Race> =
        Race::all().iter().copied().filter(|race| which.is_empty() || which.contains(race)).collect();
    let references: BTreeMap<Race, Result<IsolationReport, String>> =
        races.iter().map(|race| (*race, reference(*race))).collect();
    let rounds: Vec<Race> = (0..ROUNDS).flat_map(|_| races.iter().copied()).collect();
    let number = AtomicUsize::new(0);
    sample::work(&rounds, amount, |race| {
        let seed = amount.seed.wrapping_add(number.fetch_add(1, Ordering::Relaxed) as u64);
        let found = match &references[race] {
            Ok(reference) => caught(|| round(*race, Some(reference), Rng::new(seed)))
                .unwrap_or_else(|why| vec![(Failure::Broken, why)]),
            Err(why) => vec![(Failure::Broken, format!("undisturbed: {why}"))],
        };
        tally.note(
            &format!("torture races --race {} --sample 500", race.name()),
            "a round",
            true,
            false,
            &found,
        );
    });
    tally.end()
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| words(&*panic))
}

/// What a container of the same bundle reports when nobody is in its way.
fn reference(race: Race) -> Result<IsolationReport, String> {
    caught(|| {
        let verb = verb(race);
        let mut subject = Subject::new(BundleKind::Default, verb);
        race.prepare(&mut subject);
        verb.prepare(&mut subject);
        let outcome = subject.call(verb);
        let report = if outcome.code == 0 { report(race, &subject) } else { Err(outcome.to_string()) };
        subject.remove();
        report
    })?
}

fn verb(race: Race) -> Verb {
    match race {
        Race::ProcOfRun => Verb::RunDetached,
        race if race.is_of_exec() => Verb::ExecDetached,
        _ => Verb::Create,
    }
}

/// Where the program is on its way before the race is over, another one reports: it finds the same mounts.
fn report(race: Race, subject: &Subject) -> Result<IsolationReport, String> {
    match verb(race) {
        Verb::RunDetached => {
            let outcome = subject.call(Verb::ExecDetached);
            if outcome.code == 0 { subject.report(Verb::ExecDetached) } else { Err(outcome.stderr) }
        }
        verb => subject.report(verb),
    }
}

fn round(race: Race, reference: Option<&IsolationReport>, mut rng: Rng) -> Vec<Finding> {
    let verb = verb(race);
    let mut subject = Subject::new(BundleKind::Default, verb);
    let paths = race.prepare(&mut subject);
    verb.prepare(&mut subject);
    let before = snapshot(&paths.canary);
    let called = while_racing(&paths, &mut rng, || caught(|| subject.call(verb)));
    let mut found = Vec::new();
    match called {
        Err(why) => found.push((Failure::Hung, why)),
        Ok(outcome) if outcome.code != 0 => found.extend(unexplained(&outcome)),
        Ok(outcome) => {
            found.extend(reference.and_then(|reference| made(race, &subject, &paths, &outcome, reference)))
        }
    }
    let after = snapshot(&paths.canary);
    let changed: Vec<_> = after.iter().filter(|(path, line)| before.get(*path) != Some(line)).collect();
    if !changed.is_empty() || before.len() != after.len() {
        found.push((Failure::LessIsolated, format!("the host's files are changed: {changed:?}")));
    }
    let left = subject.remove();
    if !left.is_empty() {
        found.push((Failure::Left, left.join(", ")));
    }
    found
}

/// Exchanges the two names again and again, from some moment on, while something is done.
fn while_racing<T>(paths: &RacedPaths, rng: &mut Rng, work: impl FnOnce() -> T) -> T {
    let (begin, pause) = (rng.below(4000) as u64, rng.below(40) as u64);
    let mut delay = Some(Duration::from_micros(begin));
    let again = || {
        if let Some(delay) = delay.take() {
            return std::thread::sleep(delay);
        }
        exchange(&paths.pair[0], &paths.pair[1]).expect("exchange two names");
        match pause {
            0..20 => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_micros(pause)),
        }
    };
    while_repeating(again, work)
}

/// It says that the container is made: is it one as was asked for?
fn made(
    race: Race,
    subject: &Subject,
    paths: &RacedPaths,
    outcome: &Outcome,
    reference: &IsolationReport,
) -> Option<Finding> {
    put_back(subject, paths);
    let report = match report(race, subject) {
        // The program is gone from where it was, or the container would not start for other reasons: none runs.
        Err(why) if why.starts_with("start after create") => return None,
        Err(why) => return Some((Failure::Swallowed, format!("{why}; {}", outcome.stderr.trim()))),
        Ok(report) => report,
    };
    if subject.has_said(SECRET) {
        return Some((Failure::LessIsolated, "it can read what is the host's".into()));
    }
    let open = race.leaves_open();
    let differences: Vec<_> = reference
        .differences(&report)
        .into_iter()
        .filter(|line| !open.iter().any(|open| line == open || line.starts_with(&format!("{open}:"))))
        .collect();
    (!differences.is_empty()).then(|| (Failure::LessIsolated, differences.join("; ")))
}

/// Gives the two names their first meaning. A directory on which something was mounted has taken that along, so where there is
/// a mount it tells which is the first: whoever may rename in the root filesystem may do so later just as well.
fn put_back(subject: &Subject, paths: &RacedPaths) {
    let root = subject.container.bundle.rootfs();
    let inside =
        |path: &std::path::Path| format!("/{}", path.strip_prefix(&root).expect("in the root").display());
    let mounts =
        fs::read_to_string(format!("/proc/{}/mountinfo", subject.container.pid())).unwrap_or_default();
    let other = inside(&paths.pair[1]);
    let has_mount = Mount::parse(&mounts).iter().any(|mount| mount.target == other);
    let kind = |path| fs::symlink_metadata(path).map(|meta| meta.file_type().is_symlink() || is_fifo(&meta));
    let is_link = kind(&paths.pair[0]).unwrap_or(false);
    if has_mount || is_link {
        exchange(&paths.pair[0], &paths.pair[1]).expect("exchange two names");
    }
}

fn is_fifo(meta: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&meta.file_type())
}
