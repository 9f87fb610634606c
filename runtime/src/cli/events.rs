//! `ampoule events`: what a container uses, and its OOM kills.

use std::io::{ErrorKind, Stdout, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ::cgroup::oom::OomWatch;
use ::cgroup::stats::{self, Stats};
use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use serde::Serialize;

use super::{Context, units};
use crate::container::status::{Verb, allowed, observe};

#[derive(clap::Args)]
pub(super) struct Events {
    /// Interval between statistics, such as 500ms or 1m30s
    #[arg(long, value_name = "TIME", default_value = "5s", allow_hyphen_values = true)]
    interval: String,
    /// Print statistics once and exit
    #[arg(long)]
    stats: bool,
    /// Container ID
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
    let interval = &args.interval;
    let Some(interval) = units::duration(interval) else {
        bail!("--interval: {interval:?}, expected a time such as 5s, 500ms or 1m30s, greater than 0");
    };
    let container = context.open(&args.id)?;
    let observed = observe(&container)?;
    let (Some((_, init)), true) = (observed.init, allowed(Verb::Events, observed.status)) else {
        bail!("container with id {} is not running: it is {}", args.id, observed.status);
    };
    let groups = container.record()?.cgroups;
    if groups.is_empty() {
        bail!("it was made without a cgroup, which is what counts what it uses");
    }
    let mut printer = Printer { id: &args.id, groups: &groups, out: std::io::stdout() };
    if args.stats { printer.stats().map(drop) } else { printer.follow(&init, interval) }
}

/// Prints the events of one container.
struct Printer<'a> {
    id: &'a str,
    groups: &'a [PathBuf],
    out: Stdout,
}

impl Printer<'_> {
    /// Prints until the init has ended or nobody reads any more, which may be days: nothing that a turn allocates may
    /// outlive it (linux/src/alloc.rs).
    fn follow(&mut self, init: &OwnedFd, interval: Duration) -> Result<()> {
        let mut watch = OomWatch::on(self.groups)?;
        let mut next = Instant::now() + interval;
        loop {
            let (ended, read) = self.wait(init, watch.as_ref(), next)?;
            // The init may have been the one that was killed.
            if let Some(mut oom) = watch.take() {
                let kills = oom.new_kills()?;
                for _ in 0..kills.map_or_else(|| oom.unread(), Ok)? {
                    self.print("oom", None)?;
                }
                watch = kills.map(|_| oom);
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
            Err(e) => bail!("wait for the container's events: {e}"),
        }
        let any = |fd: &PollFd| fd.any().unwrap_or(true);
        Ok((any(&fds[0]), fds[1].revents().is_some_and(|r| r.is_empty())))
    }

    fn stats(&mut self) -> Result<bool> {
        self.print("stats", Some(stats::read(self.groups)?))
    }

    /// Whether somebody still reads.
    fn print(&mut self, kind: &str, data: Option<Stats>) -> Result<bool> {
        let mut line = serde_json::to_vec(&Event { r#type: kind, id: self.id, data })?;
        line.push(b'\n');
        match self.out.write_all(&line) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
            other => other.map(|()| true).context("write to stdout"),
        }
    }
}
