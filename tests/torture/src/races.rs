//! `torture races`: paths that a container controls are exchanged while it is made.

use crate::case::{Fault, Found, failure, words};
use crate::kind::Kind;
use crate::life::Life;
use crate::race::{Race, SECRET, Stage};
use crate::report::Report;
use crate::sample::{self, Amount, Chance};
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
    let references: BTreeMap<Race, Result<Report, String>> =
        races.iter().map(|race| (*race, reference(*race))).collect();
    let rounds: Vec<Race> = (0..ROUNDS).flat_map(|_| races.iter().copied()).collect();
    let number = AtomicUsize::new(0);
    sample::work(&rounds, amount, |race| {
        let seed = amount.seed.wrapping_add(number.fetch_add(1, Ordering::Relaxed) as u64);
        let found = match &references[race] {
            Ok(reference) => caught(|| round(*race, Some(reference), Chance::new(seed)))
                .unwrap_or_else(|why| vec![(Fault::Broken, why)]),
            Err(why) => vec![(Fault::Broken, format!("undisturbed: {why}"))],
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
fn reference(race: Race) -> Result<Report, String> {
    caught(|| {
        let verb = verb(race);
        let mut life = Life::new(Kind::Default, verb);
        race.set(&mut life);
        verb.prepare(&mut life);
        let outcome = life.call(verb);
        let report = if outcome.code == 0 { report(race, &life) } else { Err(outcome.to_string()) };
        life.remove();
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
fn report(race: Race, life: &Life) -> Result<Report, String> {
    match verb(race) {
        Verb::RunDetached => {
            let outcome = life.call(Verb::ExecDetached);
            if outcome.code == 0 { life.report(Verb::ExecDetached) } else { Err(outcome.stderr) }
        }
        verb => life.report(verb),
    }
}

fn round(race: Race, reference: Option<&Report>, mut chance: Chance) -> Vec<Found> {
    let verb = verb(race);
    let mut life = Life::new(Kind::Default, verb);
    let stage = race.set(&mut life);
    verb.prepare(&mut life);
    let before = snapshot(&stage.canary);
    let called = while_racing(&stage, &mut chance, || caught(|| life.call(verb)));
    let mut found = Vec::new();
    match called {
        Err(why) => found.push((Fault::Hung, why)),
        Ok(outcome) if outcome.code != 0 => found.extend(failure(&outcome)),
        Ok(outcome) => {
            found.extend(reference.and_then(|reference| made(race, &life, &stage, &outcome, reference)))
        }
    }
    let after = snapshot(&stage.canary);
    let changed: Vec<_> = after.iter().filter(|(path, line)| before.get(*path) != Some(line)).collect();
    if !changed.is_empty() || before.len() != after.len() {
        found.push((Fault::LessIsolated, format!("the host's files are changed: {changed:?}")));
    }
    let left = life.remove();
    if !left.is_empty() {
        found.push((Fault::Left, left.join(", ")));
    }
    found
}

/// Exchanges the two names again and again, from some moment on, while something is done.
fn while_racing<T>(stage: &Stage, chance: &mut Chance, work: impl FnOnce() -> T) -> T {
    let (begin, pause) = (chance.below(4000) as u64, chance.below(40) as u64);
    let mut delay = Some(Duration::from_micros(begin));
    let again = || {
        if let Some(delay) = delay.take() {
            return std::thread::sleep(delay);
        }
        exchange(&stage.pair[0], &stage.pair[1]).expect("exchange two names");
        match pause {
            0..20 => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_micros(pause)),
        }
    };
    while_repeating(again, work)
}

/// It says that the container is made: is it one as was asked for?
fn made(race: Race, life: &Life, stage: &Stage, outcome: &Outcome, reference: &Report) -> Option<Found> {
    put_back(life, stage);
    let report = match report(race, life) {
        // The program is gone from where it was, or the container would not start for other reasons: none runs.
        Err(why) if why.starts_with("start after create") => return None,
        Err(why) => return Some((Fault::Swallowed, format!("{why}; {}", outcome.stderr.trim()))),
        Ok(report) => report,
    };
    if life.has_said(SECRET) {
        return Some((Fault::LessIsolated, "it can read what is the host's".into()));
    }
    let open = race.leaves_open();
    let differences: Vec<_> = reference
        .differences(&report)
        .into_iter()
        .filter(|line| !open.iter().any(|open| line == open || line.starts_with(&format!("{open}:"))))
        .collect();
    (!differences.is_empty()).then(|| (Fault::LessIsolated, differences.join("; ")))
}

/// Gives the two names their first meaning. A directory on which something was mounted has taken that along, so where there is
/// a mount it tells which is the first: whoever may rename in the root filesystem may do so later just as well.
fn put_back(life: &Life, stage: &Stage) {
    let root = life.container.bundle.rootfs();
    let inside =
        |path: &std::path::Path| format!("/{}", path.strip_prefix(&root).expect("in the root").display());
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", life.container.pid())).unwrap_or_default();
    let other = inside(&stage.pair[1]);
    let has_mount = Mount::parse(&mounts).iter().any(|mount| mount.target == other);
    let kind = |path| fs::symlink_metadata(path).map(|meta| meta.file_type().is_symlink() || is_fifo(&meta));
    let is_link = kind(&stage.pair[0]).unwrap_or(false);
    if has_mount || is_link {
        exchange(&stage.pair[0], &stage.pair[1]).expect("exchange two names");
    }
}

fn is_fifo(meta: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&meta.file_type())
}
