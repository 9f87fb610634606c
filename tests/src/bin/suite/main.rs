//! Runs the integration tests, each in a process of its own, where `tests/vm/places` wants them:
//!
//! - `suite quick` and `suite all` run a tier of it: this host's tests, and those of the test machine's places, a boot for
//!   each machine. What people read goes to stdout, every test's line to `target/tests.log`, `target/junit.xml` is for
//!   machines. Ends with 1 when a test failed.
//! - `suite in PLACE TIER` is what that starts, here or inside the machine.
//! - `suite list TIER` prints what runs where.
//!
//! The environment chooses further:
//!
//! - `RUNTIME`: the runtime under test; ours when unset. `TESTS`: only tests with this in `FILE::NAME`.
//! - `SHARD`: a machine of the list. `PLACES`: names of places, `host,v2-user`; a star at the end stands for anything.
//! - `STRICT=1`: no skips without a reason. `REPEATS`: percent of the rounds of stress tests (10, and 100 of `all`).
//! - `JOBS`: how many tests at a time in a place. `LIMIT`: seconds that one test may take, `VM_LIMIT` that a machine may.
//! - `PROGRAMS`: the directory of the test programs, for tests of this program itself.

mod event;
mod inside;
mod job;
mod junit;
mod outside;
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
            eprintln!("suite: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether no test failed.
fn run() -> Result<bool> {
    sys::hear_of_children()?;
    // The list, the programs and the machine's scripts are this tree's, wherever it is called from.
    std::env::set_current_dir(ampoule_tests::workspace()).context("go to the source tree")?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [name] => outside::run(tier(name)?),
        ["in", place, name] => inside::run(place, tier(name)?),
        ["list", name] => inside::list_all(tier(name)?).map(|()| true),
        _ => bail!("usage: suite quick|all, suite in PLACE quick|all, or suite list quick|all"),
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
