//! A whole run: a tier of every place, as many machines at a time as there is room for.

use crate::event::TestEvent;
use crate::job::{Job, JobOutput};
use crate::report::Report;
use crate::{stop, sys};
use ampoule_tests::Runtime;
use ampoule_tests::places::{List, Place, Tier};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a machine takes: its CPUs, which are busy all the time where they are emulated, and megabytes of memory: 2 GB, and
/// what QEMU and the disks' changes take.
const CPUS: usize = 2;
const MEMORY: usize = 2500;

/// A machine that is wanted, and its places.
struct Machine<'a> {
    name: &'a str,
    places: Vec<&'a Place>,
}

impl Machine<'_> {
    fn is_host(&self) -> bool {
        self.name == "host"
    }
}

/// The pids of the jobs that run: a signal that asks for an end is passed on to them.
type Pids = Arc<Mutex<Vec<i32>>>;

/// Runs it; whether no test failed.
pub(crate) fn run(tier: Tier) -> Result<bool> {
    let pids = Pids::default();
    let running = Arc::clone(&pids);
    stop::watch(move || {
        for pid in running.lock().expect("no thread panics").iter() {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGTERM);
        }
    })?;
    let list = List::read();
    let mut waiting = wanted(&list)?;
    let room = room()?;
    if waiting.iter().any(|machine| !machine.is_host())
        && let Some(why) = lacks(room)?
    {
        let is_wanted = ["SHARD", "PLACES"].into_iter().any(|name| var(name).is_some());
        ensure!(!is_wanted, "there is no test machine: {why}");
        eprintln!("SKIP the test machine: {why}");
        waiting.retain(Machine::is_host);
    }
    let _images = prepare(&waiting)?;
    let places = waiting.iter().flat_map(|machine| &machine.places);
    let mut report = Report::new(places.map(|place| (place.machine.as_str(), place.name.as_str())))?;
    run_jobs(waiting, tier, room.max(1), &pids, &mut report)?;
    report.finish(stop::is_stopped())
}

/// Runs a job for each machine, so many at a time, to the last one's end.
fn run_jobs(
    mut waiting: VecDeque<Machine<'_>>,
    tier: Tier,
    at_once: usize,
    pids: &Pids,
    report: &mut Report,
) -> Result<()> {
    let (sender, output) = channel();
    let mut jobs: Vec<Job> = Vec::new();
    loop {
        while jobs.len() < at_once && !stop::is_stopped() {
            let Some(machine) = waiting.pop_front() else { break };
            let job = Job::begin(machine.name, &machine.places, tier, &sender)?;
            pids.lock().expect("no thread panics").push(job.pid());
            if stop::is_stopped() {
                // Its pid may have come too late for who told the others.
                let _ = kill(Pid::from_raw(job.pid()), Signal::SIGTERM);
            }
            jobs.push(job);
        }
        if jobs.is_empty() {
            return Ok(());
        }
        match output.recv_timeout(Duration::from_secs(1)) {
            // Of a machine that was ended the last line may be half a one.
            Ok(JobOutput::Event(machine, line)) => match TestEvent::parse(&line) {
                Ok(event) => report.record(event),
                Err(error) => report.print_output(&machine, &format!("{error:#}")),
            },
            Ok(JobOutput::Line(machine, line)) => report.print_output(&machine, &line),
            Ok(JobOutput::End(machine)) => {
                let at = jobs.iter().position(|job| job.machine == machine).context("a job that runs")?;
                let job = jobs.remove(at);
                pids.lock().expect("no thread panics").retain(|pid| *pid != job.pid());
                report.end(&machine, job.end()?);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("no job is left that could send anything"),
        }
        report.progress();
    }
}

/// A variable of the environment that says something.
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The machines that are wanted, in the order of the list.
fn wanted(list: &List) -> Result<VecDeque<Machine<'_>>> {
    let runtime = Runtime::get().name();
    let (shard, names) = (var("SHARD"), var("PLACES").unwrap_or_else(|| "*".into()));
    let is_meant = |name: &str, place: &Place| match name.strip_suffix('*') {
        Some(start) => place.name.starts_with(start),
        None => name == place.name,
    };
    if let Some(name) = names.split(',').find(|name| !list.places.iter().any(|place| is_meant(name, place))) {
        bail!("tests/vm/places has no {name:?}, which PLACES names");
    }
    let is_named = |place: &&Place| names.split(',').any(|name| is_meant(name, place));
    let mut machines: VecDeque<Machine> = VecDeque::new();
    for place in list.places.iter().filter(|place| place.tests_runtime(runtime)).filter(is_named) {
        match machines.iter_mut().find(|machine| machine.name == place.machine) {
            Some(machine) => machine.places.push(place),
            None => machines.push_back(Machine { name: &place.machine, places: vec![place] }),
        }
    }
    machines.retain(|machine| shard.as_ref().is_none_or(|shard| shard == machine.name));
    ensure!(!machines.is_empty(), "tests/vm/places has no such place for {runtime}");
    Ok(machines)
}

/// Makes the disk with the built tree, and begins to make the images that aren't there yet: they are done, or nearly, when
/// the host's tests are. A machine waits for its image.
fn prepare(machines: &VecDeque<Machine>) -> Result<Vec<Child>> {
    if machines.iter().any(|machine| !machine.is_host()) {
        // As whoever the source tree belongs to (see the Makefile).
        let as_owner = var("AS_OWNER").unwrap_or_default();
        let mut words = as_owner.split_whitespace().chain(["tests/vm/tree"]);
        let mut tree = Command::new(words.next().context("a word")?);
        let made = tree.args(words).status().context("run tests/vm/tree")?;
        ensure!(made.success(), "tests/vm/tree: {made}");
    }
    let is_wanted = |flavour: &&str| match *flavour {
        "engines" => machines.iter().any(|machine| machine.name == "engines"),
        _ => machines.iter().any(|machine| !["host", "engines"].contains(&machine.name)),
    };
    let begin = |flavour: &str| {
        let mut image = Command::new("tests/vm/image");
        image.arg(flavour).stdin(Stdio::null()).stdout(Stdio::null());
        sys::begin(&mut image, Signal::SIGTERM);
        image.spawn().context("run tests/vm/image")
    };
    ["quick", "engines"].into_iter().filter(is_wanted).map(begin).collect()
}

/// How many machines there are CPUs and memory for. Two that share their CPUs take longer than one after the other.
fn room() -> Result<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let free: usize = ampoule_tests::field(&text, "MemAvailable").trim_end_matches(" kB").parse()?;
    let cpus = std::thread::available_parallelism()?.get();
    Ok((cpus / CPUS).max(1).min(free / 1024 / MEMORY))
}

/// Why the test machine can't be had here. Only that it is of another architecture is no error when nothing may be skipped.
fn lacks(room: usize) -> Result<Option<&'static str>> {
    if !cfg!(target_arch = "x86_64") {
        return Ok(Some("its image is for x86_64 only"));
    }
    let has_packages = Command::new(".ci/deps").arg("vm").status().context("run .ci/deps")?.success();
    let lack = match (has_packages, room) {
        (false, _) => "its packages are not installed",
        (true, 0) => "it needs 2.5 GB of free memory",
        (true, _) => return Ok(None),
    };
    ensure!(var("STRICT").as_deref() != Some("1"), "there is no test machine: {lack}");
    Ok(Some(lack))
}
