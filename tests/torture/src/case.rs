//! One case: a verb of which one process is disturbed at one system call; and what a case has shown.

use crate::bundle_kind::BundleKind;
use crate::isolation::IsolationReport;
use crate::subject::{Subject, on_host_of};
use crate::syscalls;
use crate::trace::{Act, Pace, Target, Trace};
use crate::verb::{Side, Verb};
use ampoule_tests::{Outcome, patience};
use nix::errno::Errno;
use std::fmt;
use std::time::{Duration, Instant};

/// What is wrong, as docs/reliability.md counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// Something can't be removed, or is left when it was.
    Left,
    /// The verb never ended.
    Hung,
    /// A program has less isolation than was asked for.
    LessIsolated,
    /// The verb panicked, or a signal ended it.
    Panicked,
    /// It said 0, and what it should have done isn't so; or what it said isn't.
    Swallowed,
    /// It failed without one line that says why.
    Unexplained,
    /// The harness itself could not go on.
    Broken,
}

impl Failure {
    /// All of them, in the order of the summary.
    pub const ALL: [Self; 7] = [
        Self::Left,
        Self::Hung,
        Self::LessIsolated,
        Self::Panicked,
        Self::Swallowed,
        Self::Unexplained,
        Self::Broken,
    ];
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Left => "left",
            Failure::Hung => "hung",
            Failure::LessIsolated => "less isolated",
            Failure::Panicked => "panicked",
            Failure::Swallowed => "swallowed",
            Failure::Unexplained => "unexplained",
            Failure::Broken => "broken",
        })
    }
}

/// A failure, and what was seen of it.
pub type Finding = (Failure, String);

/// What a case has shown.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The system call at which it was disturbed; none if the verb ended before.
    pub call: Option<i64>,
    /// What is wrong, as docs/reliability.md counts it.
    pub found: Vec<Finding>,
    /// The verb failed and left something that `delete --force` removed.
    pub untidy: bool,
}

/// A verb that is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// The verb.
    pub verb: Verb,
    /// Which of its processes.
    pub side: Side,
    /// The bundle.
    pub kind: BundleKind,
    /// At which of its system calls, from 1.
    pub call: usize,
    /// With which error; none: SIGKILL.
    pub errno: Option<Errno>,
    /// Whether it is held for a moment before it is killed.
    pub held: bool,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, side, kind, call, errno, held } = self;
        let part = if errno.is_some() { "fault" } else { "kill" };
        let (verb, side, kind) = (verb.name(), side.name(), kind.word());
        write!(f, "torture {part} --verb {verb} --side {side} --bundle {kind} --call {call}")?;
        f.write_str(if *held { " --held" } else { "" })?;
        errno.map_or(Ok(()), |errno| write!(f, " --errno {errno:?}"))
    }
}

impl Case {
    /// Plays it. `reference` is the report of an undisturbed run.
    pub fn play(&self, reference: Option<&IsolationReport>) -> Verdict {
        let played = on_host_of(self.kind, || {
            let mut subject = Subject::new(self.kind, self.verb);
            self.verb.prepare(&mut subject);
            let act = match self.errno {
                None if self.held => Act::Kill(self.call, Pace::Held),
                None => Act::Kill(self.call, Pace::AtOnce),
                Some(errno) => Act::Fail(self.call, errno),
            };
            let target = self.verb.target(self.side, &subject);
            let (trace, outcome) = subject.trace(self.verb, target, act);
            let mut verdict = self.judge(&subject, &trace, &outcome, reference);
            let left = subject.remove();
            if !left.is_empty() {
                verdict.found.push((Failure::Left, left.join(", ")));
            }
            verdict
        });
        played.unwrap_or_else(|panic| Verdict {
            found: vec![(Failure::Broken, words(&*panic))],
            ..Default::default()
        })
    }

    fn judge(
        &self,
        subject: &Subject,
        trace: &Trace,
        outcome: &Outcome,
        reference: Option<&IsolationReport>,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        if trace.reached {
            verdict.call = trace.calls.last().copied();
        }
        let killed_itself = self.errno.is_none() && self.side == Side::Runtime && trace.reached;
        if trace.hung {
            verdict.found.push((Failure::Hung, outcome.stderr.trim().to_owned()));
        } else if killed_itself {
            // Nothing to be said: the rest is what it left, and whether it can be removed.
            verdict.found.extend(self.half_made(subject));
        } else if self.errno.is_none() && trace.code == 137 {
            // What was killed counts as the program by then, whose exit code this is.
        } else if trace.code == 0 {
            verdict.found.extend(self.success(subject, outcome, reference));
        } else {
            verdict.found.extend(unexplained(outcome));
            verdict.untidy = self.verb.makes() && !subject.leftovers().is_empty();
        }
        verdict
    }

    /// Its maker was killed: the container is created, or runs its program, or ends; and not only says so.
    fn half_made(&self, subject: &Subject) -> Option<Finding> {
        if !self.verb.starts_init() || self.verb == Verb::Start {
            return None;
        }
        let end = Instant::now() + patience();
        loop {
            let (status, program) = subject.status();
            match &*status {
                "none" | "stopped" => return None,
                "running" if program == "probe" => return None,
                "created" if subject.call(Verb::Start).code == 0 => return None,
                _ if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
                _ => {
                    let seen = format!("its maker was killed: {status}, as {program:?}");
                    return Some((Failure::Swallowed, seen));
                }
            }
        }
    }

    /// It has said 0: is it so?
    fn success(
        &self,
        subject: &Subject,
        outcome: &Outcome,
        reference: Option<&IsolationReport>,
    ) -> Option<Finding> {
        if let Err(untruth) = self.verb.truth(subject, &outcome.stdout) {
            return Some((Failure::Swallowed, untruth));
        }
        // A program whose process was killed reports nothing, and has nothing to hide.
        if !self.verb.starts() || self.errno.is_none() {
            return None;
        }
        let reference = reference?;
        match subject.report(self.verb) {
            // The process met its end after the verb had said that all was well with it, which it was.
            Err(why) if self.side == Side::Child && why.starts_with("start after create") => None,
            Err(why) => Some((Failure::Swallowed, why)),
            Ok(report) => {
                let differences = reference.differences(&report);
                (!differences.is_empty()).then(|| (Failure::LessIsolated, differences.join("; ")))
            }
        }
    }
}

/// Panics of Rust's library that no program on it can answer, and why they are none of ours.
const EXCUSED: &[&str] = &[
    // A program whose own memory ends, ends (std::alloc::handle_alloc_error); of what it has made the next verb finds all.
    "memory allocation of",
    // Before main: the guard page of the stack on which an overflow is told.
    "library/std/src/sys/pal/unix/stack_overflow",
    // A directory whose descriptor is not closed (std::fs::ReadDir); the kernel has no case of it.
    "unexpected error during closedir",
    // std::process reads a socket pair of its own, on which nothing fails but with ENOMEM.
    "the CLOEXEC pipe failed",
];

/// A verb has failed: it must say why, in one line.
pub fn unexplained(outcome: &Outcome) -> Option<Finding> {
    let said = outcome.stderr.trim();
    if EXCUSED.iter().any(|words| said.contains(words)) {
        return None;
    }
    if outcome.code == 134 || said.contains("panicked at") || (129..160).contains(&outcome.code) {
        return Some((Failure::Panicked, format!("{}: {said}", outcome.code)));
    }
    let errors = said.lines().filter(|line| !line.contains("warning")).count();
    (errors != 1).then(|| (Failure::Unexplained, format!("{}: {said:?}", outcome.code)))
}

/// An undisturbed run: its system calls and its report.
pub fn record(
    verb: Verb,
    side: Side,
    kind: BundleKind,
) -> Result<(Vec<i64>, Option<IsolationReport>), String> {
    let recorded = on_host_of(kind, || {
        let report = verb.starts().then(|| undisturbed(verb, kind)).transpose()?;
        let mut subject = Subject::new(kind, verb);
        verb.prepare(&mut subject);
        let target: Target = verb.target(side, &subject);
        let (trace, outcome) = subject.trace(verb, target, Act::Count);
        let left = subject.remove();
        match (outcome.code, left.is_empty()) {
            (0, true) => Ok((trace.calls, report)),
            (0, false) => Err(format!("undisturbed, it left {left:?}")),
            _ => Err(format!("undisturbed: {outcome}")),
        }
    });
    recorded.unwrap_or_else(|panic| Err(words(&*panic)))
}

/// The report of a run that isn't even traced.
fn undisturbed(verb: Verb, kind: BundleKind) -> Result<IsolationReport, String> {
    let mut subject = Subject::new(kind, verb);
    verb.prepare(&mut subject);
    let outcome = subject.call(verb);
    let report =
        if outcome.code == 0 { subject.report(verb) } else { Err(format!("undisturbed: {outcome}")) };
    subject.remove();
    report
}

/// What a panic said.
pub fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").replace('\n', " | ")
}

/// The call of a verdict, in words.
pub fn call_name(verdict: &Verdict) -> String {
    verdict.call.map_or_else(|| "never reached".to_owned(), syscalls::name)
}
