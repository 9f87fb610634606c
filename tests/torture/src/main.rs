//! Kills the programs at every system call, has each call fail, races the paths that a container controls, and looks at what
//! is left and at what isolation there is. See `docs/reliability.md`.

mod bundle_kind;
mod case;
mod disturb;
mod engines;
mod isolation;
mod lie;
mod orphans;
mod race;
mod races;
mod registers;
mod sample;
mod self_check;
mod soak;
mod subject;
mod sys;
mod syscalls;
mod tally;
mod time_limit;
mod trace;
mod verb;

use clap::Parser;
use disturb::{Disturbance, Scenario, Which};
use sample::Amount;
use std::cell::OnceCell;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use tally::Figures;

/// Injects kills, faults and races into the runtime (RUNTIME, or target/bin/ampoule), and checks what is left of its
/// containers and how isolated they are
#[derive(Parser)]
struct Arguments {
    /// Which tests to run
    #[arg(value_enum)]
    part: Part,
    #[command(flatten)]
    which: Which,
    /// Run this race only; may be repeated
    #[arg(long, value_name = "RACE")]
    race: Vec<race::Race>,
    /// Kill the shim during this call only: create, start, exec, kill, delete
    #[arg(long)]
    stage: Option<String>,
    /// How many minutes the soak test runs
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// Run an even sample of N cases of each part
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// Run an even sample for S seconds of each part
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Number of parallel workers
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// Seed of samples and random choices; a new one each time by default
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Send SIGKILL before each system call of each verb
    Kill,
    /// Inject an error instead of each system call of each verb
    Fault,
    /// Exchange paths that a container controls while it is created
    Races,
    /// Run random verbs on fifty containers at once, and kill some of them
    Soak,
    /// Send SIGKILL to the shim at each system call that it makes for containerd
    Engines,
    /// Run all of the above
    All,
    /// Check the checks: each lie of a false runtime must be found
    SelfCheck,
}

impl Part {
    /// What `all` is.
    const EACH: [Self; 5] = [Self::Kill, Self::Fault, Self::Races, Self::Soak, Self::Engines];
}

fn main() -> ExitCode {
    if lie::is_called() {
        return lie::play();
    }
    let arguments = Arguments::parse();
    if !ampoule_tests::is_root() {
        eprintln!("torture: it traces processes and makes containers: run it as root");
        return ExitCode::FAILURE;
    }
    if !registers::ARE_KNOWN {
        eprintln!("SKIP torture: it knows the registers of x86-64 only");
        return ExitCode::SUCCESS;
    }
    if !orphans::are_waited_for() {
        return orphans::wait_for_all();
    }
    // A panic is one more thing that a case may show; it is told there.
    std::panic::set_hook(Box::new(|_| {}));
    let seed = arguments.seed.unwrap_or_else(|| {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(1, |time| u64::from(time.subsec_micros()))
    });
    tally::print(&format!("torture: {}, --seed {seed}", ampoule_tests::Runtime::get().program().display()));
    let parts = if arguments.part == Part::All { &Part::EACH[..] } else { &[arguments.part] };
    let recorded = OnceCell::new();
    let failures: usize = parts.iter().map(|part| play(*part, &arguments, seed, &recorded).failures()).sum();
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(part: Part, arguments: &Arguments, seed: u64, recorded: &OnceCell<Vec<Scenario>>) -> Figures {
    let Arguments { which, .. } = arguments;
    let amount = Amount {
        cases: arguments.sample,
        time: arguments.seconds.map(Duration::from_secs),
        jobs: arguments.jobs.max(1),
        seed,
    };
    match part {
        Part::Kill => disturb::run(Disturbance::Kill, which, amount, recorded),
        Part::Fault => disturb::run(Disturbance::Fault, which, amount, recorded),
        Part::Races => races::run(&arguments.race, amount),
        Part::Soak => {
            let seconds = arguments.seconds.unwrap_or(arguments.minutes * 60);
            soak::run(Duration::from_secs(seconds), seed)
        }
        Part::Engines => engines::run(arguments.stage.as_deref(), which.call, amount),
        Part::SelfCheck => self_check::run(),
        Part::All => unreachable!("each of them is played"),
    }
}
