//! Kills the programs at every system call, has each call fail, races the paths that a container controls, and looks at what
//! is left and at what isolation there is. See `docs/reliability.md`.

mod alarm;
mod calls;
mod case;
mod disturb;
mod engines;
mod kind;
mod lie;
mod life;
mod orphans;
mod race;
mod races;
mod registers;
mod report;
mod sample;
mod self_check;
mod soak;
mod sys;
mod tally;
mod trace;
mod verb;

use clap::Parser;
use disturb::{Form, How, Which};
use sample::Amount;
use std::cell::OnceCell;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use tally::Figures;

/// Disturbs the runtime (RUNTIME, or target/bin/ampoule) in every way, and looks at what comes of it
#[derive(Parser)]
struct Arguments {
    /// What to do
    #[arg(value_enum)]
    part: Part,
    #[command(flatten)]
    which: Which,
    /// Play this race only; may be given several times
    #[arg(long, value_name = "RACE")]
    race: Vec<race::Race>,
    /// Kill the shim at this stage only: create, start, exec, kill, delete
    #[arg(long)]
    stage: Option<String>,
    /// How long a soak goes on
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// Try an even sample of N cases of each part
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// Try an even sample, as much as goes into this time for each part
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Threads that try
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// Where samples begin, and what chance decides; by default another each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// SIGKILL before each system call of each verb
    Kill,
    /// An error instead of each system call of each verb
    Fault,
    /// Paths that a container controls, exchanged while it is made
    Races,
    /// Any verbs on fifty containers at once, some of them killed
    Soak,
    /// SIGKILL to the shim at each system call that it makes for containerd
    Engines,
    /// All of these
    All,
    /// Lies of a false runtime, each of which must be seen
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
    let faults: usize = parts.iter().map(|part| play(*part, &arguments, seed, &recorded).faults()).sum();
    if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(part: Part, arguments: &Arguments, seed: u64, recorded: &OnceCell<Vec<Form>>) -> Figures {
    let Arguments { which, .. } = arguments;
    let amount = Amount {
        cases: arguments.sample,
        time: arguments.seconds.map(Duration::from_secs),
        jobs: arguments.jobs.max(1),
        seed,
    };
    match part {
        Part::Kill => disturb::run(How::Kill, which, amount, recorded),
        Part::Fault => disturb::run(How::Fault, which, amount, recorded),
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
