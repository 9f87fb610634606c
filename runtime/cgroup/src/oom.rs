//! OOM events: how many of a container's processes the kernel has killed because it was out of memory.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use linux::absent::{absent, exists};
use linux::event_control::{self, Notices};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::uio::pread;

/// Counts the OOM kills of one container's processes.
pub enum OomWatch {
    /// memory.oom_control, whose listeners get an event for every kill.
    V1(PathBuf, Notices),
    /// memory.events of the group, and of the group above it.
    V2(Counter, Option<Counter>),
}

/// A memory.events, and how many kills it had counted when it was read last: of its group and those below it.
pub struct Counter {
    events: File,
    seen: u64,
}

impl Counter {
    /// None: there is no such file, or it is gone already.
    fn open(dir: &Path) -> Result<Option<Counter>> {
        let path = dir.join("memory.events");
        let events = absent(File::open(&path)).with_context(|| format!("open {}", path.display()))?;
        let Some(events) = events else { return Ok(None) };
        let mut counter = Counter { events, seen: 0 };
        Ok(counter.new_kills()?.map(|_| counter))
    }

    /// How many were killed since the last time. None: the group is gone. Reading also has the kernel
    /// report later changes only.
    fn new_kills(&mut self) -> Result<Option<u64>> {
        let mut text = [0; 512];
        let len = match pread(&self.events, &mut text, 0) {
            Err(Errno::ENODEV) => return Ok(None),
            other => other.context("read memory.events")?,
        };
        let text = String::from_utf8_lossy(&text[..len]);
        let now = kills(&text).with_context(|| format!("memory.events: {text:?} counts no kills"))?;
        Ok(Some(now.saturating_sub(std::mem::replace(&mut self.seen, now))))
    }
}

impl OomWatch {
    /// Begins to watch; kills before that are not counted. None: no cgroup of the container's has the memory controller.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn on(dirs: &[PathBuf]) -> Result<Option<OomWatch>> {
        for dir in dirs {
            if let Some(own) = Counter::open(dir)? {
                let above = dir.parent().map_or(Ok(None), Counter::open)?;
                return Ok(Some(OomWatch::V2(own, above)));
            }
            let control = dir.join("memory.oom_control");
            if exists(&control).with_context(|| format!("stat {}", control.display()))? {
                let notices = event_control::listen(dir, "memory.oom_control")
                    .with_context(|| format!("listen at {}/memory.oom_control", dir.display()))?;
                return Ok(Some(OomWatch::V1(dir.clone(), notices)));
            }
        }
        Ok(None)
    }

    /// Ready when there may be kills to count.
    pub fn poll_fd(&self) -> PollFd<'_> {
        match self {
            OomWatch::V1(_, notices) => PollFd::new(notices.as_fd(), PollFlags::POLLIN),
            OomWatch::V2(own, _) => PollFd::new(own.events.as_fd(), PollFlags::POLLPRI),
        }
    }

    /// How many were killed since the last time. None: the cgroup is gone, and there will be no more events.
    ///
    /// # Errors
    /// It can't be told.
    pub fn new_kills(&mut self) -> Result<Option<u64>> {
        match self {
            OomWatch::V1(dir, notices) => {
                let count = event_control::count(notices).context("read an eventfd")?;
                // Its removal is an event, like a kill.
                let is_there = exists(dir).with_context(|| format!("stat {}", dir.display()))?;
                Ok(is_there.then_some(count))
            }
            OomWatch::V2(own, above) => {
                let Some(kills) = own.new_kills()? else { return Ok(None) };
                above.as_mut().map_or(Ok(None), Counter::new_kills)?;
                Ok(Some(kills))
            }
        }
    }

    /// How many were killed between the last event that was read and the cgroup's removal, asked once it is gone.
    ///
    /// systemd removes a scope's cgroup as soon as the last process has died, often before anyone has read of what
    /// it died (conmon#426, systemd#40102). The group above has counted that kill, too, and stays. It has also counted
    /// its other groups' kills since then: ask only of a container that was killed. v1's counts are of one group.
    ///
    /// # Errors
    /// It can't be told.
    pub fn unread(&mut self) -> Result<u64> {
        match self {
            OomWatch::V1(..) | OomWatch::V2(_, None) => Ok(0),
            // None: the group above is gone, too.
            OomWatch::V2(_, Some(above)) => Ok(above.new_kills()?.unwrap_or(0)),
        }
    }
}

fn kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_found_among_other_events() {
        let text = "low 0\nhigh 0\nmax 37\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(kills(text), Some(2));
        assert_eq!(kills(""), None);
    }

    #[test]
    fn only_kills_since_the_last_time_are_counted() {
        let dir = std::env::temp_dir().join(format!("ampoule-oom-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let write = |kills| std::fs::write(dir.join("memory.events"), format!("oom 9\noom_kill {kills}\n"));
        write(2).unwrap();
        let mut watch = OomWatch::on(std::slice::from_ref(&dir)).unwrap().unwrap();
        assert_eq!(watch.new_kills().unwrap(), Some(0));
        write(5).unwrap();
        assert_eq!([watch.new_kills().unwrap(), watch.new_kills().unwrap()], [Some(3), Some(0)]);
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(OomWatch::on(&[dir]).unwrap().is_none());
    }
}
