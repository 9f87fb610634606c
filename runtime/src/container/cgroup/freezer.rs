//! Stopping every process of a cgroup at once, and letting them go on.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Cgroup;
use crate::sys::kernfs;

/// Freezing is a matter of milliseconds, unless a process sleeps in the kernel and can't be stopped.
const PATIENCE: Duration = Duration::from_secs(3);

enum Freezer {
    V1(PathBuf),
    V2(PathBuf),
}

impl Cgroup {
    /// Stops every process of the container, and returns when they have stopped.
    ///
    /// # Errors
    /// When one can't be stopped within three seconds; all run again then. Or when the host has no freezer.
    pub fn freeze(&self) -> Result<()> {
        self.set(true)
    }

    /// Lets the processes go on.
    ///
    /// # Errors
    /// When they are still stopped after three seconds (a cgroup above may be frozen), or without a freezer.
    pub fn thaw(&self) -> Result<()> {
        self.set(false)
    }

    /// Whether the container's processes are stopped. A cgroup that is gone is not frozen.
    ///
    /// # Errors
    /// When the kernel's answer can't be read.
    pub fn is_frozen(&self) -> Result<bool> {
        self.freezer().map_or(Ok(false), |freezer| match &freezer {
            Freezer::V1(dir) => Ok(read(dir, "freezer.state")?.starts_with("FROZEN")),
            Freezer::V2(dir) => Ok(read(dir, "cgroup.events")?.contains("frozen 1")),
        })
    }

    /// A process in a frozen v1 group dies only once it is thawed, and so is every group that the container made.
    pub(super) fn thaw_v1(&self) -> Result<()> {
        match self.freezer() {
            Some(Freezer::V1(dir)) => thaw_below(&dir),
            _ => Ok(()),
        }
    }

    /// The directory that is frozen, as text.
    pub fn freezer_dir(&self) -> Option<String> {
        self.freezer().map(|(Freezer::V1(dir) | Freezer::V2(dir))| dir.display().to_string())
    }

    fn freezer(&self) -> Option<Freezer> {
        // A hybrid host freezes by v1 as its service manager does, when it has that controller.
        let has = |file: &str| self.dirs.iter().find(|d| d.join(file).exists()).cloned();
        has("freezer.state").map(Freezer::V1).or_else(|| has("cgroup.freeze").map(Freezer::V2))
    }

    fn set(&self, frozen: bool) -> Result<()> {
        match self.freezer() {
            Some(Freezer::V1(dir)) => set_v1(&dir, frozen),
            Some(Freezer::V2(dir)) => set_v2(&dir, frozen),
            None => bail!("no cgroup of the container has a freezer"),
        }
    }
}

fn thaw_below(dir: &Path) -> Result<()> {
    set_v1(dir, false)?;
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    let below = entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
    below.into_iter().try_for_each(|e| thaw_below(&e.path()))
}

/// v1 stays in FREEZING while a process forks or is caught at a bad moment, until it is asked again
/// (cgroup-v1/freezer-subsystem.rst).
fn set_v1(dir: &Path, frozen: bool) -> Result<()> {
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    let end = Instant::now() + PATIENCE;
    for attempt in 0u32.. {
        write(dir, "freezer.state", wanted)?;
        if read(dir, "freezer.state")?.trim_end() == wanted {
            return Ok(());
        }
        if Instant::now() > end {
            break;
        }
        // A process in vfork waits for its child, which may be the frozen one: let them run for a moment.
        if frozen && attempt % 25 == 24 {
            write(dir, "freezer.state", "THAWED")?;
        }
        std::thread::sleep(Duration::from_micros(u64::from(attempt.min(100)) * 50));
    }
    if frozen {
        write(dir, "freezer.state", "THAWED")?;
    }
    bail!("{} did not become {wanted} in {} s", dir.join("freezer.state").display(), PATIENCE.as_secs())
}

fn set_v2(dir: &Path, frozen: bool) -> Result<()> {
    let events = dir.join("cgroup.events");
    let file = fs::File::open(&events).map_err(|e| anyhow!("open {}: {e}", events.display()))?;
    write(dir, "cgroup.freeze", if frozen { "1" } else { "0" })?;
    let end = Instant::now() + PATIENCE;
    loop {
        // Read first: it also tells the kernel which changes are news to us.
        let mut text = [0; 256];
        let len = nix::sys::uio::pread(&file, &mut text, 0)
            .map_err(|e| anyhow!("read {}: {e}", events.display()))?;
        let is = String::from_utf8_lossy(&text[..len]).contains("frozen 1");
        if is == frozen {
            return Ok(());
        }
        if Instant::now() > end {
            break;
        }
        let _ = poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLPRI)], PollTimeout::from(50u8));
    }
    if frozen {
        write(dir, "cgroup.freeze", "0")?;
        bail!("{} did not freeze in {} s", dir.display(), PATIENCE.as_secs());
    }
    bail!("{} did not thaw in {} s: is a cgroup above it frozen?", dir.display(), PATIENCE.as_secs())
}

fn read(dir: &Path, file: &str) -> Result<String> {
    let path = dir.join(file);
    match kernfs::read(&path) {
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(String::new()),
        other => other.map_err(|e| anyhow!("read {}: {e}", path.display())),
    }
}

fn write(dir: &Path, file: &str, value: &str) -> Result<()> {
    let path = dir.join(file);
    kernfs::write(&path, value).map_err(|e| anyhow!("write {value} to {}: {e}", path.display()))
}
