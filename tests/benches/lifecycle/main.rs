//! `make bench`: what a container costs with each runtime at hand, and what it has to cost.
//!
//! Measured are `run /bin/true` with `runc spec`'s config, create + start + delete, and the peak memory of
//! create; for ampoule, for each of runc, crun and youki that is on PATH, and (run only) for `baseline`, the
//! straight line of kernel calls. All take turns in a random order, round by round, so that a noisy moment
//! hits all of them; in one private mount namespace, which shows first a host with only cgroup v1, then one
//! with only v2.
//!
//!     cargo bench -p ampoule-tests --bench lifecycle -- [--json FILE]
//!
//! `ROUNDS` (40), `AMPOULE` (target/bin/ampoule) and `BASELINE` (where cargo puts it for musl) can be set in
//! the environment. Needs root and busybox-static. Fails when ampoule or baseline does.

mod command;
mod contender;
mod environment;
mod report;
mod sys;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::command::Interrupts;
use crate::contender::Contender;
use crate::environment::{Environment, Layout, MountNamespace};
use crate::report::{Measurement, Row};

/// Peak memory hardly varies, and is measured apart from time (see [`command::Spawn`]).
const MEMORY_ROUNDS: usize = 5;

fn main() -> ExitCode {
    match bench() {
        Ok(failures) if failures.is_empty() => ExitCode::SUCCESS,
        Ok(failures) => {
            failures.iter().for_each(|failure| eprintln!("bench: {failure}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything; returns what went wrong with our own programs.
fn bench() -> Result<Vec<String>> {
    let json = json_argument()?;
    let rounds = match std::env::var("ROUNDS") {
        Ok(text) => {
            text.parse().ok().filter(|n| *n > 0).with_context(|| format!("ROUNDS={text} is no count"))?
        }
        Err(_) => 40,
    };
    let interrupts = Interrupts::catch()?;
    let (contenders, mut failures) = contender::find()?;
    report::print_header(rounds, &contenders);

    let namespace = MountNamespace::build()?;
    let mut document = Vec::new();
    for layout in [Layout::V1, Layout::V2] {
        if let Err(lack) = namespace.show(layout) {
            println!("\n{}: not measured: {lack:#}", layout.title());
            continue;
        }
        let measured = measure(
            &contenders,
            &Environment { namespace: &namespace, layout, interrupts: &interrupts },
            rounds,
        );
        namespace.sweep();
        let rows = measured?;
        failures.extend(rows.iter().filter(|r| r.contender.is_ours()).filter_map(|row| {
            let refusal = row.refusal.as_ref()?;
            Some(format!("{} failed on {}: {refusal}", row.contender.name, layout.title()))
        }));
        report::print_table(layout, &rows);
        document.extend(rows.iter().map(|row| row.as_json(layout)));
    }
    if let Some(path) = json {
        std::fs::write(&path, format!("{:#}\n", serde_json::Value::from(document)))
            .with_context(|| format!("write {path}"))?;
    }
    Ok(failures)
}

/// Measures every contender in one environment. One that fails is out, with its reason; the others go on.
fn measure<'a>(contenders: &'a [Contender], env: &Environment<'_>, rounds: usize) -> Result<Vec<Row<'a>>> {
    let mut rows: Vec<Row> = contenders.iter().map(Row::new).collect();
    for row in &mut rows {
        row.take(Measurement::WarmUp, env)?;
    }
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for round in 0..rounds {
        for index in dice.shuffled(rows.len()) {
            rows[index].take(Measurement::Run, env)?;
            rows[index].take(Measurement::CreateStartDelete, env)?;
            if round < MEMORY_ROUNDS {
                rows[index].take(Measurement::Memory, env)?;
            }
        }
    }
    Ok(rows)
}

fn json_argument() -> Result<Option<String>> {
    // Cargo adds `--bench` to what it runs.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match (args.next().as_deref(), args.next(), args.next()) {
        (None, ..) => Ok(None),
        (Some("--json"), Some(file), None) => Ok(Some(file)),
        _ => bail!("usage: lifecycle [--json FILE]"),
    }
}

/// A xorshift generator: the order needs to be unrelated to the contenders, not unpredictable.
struct Dice(u64);

impl Dice {
    fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            order.swap(last, (self.0 % (last as u64 + 1)) as usize);
        }
        order
    }
}
