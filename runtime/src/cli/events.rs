//! `ampoule events`: what a container uses, and when the kernel killed a process of it for want of memory.

use std::io::{ErrorKind, Stdout, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use serde::Serialize;

use super::Context;
use crate::container::oom::OomWatch;
use crate::container::stats::{self, Stats};
use crate::container::status::{Verb, allowed, observe};

#[derive(clap::Args)]
pub(super) struct Events {
    /// Time from one line to the next, such as 500ms or 1m30s
    #[arg(long, value_name = "TIME", default_value = "5s", allow_hyphen_values = true)]
    interval: String,
    /// Print what it uses now, once
    #[arg(long)]
    stats: bool,
    /// The container's name
    id: String,
}

/// One line (runc's types/events.go).
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

pub(super) fn run(context: &Context, args: Events) -> Result<ExitCode> {
    events(context, &args).with_context(|| format!("events {}", args.id))?;
    Ok(ExitCode::SUCCESS)
}

fn events(context: &Context, args: &Events) -> Result<()> {
    let interval = duration(&args.interval)?;
    let container = context.open(&args.id)?;
    let observed = observe(&container)?;
    let (Some((_, init)), true) = (observed.init, allowed(Verb::Events, observed.status)) else {
        bail!("container with id {} is not running: it is {}", args.id, observed.status);
    };
    let groups = container.record()?.cgroups;
    if groups.is_empty() {
        bail!("it was made without a cgroup, which is what counts what it uses");
    }
    let mut teller = Teller { id: &args.id, groups: &groups, out: std::io::stdout() };
    if args.stats { teller.stats().map(drop) } else { teller.follow(&init, interval) }
}

struct Teller<'a> {
    id: &'a str,
    groups: &'a [PathBuf],
    out: Stdout,
}

impl Teller<'_> {
    /// Tells until the init has ended or nobody reads any more, which may be days: nothing that a turn allocates may
    /// outlive it (sys/alloc.rs).
    fn follow(&mut self, init: &OwnedFd, interval: Duration) -> Result<()> {
        let mut watch = OomWatch::on(self.groups)?;
        let mut next = Instant::now() + interval;
        loop {
            let (ended, read) = self.wait(init, watch.as_ref(), next)?;
            // The init may have been the one that was killed.
            match watch.as_mut().map(OomWatch::news) {
                Some(Some(kills)) => {
                    for _ in 0..kills {
                        self.tell("oom", None)?;
                    }
                }
                _ => watch = None,
            }
            if ended || !read {
                return Ok(());
            }
            if Instant::now() >= next {
                if !self.stats()? {
                    return Ok(());
                }
                next = (next + interval).max(Instant::now());
            }
        }
    }

    /// Returns at the latest at `end`: whether the init has ended, and whether somebody still reads.
    fn wait(&self, init: &OwnedFd, watch: Option<&OomWatch>, end: Instant) -> Result<(bool, bool)> {
        let ending = || PollFd::new(init.as_fd(), PollFlags::POLLIN);
        // A pipe without a reader is in error.
        let reader = PollFd::new(self.out.as_fd(), PollFlags::empty());
        let mut fds = [ending(), reader, watch.map_or_else(ending, OomWatch::poll_fd)];
        let left = end.saturating_duration_since(Instant::now());
        match ppoll(&mut fds, Some(left.into()), None) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok((false, true)),
            Err(e) => bail!("wait for the container's news: {e}"),
        }
        let any = |fd: &PollFd| fd.any().unwrap_or(true);
        Ok((any(&fds[0]), fds[1].revents().is_some_and(|r| r.is_empty())))
    }

    fn stats(&mut self) -> Result<bool> {
        self.tell("stats", Some(stats::read(self.groups)))
    }

    /// Whether somebody still reads.
    fn tell(&mut self, kind: &str, data: Option<Stats>) -> Result<bool> {
        let mut line = serde_json::to_vec(&Event { r#type: kind, id: self.id, data })?;
        line.push(b'\n');
        match self.out.write_all(&line) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
            other => other.map(|()| true).context("write to stdout"),
        }
    }
}

/// Reads a length of time as Go writes it (time.ParseDuration): `1h2m3.5s`.
fn duration(text: &str) -> Result<Duration> {
    let Some(time) = parse(text.strip_prefix('+').unwrap_or(text)) else {
        bail!("--interval: {text:?}, expected a time such as 5s, 500ms or 1m30s, greater than 0");
    };
    Ok(time)
}

fn parse(mut text: &str) -> Option<Duration> {
    let mut total: u64 = 0;
    while !text.is_empty() {
        let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, rest) = text.split_at(unit);
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(end);
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(nanoseconds(value, scale)?)?;
        text = rest;
    }
    // Go's longest: 292 years.
    (1..=i64::MAX as u64).contains(&total).then(|| Duration::from_nanos(total))
}

/// `1.5` of a unit. What is below a nanosecond is cut off.
fn nanoseconds(value: &str, scale: u64) -> Option<u64> {
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    if part.contains('.') || whole.len() + part.len() == 0 {
        return None;
    }
    let number = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok() };
    // More digits than these are below a nanosecond of an hour.
    let part = &part[..part.len().min(15)];
    let fraction = u128::from(number(part)?) * u128::from(scale) / 10u128.pow(part.len() as u32);
    number(whole)?.checked_mul(scale)?.checked_add(fraction as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        for (text, ms) in [
            ("1s", 1000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("+1.5h", 5_400_000),
            (".5s", 500),
            ("1.s", 1000),
            ("0.1234999999999999999999999s", 123),
            ("2000us", 2),
            ("3000µs", 3),
            ("4000000ns", 4),
            ("1h0m0s", 3_600_000),
        ] {
            assert_eq!(duration(text).unwrap().as_millis(), ms, "{text}");
        }
    }

    #[test]
    fn no_time_and_what_is_no_time_is_refused() {
        for text in [
            "",
            "0",
            "0s",
            "-1s",
            "5",
            "s",
            "1x",
            "1..s",
            ".s",
            "0.1ns",
            "99999999999999999999s",
            "1e3s",
            "1s5",
            "9999999999h",
            "1 s",
            "+",
            "--1s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
