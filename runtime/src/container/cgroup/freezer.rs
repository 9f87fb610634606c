//! Stopping every process of a cgroup at once, and letting them go on.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::uio::pread;

use super::{Cgroup, children};
use crate::sys::absent::absent;
use crate::sys::{interrupt, kernfs};

/// Freezing is a matter of milliseconds, unless a process sleeps in the kernel and can't be stopped.
const PATIENCE: Duration = Duration::from_secs(3);

enum Freezer {
    V1(PathBuf),
    V2(PathBuf),
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Done,
    /// Not in time.
    Late,
    /// The group was removed meanwhile.
    Gone,
}

impl Cgroup {
    /// Stops every process of the container, and returns when they have stopped.
    ///
    /// # Errors
    /// When one can't be stopped within three seconds; all run again then. Or when the host has no freezer.
    pub fn freeze(&self) -> Result<()> {
        let freezer = self.needed_freezer()?;
        match freezer.set(true)? {
            Ending::Done => Ok(()),
            Ending::Late => bail!("{} did not freeze in {} s", freezer.dir().display(), PATIENCE.as_secs()),
            Ending::Gone => bail!("{} is gone", freezer.dir().display()),
        }
    }

    /// The same where it is of use, but not needed. False: not all have stopped, for there is no freezer, or one can't be.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn try_freeze(&self) -> Result<bool> {
        let ending = self.freezer()?.map(|freezer| freezer.set(true)).transpose()?;
        Ok(ending == Some(Ending::Done))
    }

    /// Lets the processes go on.
    ///
    /// # Errors
    /// When they are still stopped after three seconds (a cgroup above may be frozen), or without a freezer.
    pub fn thaw(&self) -> Result<()> {
        let freezer = self.needed_freezer()?;
        match freezer.set(false)? {
            Ending::Done | Ending::Gone => Ok(()),
            Ending::Late => bail!(
                "{} did not thaw in {} s: is a cgroup above it frozen?",
                freezer.dir().display(),
                PATIENCE.as_secs()
            ),
        }
    }

    /// Whether the container's processes are stopped. A cgroup that is gone is not frozen.
    ///
    /// # Errors
    /// When the kernel's answer can't be read.
    pub fn is_frozen(&self) -> Result<bool> {
        self.freezer()?.map_or(Ok(false), |freezer| match &freezer {
            Freezer::V1(dir) => Ok(read(dir, "freezer.state")?.starts_with("FROZEN")),
            Freezer::V2(dir) => Ok(read(dir, "cgroup.events")?.contains("frozen 1")),
        })
    }

    /// A process in a frozen v1 group dies only once it is thawed, and so is every group that the container made.
    ///
    /// # Errors
    /// When they are still stopped after three seconds.
    pub fn thaw_v1(&self) -> Result<()> {
        match self.freezer()? {
            Some(Freezer::V1(dir)) => thaw_below(&dir),
            _ => Ok(()),
        }
    }

    /// The directory that is frozen, as text.
    ///
    /// # Errors
    /// It can't be told.
    pub fn freezer_dir(&self) -> Result<Option<String>> {
        Ok(self.freezer()?.map(|freezer| freezer.dir().display().to_string()))
    }

    fn freezer(&self) -> Result<Option<Freezer>> {
        // A hybrid host freezes by v1 as its service manager does, when it has that controller.
        let v1 = self.dir_with("freezer.state")?.map(|dir| Freezer::V1(dir.to_owned()));
        let v2 = || Ok(self.dir_with("cgroup.freeze")?.map(|dir| Freezer::V2(dir.to_owned())));
        v1.map_or_else(v2, |v1| Ok(Some(v1)))
    }

    fn needed_freezer(&self) -> Result<Freezer> {
        self.freezer()?.context("no cgroup of the container has a freezer")
    }
}

impl Freezer {
    fn dir(&self) -> &Path {
        let (Freezer::V1(dir) | Freezer::V2(dir)) = self;
        dir
    }

    /// Whoever can't be frozen, or not be seen to be, runs again.
    fn set(&self, frozen: bool) -> Result<Ending> {
        let attempt = |frozen| match self {
            Freezer::V1(dir) => set_v1(dir, frozen),
            Freezer::V2(dir) => set_v2(dir, frozen),
        };
        let ending = attempt(frozen);
        if frozen && !matches!(ending, Ok(Ending::Done)) {
            let let_go = match self {
                Freezer::V1(dir) => write(dir, "freezer.state", "THAWED"),
                Freezer::V2(dir) => write(dir, "cgroup.freeze", "0"),
            };
            // The first error is the one to report.
            return ending.and_then(|ending| let_go.map(|_| ending));
        }
        ending
    }
}

fn thaw_below(dir: &Path) -> Result<()> {
    if set_v1(dir, false)? == Ending::Late {
        bail!("{} did not thaw in {} s: is a cgroup above it frozen?", dir.display(), PATIENCE.as_secs());
    }
    children(dir)?.iter().try_for_each(|child| thaw_below(child))
}

/// v1 stays in FREEZING while a process forks or is caught at a bad moment, until it is asked again
/// (cgroup-v1/freezer-subsystem.rst).
fn set_v1(dir: &Path, frozen: bool) -> Result<Ending> {
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    let end = Instant::now() + PATIENCE;
    for attempt in 0u32.. {
        if !write(dir, "freezer.state", wanted)? {
            return Ok(Ending::Gone);
        }
        if read(dir, "freezer.state")?.trim_end() == wanted {
            return Ok(Ending::Done);
        }
        if Instant::now() > end {
            break;
        }
        // A process in vfork waits for its child, which may be the frozen one: let them run for a moment.
        if frozen && attempt % 25 == 24 {
            write(dir, "freezer.state", "THAWED")?;
        }
        interrupt::sleep(Duration::from_micros(u64::from(attempt.min(100)) * 50))
            .context("wait for the freezer")?;
    }
    Ok(Ending::Late)
}

fn set_v2(dir: &Path, frozen: bool) -> Result<Ending> {
    let events = dir.join("cgroup.events");
    let file = absent(fs::File::open(&events)).with_context(|| format!("open {}", events.display()))?;
    let Some(file) = file else { return Ok(Ending::Gone) };
    if !write(dir, "cgroup.freeze", if frozen { "1" } else { "0" })? {
        return Ok(Ending::Gone);
    }
    let end = Instant::now() + PATIENCE;
    loop {
        // Read first: it also tells the kernel which changes are news to us.
        let mut text = [0; 256];
        let len = match pread(&file, &mut text, 0) {
            Err(Errno::ENODEV) => return Ok(Ending::Gone),
            other => other.map_err(|e| anyhow!("read {}: {e}", events.display()))?,
        };
        let is = String::from_utf8_lossy(&text[..len]).contains("frozen 1");
        if is == frozen {
            return Ok(Ending::Done);
        }
        if Instant::now() > end {
            return Ok(Ending::Late);
        }
        let news = PollFd::new(file.as_fd(), PollFlags::POLLPRI);
        interrupt::poll(&mut [news], Some(Duration::from_millis(50))).context("wait for the freezer")?;
    }
}

fn read(dir: &Path, file: &str) -> Result<String> {
    let path = dir.join(file);
    match kernfs::read(&path) {
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(String::new()),
        other => other.map_err(|e| anyhow!("read {}: {e}", path.display())),
    }
}

/// False: the group is gone.
fn write(dir: &Path, file: &str, value: &str) -> Result<bool> {
    let path = dir.join(file);
    match kernfs::write(&path, value) {
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(false),
        other => other.map(|()| true).map_err(|e| anyhow!("write {value} to {}: {e}", path.display())),
    }
}
