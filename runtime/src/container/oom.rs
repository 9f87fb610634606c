//! News of processes that the kernel killed because the container was out of memory.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags};

use crate::sys::event_control::{self, Notices};

/// Tells when processes of one container are killed.
pub enum OomWatch {
    /// memory.oom_control, whose listeners hear of every kill.
    V1(PathBuf, Notices),
    /// memory.events, and how many kills it has counted so far: of the group and those below it.
    V2(File, u64),
}

impl OomWatch {
    /// Begins to watch; what was before is no news. None: no cgroup of the container's has the memory controller.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn on(dirs: &[PathBuf]) -> Result<Option<OomWatch>> {
        for dir in dirs {
            if let Ok(events) = File::open(dir.join("memory.events")) {
                let so_far = kills(&events).unwrap_or(0);
                return Ok(Some(OomWatch::V2(events, so_far)));
            }
            if dir.join("memory.oom_control").exists() {
                let notices = event_control::listen(dir, "memory.oom_control")
                    .with_context(|| format!("listen at {}/memory.oom_control", dir.display()))?;
                return Ok(Some(OomWatch::V1(dir.clone(), notices)));
            }
        }
        Ok(None)
    }

    /// Ready when there may be news.
    pub fn poll_fd(&self) -> PollFd<'_> {
        match self {
            OomWatch::V1(_, notices) => PollFd::new(notices.as_fd(), PollFlags::POLLIN),
            OomWatch::V2(events, _) => PollFd::new(events.as_fd(), PollFlags::POLLPRI),
        }
    }

    /// How many were killed since the last time. None: the cgroup is gone, and there will be no more news.
    pub fn news(&mut self) -> Option<u64> {
        match self {
            OomWatch::V1(dir, notices) => {
                let count = event_control::count(notices);
                // Its removal is told like a kill.
                dir.exists().then_some(count)
            }
            OomWatch::V2(events, seen) => {
                let now = kills(events)?;
                Some(now.saturating_sub(std::mem::replace(seen, now)))
            }
        }
    }
}

/// Reading also tells the kernel which changes are news to us.
fn kills(events: &File) -> Option<u64> {
    let mut text = [0; 512];
    let len = nix::sys::uio::pread(events, &mut text, 0).ok()?;
    count(std::str::from_utf8(&text[..len]).ok()?)
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_told_from_other_events() {
        let text = "low 0\nhigh 0\nmax 37\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(count(text), Some(2));
        assert_eq!(count(""), None);
    }

    #[test]
    fn only_kills_since_the_last_time_are_news() {
        let dir = std::env::temp_dir().join(format!("ampoule-oom-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let write = |kills| std::fs::write(dir.join("memory.events"), format!("oom 9\noom_kill {kills}\n"));
        write(2).unwrap();
        let mut watch = OomWatch::on(std::slice::from_ref(&dir)).unwrap().unwrap();
        assert_eq!(watch.news(), Some(0));
        write(5).unwrap();
        assert_eq!((watch.news(), watch.news()), (Some(3), Some(0)));
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(OomWatch::on(&[dir]).unwrap().is_none());
    }
}
