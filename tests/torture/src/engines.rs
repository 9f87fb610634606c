//! `torture engines`: the shim is killed at each system call that it makes for a call of containerd's. What containerd does
//! then, the shim program's `delete`, must leave nothing.

use crate::case::{Failure, Finding, words};
use crate::sample::{self, Amount};
use crate::tally::{Figures, Tally};
use crate::trace::{self, Act, Pace};
use ampoule_tests::{Bundle, Shim, call_timeout, patience};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// A call of containerd's, and what came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Create,
    Start,
    Exec,
    Kill,
    Delete,
}

const STAGES: [Stage; 5] = [Stage::Create, Stage::Start, Stage::Exec, Stage::Kill, Stage::Delete];

impl Stage {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Brings a container to where the call finds it.
    fn prepare(self, shim: &Shim) {
        if self == Stage::Create {
            return;
        }
        shim.tasks.create(call_timeout(), &shim.create_request()).expect("Create");
        if self != Stage::Start {
            shim.start_process(&shim.id, "");
        }
        if self == Stage::Delete {
            shim.kill("", Signal::SIGKILL as i32).expect("Kill");
            shim.wait("");
        }
    }

    /// The call. Whoever is killed in the middle of it answers nothing.
    fn call(self, shim: &Shim) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let fail = |panic: Box<dyn std::any::Any + Send>| words(&*panic);
        match self {
            Stage::Create => {
                shim.tasks.create(call_timeout(), &shim.create_request()).map(drop).map_err(|e| text(&e))
            }
            Stage::Start => {
                catch_unwind(AssertUnwindSafe(|| shim.start_process(&shim.id, ""))).map(drop).map_err(fail)
            }
            Stage::Exec => {
                let request = shim.exec_request("more", &["sleep", "1000"]);
                catch_unwind(AssertUnwindSafe(|| shim.exec(&request))).map(drop).map_err(fail)
            }
            Stage::Kill => shim.kill("", Signal::SIGKILL as i32).map(drop).map_err(|e| text(&e)),
            Stage::Delete => shim.delete("").map(drop).map_err(|e| text(&e)),
        }
    }
}

/// Plays each system call of each stage, or those of a sample.
pub fn run(stage: Option<&str>, call: Option<usize>, amount: Amount) -> Figures {
    let tally = Tally::begin("engines");
    let mut all = Vec::new();
    for stage in STAGES.into_iter().filter(|one| stage.is_none_or(|name| name == one.name())) {
        match catch_unwind(|| count(stage)) {
            Ok(calls) => all.extend((1..=calls).map(|call| (stage, call))),
            Err(panic) => {
                let found = [(Failure::Broken, words(&*panic))];
                tally.note(
                    &format!("torture engines --stage {}", stage.name()),
                    "undisturbed",
                    true,
                    false,
                    &found,
                );
            }
        }
    }
    all.retain(|(_, one)| call.is_none_or(|call| call == *one));
    tally.announce(all.len());
    sample::work(&all, amount, |(stage, call)| {
        let played = catch_unwind(|| kill_at(*stage, *call));
        let (reached, found) = played.unwrap_or_else(|panic| (true, vec![(Failure::Broken, words(&*panic))]));
        let again = format!("torture engines --stage {} --call {call}", stage.name());
        tally.note(&again, "the shim killed", reached, false, &found);
    });
    tally.end()
}

/// How many system calls the shim makes for it.
fn count(stage: Stage) -> usize {
    let shim = Shim::start(Bundle::sleeping());
    stage.prepare(&shim);
    let (trace, answer) = trace::attached(Pid::from_raw(shim.pid), Act::Count, || stage.call(&shim));
    answer.unwrap_or_else(|why| panic!("{stage:?}, undisturbed: {why}"));
    trace.calls.len()
}

fn kill_at(stage: Stage, call: usize) -> (bool, Vec<Finding>) {
    let shim = Shim::start(Bundle::sleeping());
    stage.prepare(&shim);
    let (trace, _) =
        trace::attached(Pid::from_raw(shim.pid), Act::Kill(call, Pace::AtOnce), || stage.call(&shim));
    if !trace.reached {
        return (false, Vec::new());
    }
    let mut found = Vec::new();
    let deleted = shim.delete_verb();
    if deleted.code != 0 {
        found.push((Failure::Left, deleted.to_string()));
    }
    let end = Instant::now() + patience() / 4;
    while !shim.leftovers().is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let left = shim.leftovers();
    if !left.is_empty() {
        found.push((Failure::Left, left.join(", ")));
        // What the first did not remove the second may.
        shim.delete_verb();
    }
    (true, found)
}
