//! One job of a run: this host's tests, or a test machine with all of its places.

use crate::{number, sys};
use ampoule_tests::places::{Place, Tier};
use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader, PipeReader};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;

/// What comes from a job while it runs.
pub(crate) enum JobOutput {
    /// A machine, and a line of its events.
    Event(String, String),
    /// A machine, and a line that it has printed.
    Line(String, String),
    /// A machine of which nothing more comes.
    End(String),
}

/// A job that runs.
pub(crate) struct Job {
    pub(crate) machine: String,
    child: Child,
}

impl Job {
    /// Starts what runs these places' tests.
    pub(crate) fn begin(
        machine: &str,
        places: &[&Place],
        tier: Tier,
        output: &Sender<JobOutput>,
    ) -> Result<Self> {
        let (events, their_events) = std::io::pipe()?;
        let (said, their_said) = std::io::pipe()?;
        // Passed on by its number: no other process is started before it is closed here.
        fcntl(&their_events, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let path = format!("/proc/self/fd/{}", their_events.as_raw_fd());
        let tier = if tier == Tier::Quick { "quick" } else { "all" };
        let mut command =
            if machine == "host" { on_host(tier, &path)? } else { boot(machine, places, tier, &path)? };
        command.stdin(Stdio::null()).stdout(their_said.try_clone()?).stderr(their_said);
        sys::begin(&mut command, Signal::SIGTERM);
        let child = command.spawn().with_context(|| format!("start {machine}"));
        drop((command, their_events));
        read_along(machine, said, events, output);
        Ok(Self { machine: machine.to_owned(), child: child? })
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Its exit code, once it has ended; 128 and more when a signal ended it.
    pub(crate) fn end(mut self) -> Result<i32> {
        Ok(self.child.wait()?.code().unwrap_or(128))
    }
}

fn on_host(tier: &str, events: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["in", "host", tier]).env("EVENTS", events);
    Ok(command)
}

fn boot(machine: &str, places: &[&Place], tier: &str, events: &str) -> Result<Command> {
    let mut job = String::from("failed=0;");
    for name in ["RUNTIME", "TESTS", "STRICT", "REPEATS", "LIMIT", "JOBS"] {
        if let Ok(value) = std::env::var(name) {
            job += &format!(" export {name}='{}';", value.replace('\'', r"'\''"));
        }
    }
    for place in places {
        job += &format!(" tests/vm/in-place {} {} {tier} || failed=1;", place.name, place.user);
    }
    job += " exit $failed";
    let mut command = Command::new("tests/vm/machine");
    let option = if machine == "engines" { "-i" } else { "-k" };
    let limit = number("VM_LIMIT", if tier == "quick" { 3600 } else { 6 * 3600 })?.to_string();
    command.args([option, machine, "-t", &limit, "-d", "target/vm/tree.ext4", "-r", events, &job]);
    Ok(command)
}

/// Passes on what comes, until both ends are closed. A run that stopped listening has ended.
fn read_along(machine: &str, said: PipeReader, events: PipeReader, output: &Sender<JobOutput>) {
    let machine = machine.to_owned();
    let pass_on = |from: PipeReader, make: fn(String, String) -> JobOutput| {
        let (machine, output) = (machine.clone(), output.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                let _ = output.send(make(machine.clone(), String::from_utf8_lossy(&line).into_owned()));
            }
        })
    };
    let (events, said) = (pass_on(events, JobOutput::Event), pass_on(said, JobOutput::Line));
    let output = output.clone();
    std::thread::spawn(move || {
        let _ = (events.join(), said.join());
        let _ = output.send(JobOutput::End(machine));
    });
}
