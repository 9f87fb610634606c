//! The measurements, and the table of them.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::command::{Cost, Interrupted, Spawn};
use crate::contender::Contender;
use crate::environment::{Environment, Layout, Payload};

/// The kernel takes network namespaces and mounts down after their process has ended. This keeps one's
/// debris out of the next one's time.
const SETTLE: Duration = Duration::from_millis(8);

/// All that one contender did in one environment.
pub(crate) struct Row<'a> {
    pub(crate) contender: &'a Contender,
    /// Why it is out.
    pub(crate) refusal: Option<String>,
    runs: Vec<Cost>,
    lifecycles: Vec<Cost>,
    creates: Vec<Cost>,
}

/// What to do once.
#[derive(Clone, Copy)]
pub(crate) enum Measurement {
    /// `run` of the proof, uncounted: fills the page cache, and finds out who cannot work here.
    WarmUp,
    /// `run /bin/true`.
    Run,
    /// create + start + delete.
    CreateStartDelete,
    /// The peak memory of create.
    Memory,
}

impl<'a> Row<'a> {
    pub(crate) fn new(contender: &'a Contender) -> Row<'a> {
        Row { contender, refusal: None, runs: Vec::new(), lifecycles: Vec::new(), creates: Vec::new() }
    }

    /// Takes one measurement, unless the contender is out: a failure puts it out. The error is
    /// [`Interrupted`].
    pub(crate) fn take(&mut self, measurement: Measurement, env: &Environment<'_>) -> Result<()> {
        if self.refusal.is_some() {
            return Ok(());
        }
        sleep(SETTLE);
        if let Err(error) = self.measure(measurement, env) {
            self.contender.clean_up(env);
            if error.is::<Interrupted>() {
                return Err(error);
            }
            self.refusal = Some(format!("{error:#}"));
        }
        Ok(())
    }

    fn measure(&mut self, measurement: Measurement, env: &Environment<'_>) -> Result<()> {
        let contender = self.contender;
        match measurement {
            Measurement::WarmUp => drop(contender.run(Payload::Proof, env)?),
            Measurement::Run => self.runs.push(contender.run(Payload::True, env)?),
            // baseline can only run.
            Measurement::CreateStartDelete | Measurement::Memory if !contender.is_runtime() => {}
            Measurement::CreateStartDelete => {
                let [create, start, delete] = contender.create_start_delete(env, Spawn::ForTime)?;
                self.lifecycles.push(create + start + delete);
            }
            Measurement::Memory => {
                let [create, ..] = contender.create_start_delete(env, Spawn::ForMemory)?;
                self.creates.push(create);
            }
        }
        Ok(())
    }

    fn run_times(&self) -> Option<Times> {
        Times::of(&self.runs)
    }

    fn lifecycle_times(&self) -> Option<Times> {
        Times::of(&self.lifecycles)
    }

    /// One object of the `--json` document; times in milliseconds, memory in bytes.
    pub(crate) fn as_json(&self, layout: Layout) -> Value {
        let times =
            |times: Option<Times>| times.map(|t| json!({ "median": t.median, "min": t.min, "cpu": t.cpu }));
        json!({
            "place": layout.title(),
            "runtime": self.contender.name,
            "version": self.contender.version,
            "run": times(self.run_times()),
            "create_start_delete": times(self.lifecycle_times()),
            "create_peak_bytes": peak(&self.creates),
            "refusal": self.refusal,
        })
    }
}

/// Milliseconds.
struct Times {
    median: f64,
    min: f64,
    /// The median of the CPU time.
    cpu: f64,
}

impl Times {
    fn of(costs: &[Cost]) -> Option<Times> {
        let sorted = |pick: fn(&Cost) -> Duration| {
            let mut times: Vec<f64> = costs.iter().map(|cost| pick(cost).as_secs_f64() * 1e3).collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let (wall, cpu) = (sorted(|c| c.wall), sorted(|c| c.cpu));
        Some(Times { median: *wall.get(wall.len() / 2)?, min: *wall.first()?, cpu: *cpu.get(cpu.len() / 2)? })
    }
}

fn peak(costs: &[Cost]) -> Option<u64> {
    costs.iter().map(|cost| cost.peak).max()
}

/// What was measured where, and by which versions.
pub(crate) fn print_header(rounds: usize, contenders: &[Contender]) {
    let kernel = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned());
    let kernel = kernel.unwrap_or_else(|_| "unknown".into());
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    println!(
        "kernel {kernel}, {cpus} CPUs, load {load} before, {rounds} rounds; ms, median unless it says min"
    );
    for contender in contenders.iter().filter(|c| c.is_runtime()) {
        println!("{}: {} ({})", contender.name, contender.version, contender.program.display());
    }
}

/// One layout's table.
pub(crate) fn print_table(layout: Layout, rows: &[Row<'_>]) {
    let named = |name: &str| rows.iter().find(|row| row.contender.name == name && row.refusal.is_none());
    let median = |times: Option<Times>| times.map(|t| t.median);
    let baseline = median(named("baseline").and_then(Row::run_times));
    let our_run = median(named("ampoule").and_then(Row::run_times));
    let our_lifecycle = median(named("ampoule").and_then(Row::lifecycle_times));

    println!("\n{:<9}{:^44} | {:^33} | create", layout.title(), "run /bin/true", "create + start + delete");
    let times = format!("{:>8}{:>8}{:>8}", "wall", "min", "cpu");
    println!("{:<9}{times}{:>11}{:>9} | {times}{:>9} | peak MB", "", "×baseline", "×ampoule", "×ampoule");
    for row in rows {
        let name = &row.contender.name;
        if let Some(refusal) = &row.refusal {
            println!("{name:<9} cannot: {refusal}");
            continue;
        }
        let (run, life) = (row.run_times(), row.lifecycle_times());
        let (run_ratio, life_ratio) = (ratio(&run, our_run), ratio(&life, our_lifecycle));
        let peak = peak(&row.creates).map_or("-".into(), |bytes| format!("{:.1}", bytes as f64 / 1e6));
        let (run_over_baseline, run, life) = (ratio(&run, baseline), cells(&run), cells(&life));
        println!("{name:<9}{run}{run_over_baseline:>11}{run_ratio:>9} | {life}{life_ratio:>9} | {peak:>7}");
    }
}

fn cells(times: &Option<Times>) -> String {
    match times {
        Some(t) => format!("{:>8.2}{:>8.2}{:>8.2}", t.median, t.min, t.cpu),
        None => format!("{:>8}{:>8}{:>8}", "-", "-", "-"),
    }
}

fn ratio(times: &Option<Times>, base: Option<f64>) -> String {
    match (times, base) {
        (Some(times), Some(base)) => format!("{:.2}", times.median / base),
        _ => "-".into(),
    }
}
