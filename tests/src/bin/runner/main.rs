//! The runner of the integration tests, each in a process of its own, where `tests/vm/places` says:
//!
//! - `runner quick` and `runner all` run a tier: this host's tests, and those of the test machine's places, a boot for each
//!   machine. Progress, failures and a summary go to stdout, a line for each test to `target/tests.log`, and the same for CI
//!   systems to `target/junit.xml`. The exit code is 1 when a test failed.
//! - `runner in PLACE TIER` is what that starts, here or inside the machine.
//! - `runner list TIER` prints which tests run where.
//!
//! Environment variables choose further:
//!
//! - `RUNTIME`: the runtime under test; ours when unset. `TESTS`: only tests with this in `FILE::NAME`.
//! - `SHARD`: a machine of the list. `PLACES`: names of places, `host,v2-user`; a star at the end stands for anything.
//! - `STRICT=1`: no skips without a reason. `REPEATS`: percent of the rounds of stress tests (10, and 100 of `all`).
//! - `JOBS`: how many tests at a time in a place. `LIMIT`: seconds that one test may take, `VM_LIMIT` that a machine may.
//! - `PROGRAMS`: the directory of the test programs, for tests of this program itself.

mod event;
mod full_run;
mod job;
mod junit;
mod place_run;
mod report;
mod stop;
mod summary;
mod sys;
mod test;

use ampoule_tests::places::Tier;
use anyhow::{Context, Result, bail};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("runner: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether no test failed.
fn run() -> Result<bool> {
    sys::default_sigchld()?;
    // The list, the programs and the machine's scripts are this tree's, wherever it is called from.
    std::env::set_current_dir(ampoule_tests::workspace()).context("go to the source tree")?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [name] => full_run::run(tier(name)?),
        ["in", place, name] => place_run::run(place, tier(name)?),
        ["list", name] => place_run::list_all(tier(name)?).map(|()| true),
        _ => bail!("usage: runner quick|all, runner in PLACE quick|all, or runner list quick|all"),
    }
}

fn tier(name: &str) -> Result<Tier> {
    match name {
        "quick" => Ok(Tier::Quick),
        "all" => Ok(Tier::All),
        _ => bail!("no tier {name}: quick or all"),
    }
}

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> Result<u64> {
    std::env::var(name)
        .map_or(Ok(otherwise), |text| text.parse().with_context(|| format!("{name}={text} is no number")))
}
