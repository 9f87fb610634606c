//! `torture self-check`: an oracle that has never complained may be blind. A false runtime tells one lie after another, and
//! each must be seen for what it is.

use crate::case::{Failure, Finding};
use crate::lie::{self, Lie};
use crate::orphans;
use crate::tally::{Figures, Tally};
use ampoule_tests::{Runtime, Scratch};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

// An interrupted call is made again: the false runtime comes to its lie.
const CREATE: &str = "fault --verb create --side runtime --bundle default --errno EINTR --sample 2";
const DELETE: &str = "fault --verb delete-force --side runtime --bundle default --errno EINTR --sample 2";

/// A lie, where it is told, and what must be said of it.
const LIES: &[(Lie, &str, Option<Failure>)] = &[
    (Lie::None, "kill --verb create --bundle default --sample 4", None),
    (Lie::None, "fault --verb create --verb pause --bundle default --errno EINTR --sample 4", None),
    (Lie::Process, DELETE, Some(Failure::Left)),
    (Lie::Cgroup, DELETE, Some(Failure::Left)),
    (Lie::Mount, DELETE, Some(Failure::Left)),
    (Lie::File, DELETE, Some(Failure::Left)),
    (Lie::Nothing, DELETE, Some(Failure::Swallowed)),
    (Lie::Deaf, CREATE, Some(Failure::Hung)),
    (Lie::Panic, CREATE, Some(Failure::Panicked)),
    (Lie::Silence, CREATE, Some(Failure::Unexplained)),
    (Lie::Privileges, CREATE, Some(Failure::LessIsolated)),
    (Lie::Done, "fault --verb pause --bundle default --errno EINTR --sample 2", Some(Failure::Swallowed)),
    (Lie::Canary, "races --race passwd --sample 2", Some(Failure::LessIsolated)),
    (Lie::Cgroup, "soak --seconds 2", Some(Failure::Left)),
];

/// Tells all lies.
pub fn run() -> Figures {
    let tally = Tally::begin("lies");
    let home = Scratch::new();
    let liar = home.path().join(lie::NAME);
    symlink(std::env::current_exe().expect("find this program"), &liar).expect("give it its other name");
    for (told, words, seen) in LIES {
        let output = tell(&liar, *told, words);
        let found = blindness(&output, *seen).map(|why| (Failure::Broken, why));
        let found: Vec<Finding> = found.into_iter().collect();
        tally.note("torture self-check", &format!("{told:?}, torture {words}"), true, false, &found);
    }
    tally.end()
}

fn tell(liar: &Path, told: Lie, words: &str) -> Output {
    let name = clap::ValueEnum::to_possible_value(&told).expect("none is hidden");
    let mut command = Command::new(std::env::current_exe().expect("find this program"));
    command.args(words.split(' ')).env("RUNTIME", liar).env(lie::TRUTH, Runtime::get().program());
    command.env(lie::LIE, name.get_name()).env("PATIENCE", "4").env_remove(orphans::INNER);
    // In a soak all are.
    if words.starts_with("soak") {
        command.env(lie::DISTURBED, "1");
    }
    command.output().expect("run this program")
}

/// What it should have said and didn't, or the other way round.
fn blindness(output: &Output, seen: Option<Failure>) -> Option<String> {
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints: Vec<_> = said.lines().filter(|line| line.starts_with("FAIL")).collect();
    let is_right = match seen {
        Some(fault) => {
            output.status.code() == Some(1)
                && complaints.iter().any(|line| line.contains(&format!(": {fault}: ")))
        }
        None => output.status.success() && complaints.is_empty(),
    };
    let wanted = seen.map_or_else(|| "no complaint".to_owned(), |fault| fault.to_string());
    (!is_right).then(|| format!("{wanted} was due, not {}: {complaints:?}", output.status))
}
