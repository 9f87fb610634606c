//! The last lines of a run: what took long, what skipped itself, each place's time, what failed.

use crate::report::PlaceResults;
use crate::test::{Ended, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// All of it.
pub(crate) fn of(places: &[PlaceResults], broken: &[String], took: Duration) -> String {
    let mut lines = slowest(places);
    lines.extend(skips(places));
    lines.extend(table(places));
    lines.extend(failures(places, broken));
    let failed = broken.len() + places.iter().map(PlaceResults::failed).sum::<usize>();
    let skipped: usize = places.iter().map(PlaceResults::skipped).sum();
    let passed =
        places.iter().map(|results| results.ended.len()).sum::<usize>() + broken.len() - failed - skipped;
    if passed + failed + skipped == 0 {
        lines.push("there are no such tests".to_owned());
    }
    lines.push(format!("In {}:", minutes(took)));
    // Alone on its line: CI systems look for it.
    lines.push(format!("{passed} passed, {failed} failed, {skipped} skipped"));
    lines.join("\n")
}

/// Every test, with its place's name.
fn tests(places: &[PlaceResults]) -> impl Iterator<Item = (&str, &Ended)> {
    places.iter().flat_map(|results| results.ended.iter().map(|test| (results.name.as_str(), test)))
}

fn slowest(places: &[PlaceResults]) -> Vec<String> {
    let mut all: Vec<_> = tests(places).collect();
    all.sort_by_key(|(_, test)| std::cmp::Reverse(test.took));
    let line = |(place, test): (&str, &Ended)| {
        format!("{:>8.1} s  {} @{place}", test.took.as_secs_f64(), test.title)
    };
    let lines = all.into_iter().take(10).map(line);
    ["".to_owned(), "The slowest:".to_owned()].into_iter().chain(lines).collect()
}

/// How many tests lacked what, where; and how many have shown nothing anywhere.
fn skips(places: &[PlaceResults]) -> Vec<String> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let (mut skipped, mut ran) = (BTreeSet::new(), BTreeSet::new());
    for (place, test) in tests(places) {
        if let Verdict::Skipped(why) = &test.verdict {
            *counts.entry((place, why)).or_default() += 1;
            skipped.insert(&test.title);
        } else {
            ran.insert(&test.title);
        }
    }
    if counts.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["".to_owned(), "Skipped themselves:".to_owned()];
    lines.extend(counts.into_iter().map(|((place, why), count)| format!("{count:>8}    @{place}: {why}")));
    lines.push(format!("{:>8}    in every place where they were tried", skipped.difference(&ran).count()));
    lines
}

fn table(places: &[PlaceResults]) -> Vec<String> {
    let mut lines = vec!["".to_owned(), "place              passed failed skipped     time".to_owned()];
    for results in places {
        let (failed, skipped) = (results.failed(), results.skipped());
        let passed = results.ended.len() - failed - skipped;
        let took = results.took.map_or("not done".to_owned(), minutes);
        lines.push(format!("{:<18} {passed:>6} {failed:>6} {skipped:>7} {took:>8}", results.name));
    }
    lines
}

fn failures(places: &[PlaceResults], broken: &[String]) -> Vec<String> {
    let failed = tests(places).filter(|(_, test)| test.has_failed());
    let failed = failed.map(|(place, test)| format!("FAILED {} @{place}", test.title));
    let broken = broken.iter().map(|what| format!("FAILED {what}"));
    ["".to_owned()].into_iter().chain(failed).chain(broken).collect()
}

/// `2:05`.
pub(crate) fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
