//! Stopping every process of a cgroup at once, and letting them go on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use linux::absent::absent;
use linux::{interrupt, kernfs};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::poll::{PollFd, PollFlags};
use nix::sys::stat::Mode;
use nix::sys::uio::pread;

use super::{Cgroup, tree};

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
        self.freezer()?.map_or(Ok(false), |freezer| freezer.is_frozen())
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
        let attempt = || {
            let Some(group) = self.open()? else { return Ok(Ending::Gone) };
            let group = group.as_fd();
            let (set, file, thawed): (fn(BorrowedFd<'_>, bool) -> Result<Ending>, _, _) = match self {
                Freezer::V1(_) => (set_v1, "freezer.state", "THAWED"),
                Freezer::V2(_) => (set_v2, "cgroup.freeze", "0"),
            };
            let ending = set(group, frozen);
            if frozen && !matches!(ending, Ok(Ending::Done)) {
                // The first error is the one to report.
                let let_go = write(group, file, thawed);
                return ending.and_then(|ending| let_go.map(|_| ending));
            }
            ending
        };
        attempt().with_context(|| self.dir().display().to_string())
    }

    /// Whether its processes are stopped.
    fn is_frozen(&self) -> Result<bool> {
        let look = || {
            let Some(group) = self.open()? else { return Ok(false) };
            Ok(match self {
                Freezer::V1(_) => read(group.as_fd(), "freezer.state")?.starts_with("FROZEN"),
                Freezer::V2(_) => read(group.as_fd(), "cgroup.events")?.contains("frozen 1"),
            })
        };
        let look: Result<bool> = look();
        look.with_context(|| self.dir().display().to_string())
    }

    fn open(&self) -> Result<Option<OwnedFd>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        absent(openat(AT_FDCWD, self.dir(), flags, Mode::empty())).context("open")
    }
}

fn thaw_below(dir: &Path) -> Result<()> {
    tree::each(dir, &mut |group| match set_v1(group, false)? {
        Ending::Late => bail!("did not thaw in {} s: is a cgroup above it frozen?", PATIENCE.as_secs()),
        Ending::Done | Ending::Gone => Ok(()),
    })
}

/// v1 stays in FREEZING while a process forks or is caught at a bad moment, until it is asked again
/// (cgroup-v1/freezer-subsystem.rst).
fn set_v1(group: BorrowedFd<'_>, frozen: bool) -> Result<Ending> {
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    let end = Instant::now() + PATIENCE;
    for attempt in 0u32.. {
        if !write(group, "freezer.state", wanted)? {
            return Ok(Ending::Gone);
        }
        if read(group, "freezer.state")?.trim_end() == wanted {
            return Ok(Ending::Done);
        }
        if Instant::now() > end {
            break;
        }
        // A process in vfork waits for its child, which may be the frozen one: let them run for a moment.
        if frozen && attempt % 25 == 24 {
            write(group, "freezer.state", "THAWED")?;
        }
        interrupt::sleep(Duration::from_micros(u64::from(attempt.min(100)) * 50))
            .context("wait for the freezer")?;
    }
    Ok(Ending::Late)
}

fn set_v2(group: BorrowedFd<'_>, frozen: bool) -> Result<Ending> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let events =
        absent(openat(group, "cgroup.events", flags, Mode::empty())).context("open cgroup.events")?;
    let Some(events) = events else { return Ok(Ending::Gone) };
    if !write(group, "cgroup.freeze", if frozen { "1" } else { "0" })? {
        return Ok(Ending::Gone);
    }
    let end = Instant::now() + PATIENCE;
    loop {
        // Read first: it also has the kernel report later changes only.
        let mut text = [0; 256];
        let len = match pread(&events, &mut text, 0) {
            Err(Errno::ENODEV) => return Ok(Ending::Gone),
            other => other.context("read cgroup.events")?,
        };
        let is = String::from_utf8_lossy(&text[..len]).contains("frozen 1");
        if is == frozen {
            return Ok(Ending::Done);
        }
        if Instant::now() > end {
            return Ok(Ending::Late);
        }
        let changed = PollFd::new(events.as_fd(), PollFlags::POLLPRI);
        interrupt::poll(&mut [changed], Some(Duration::from_millis(50))).context("wait for the freezer")?;
    }
}

/// Empty: the group is gone.
fn read(group: BorrowedFd<'_>, file: &str) -> Result<String> {
    match kernfs::read_at(group, Path::new(file)) {
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(String::new()),
        other => other.with_context(|| format!("read {file}")),
    }
}

/// False: the group is gone.
fn write(group: BorrowedFd<'_>, file: &str, value: &str) -> Result<bool> {
    match kernfs::open_at(group, Path::new(file)).and_then(|file| kernfs::put(file, value)) {
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(false),
        other => other.map(|()| true).with_context(|| format!("write {value} to {file}")),
    }
}
