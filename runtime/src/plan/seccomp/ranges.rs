//! The system calls of each architecture, laid out on the line of all numbers.

use super::arch::Arch;
use super::multiplex;
use super::profile::{Profile, verdict};
use super::rule::{Rule, Rules};

/// What a number gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// This, whatever its arguments.
    Verdict(u32),
    /// What this combination of rules says.
    Conditions(u16),
}

/// The calls of which a profile speaks, on one architecture.
pub(super) struct Calls {
    arch: Arch,
    /// By number, each once.
    fates: Vec<(u32, Fate)>,
    /// Above it is what came after the profile was written.
    newest: Option<u32>,
}

/// All numbers of an architecture's token: what each holds from its first number to the next one's.
pub(super) struct Line {
    pub(super) token: u32,
    pub(super) spans: Vec<(u32, Fate)>,
}

/// Turns names into numbers.
pub(super) fn calls(profile: &Profile<'_>, arch: Arch, rules: &mut Rules) -> Calls {
    /// The order of the document is kept in the middle.
    struct Said(Vec<(u32, u32, Fate)>);
    impl Said {
        fn push(&mut self, number: u32, fate: Fate) {
            self.0.push((number, self.0.len() as u32, fate));
        }
    }
    let mut said = Said(Vec::with_capacity(512));
    let mut newest = 0;
    for entry in &profile.entries {
        // runc doesn't pass a rule on that says what the default does, so it hides no other either.
        let counts = entry.verdict != profile.default;
        let mut fates = vec![Fate::Verdict(entry.verdict)];
        let alternatives = entry.conditions.chunks(if entry.alternatives { 1 } else { 6 });
        if !entry.conditions.is_empty() {
            fates = alternatives
                .clone()
                .map(|all| Fate::Conditions(rules.add(Rule::new(all, entry.verdict))))
                .collect();
        }
        for (name, call) in &entry.calls {
            if let Some(number) = call.number(arch) {
                newest = newest.max(number);
                fates.iter().filter(|_| counts).for_each(|fate| said.push(number, *fate));
            }
            if arch != Arch::X86 {
                continue;
            }
            let Some((number, which)) = multiplex::through(name) else { continue };
            newest = newest.max(number);
            for all in alternatives.clone().chain(entry.conditions.is_empty().then_some(&[][..])) {
                let rule = Rule::new(&multiplex::carry_over(all, which), entry.verdict);
                if counts {
                    said.push(number, Fate::Conditions(rules.add(rule)));
                }
            }
        }
    }
    said.0.sort_unstable_by_key(|(number, order, _)| (*number, *order));
    let fates = said.0.chunk_by(|a, b| a.0 == b.0);
    let fates = fates.map(|all| (all[0].0, together(all, arch, rules))).collect();
    // Number 0 alone is no measure (runc).
    Calls { arch, fates, newest: Some(newest).filter(|n| *n != 0 && !passes(profile.default)) }
}

/// A default that lets new calls pass. A tracer is expected to know them.
fn passes(default: u32) -> bool {
    matches!(default & 0xffff_0000, verdict::ALLOW | verdict::LOG | verdict::TRACE)
}

/// All that is said of one number.
fn together(said: &[(u32, u32, Fate)], arch: Arch, rules: &mut Rules) -> Fate {
    let mut all = Vec::new();
    for (_, _, fate) in said {
        match fate {
            Fate::Verdict(_) => return *fate,
            Fate::Conditions(rule) => all.push(*rule),
        }
    }
    Fate::Conditions(rules.combine(all, arch.wide()))
}

/// The lines of all architectures, the native one first. x32 shares x86-64's.
pub(super) fn lines(profile: &Profile<'_>, calls: &[Calls]) -> Vec<Line> {
    let default = Fate::Verdict(profile.default);
    let x32 = calls.iter().find(|c| c.arch == Arch::X32);
    let mut lines = Vec::with_capacity(calls.len());
    for calls in calls.iter().filter(|c| c.arch != Arch::X32) {
        let mut spans = Spans(Vec::with_capacity(256));
        spans.calls(0, calls, default);
        if calls.arch == Arch::X86_64 {
            high_half(&mut spans, calls, x32, default);
        }
        lines.push(Line { token: calls.arch.token(), spans: spans.0 });
    }
    lines
}

/// x86-64 from 2³⁰ on, where x32's calls are. Without x32 they count as another architecture's, but for -1, with which
/// a tracer has a call skipped (seccomp(2)). runc tells the two apart by the single bit 30, and so the numbers that
/// have bit 31 only are x86-64's.
fn high_half(spans: &mut Spans, x86_64: &Calls, x32: Option<&Calls>, default: Fate) {
    let undelegated = Fate::Verdict(verdict::KILL_THREAD);
    let other = if x32.is_some() { default } else { undelegated };
    match x32 {
        Some(calls) => spans.calls(1 << 30, calls, default),
        None => spans.from(1 << 30, undelegated),
    }
    spans.from(1 << 31, x86_64.newest.map_or(other, |_| NEWER));
    spans.from(3 << 30, x32.and_then(|calls| calls.newest).map_or(other, |_| NEWER));
    if x32.is_none() {
        spans.from(u32::MAX, default);
    }
}

const NEWER: Fate = Fate::Verdict(verdict::ENOSYS);

/// A line in the making.
struct Spans(Vec<(u32, Fate)>);

impl Spans {
    /// From this number on, until further notice.
    fn from(&mut self, first: u32, fate: Fate) {
        if self.0.last().is_some_and(|(last, _)| *last == first) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|(_, before)| *before != fate) {
            self.0.push((first, fate));
        }
    }

    fn calls(&mut self, first: u32, calls: &Calls, default: Fate) {
        self.from(first, default);
        for (number, fate) in &calls.fates {
            self.from(*number, *fate);
            self.from(number + 1, default);
        }
        if let Some(newest) = calls.newest {
            self.from(newest + 1, NEWER);
        }
    }
}
