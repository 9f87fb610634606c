//! A live cgroup: a container's directories, one in every hierarchy of the host. Which version a directory is of
//! shows in the files that it has.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use linux::absent::exists;
use linux::{kernfs, pidfd};
use nix::errno::Errno;
use nix::unistd::Pid;

mod freezer;
mod tree;

/// How long a removal or a kill waits for processes to be gone. Longer means one that sleeps in the kernel.
const PATIENCE: Duration = Duration::from_secs(10);

/// A container's cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    dirs: Vec<PathBuf>,
}

impl Cgroup {
    /// `dirs` are the directories that the record holds: absolute, on the host's cgroup mounts.
    pub fn new(dirs: Vec<PathBuf>) -> Self {
        Cgroup { dirs }
    }

    /// Whether there is anything of it.
    ///
    /// # Errors
    /// It can't be told.
    pub fn exists(&self) -> Result<bool> {
        Ok(self.leading_dir()?.is_some())
    }

    /// Every process in the cgroup and below it, in ascending order.
    ///
    /// # Errors
    /// A directory or a list that can't be read, unless it is gone.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let Some(dir) = self.leading_dir()? else { return Ok(Vec::new()) };
        Ok(processes_below(dir)?.into_iter().collect())
    }

    /// Waits until no process is there. Some: who has stayed, as text.
    ///
    /// # Errors
    /// As those of [`Cgroup::processes`].
    pub fn who_stays(&self, patience: Duration) -> Result<Option<String>> {
        let mut pause = Pause::of(patience);
        while let Some(dir) = self.leading_dir()? {
            if processes_below(dir)?.is_empty() {
                break;
            }
            if !pause.take() {
                return Ok(Some(who_is_left(dir)));
            }
        }
        Ok(None)
    }

    /// Kills every process, without one slipping through by forking.
    ///
    /// # Errors
    /// When processes are left after ten seconds, or the kernel refuses.
    pub fn kill(&self) -> Result<()> {
        let Some(dir) = self.leading_dir()? else { return Ok(()) };
        if kill_at_once(dir)? {
            // v2's freezer lets them die, v1's on a hybrid host doesn't.
            return self.thaw_v1();
        }
        // Frozen, nothing forks; a host without a freezer is left to the repetition below.
        let frozen = self.is_frozen()? || self.try_freeze()?;
        let sent = signal_all(dir, libc::SIGKILL, &everyone);
        if frozen {
            self.thaw()?; // only then the killed go
        }
        sent?;
        self.thaw_v1()?;
        if frozen { Ok(()) } else { self.kill_until_empty(dir) }
    }

    /// Sends a signal to every process that is `meant`, that of a fork included. One that is gone has none.
    ///
    /// # Errors
    /// The kernel refuses; those of `meant`.
    pub fn signal(&self, signal: i32, meant: &dyn Fn(Pid) -> Result<bool>) -> Result<()> {
        let Some(dir) = self.leading_dir()? else { return Ok(()) };
        // What was frozen before gets it with the resume that is to come.
        let frozen = !self.is_frozen()? && self.try_freeze()?;
        let sent = signal_all(dir, signal, meant);
        if frozen {
            self.thaw()?;
        }
        sent.map(drop)
    }

    /// Lets the killed have the CPU time that they need to go: a quota that is used up, or `cpu.idle` beside busy
    /// siblings, gives a large one none for minutes (a quota since Linux 6.18 only stops what returns to its program).
    pub fn lift_cpu_limits(&self) {
        for dir in &self.dirs {
            for (file, value) in [("cpu.max", "max"), ("cpu.cfs_quota_us", "-1"), ("cpu.idle", "0")] {
                // Most have none of these, and one that refuses is no worse off.
                let _ = kernfs::write(&dir.join(file), value);
            }
        }
    }

    fn kill_until_empty(&self, dir: &Path) -> Result<()> {
        let mut pause = Pause::of(PATIENCE);
        while signal_all(dir, libc::SIGKILL, &everyone)? > 0 {
            if !pause.take() {
                bail!("{}", who_is_left(dir));
            }
        }
        Ok(())
    }

    /// Removes every directory, with what the container made inside, and kills what still runs there. Directories
    /// above stay, even if this container was their first: others may be on their way into them.
    ///
    /// # Errors
    /// When a directory is still busy after ten seconds, naming who is in it.
    pub fn remove(&self) -> Result<()> {
        let busy = self.rmdir()?;
        if busy.is_empty() {
            return Ok(());
        }
        self.lift_cpu_limits();
        let mut pause = Pause::of(PATIENCE);
        loop {
            let mut left = Vec::new();
            for dir in &busy {
                if !remove_below(dir, pause.end)? {
                    left.push(*dir);
                }
            }
            let Some(first) = left.first() else { return Ok(()) };
            for dir in &left {
                if !kill_at_once(dir)? {
                    signal_all(dir, libc::SIGKILL, &everyone)?;
                }
            }
            self.thaw_v1()?;
            if !pause.take() {
                bail!("rmdir {}: {}: {}", first.display(), Errno::EBUSY, who_is_left(first));
            }
        }
    }

    /// The same where whoever is in there now is not the container's: nobody is killed, and of a directory that is in use
    /// nothing is removed. What is on its way out gets the time for that. Some: who has stayed, for a warning.
    ///
    /// # Errors
    /// When a directory that is free can't be removed.
    pub fn remove_unless_used(&self, patience: Duration) -> Result<Option<String>> {
        let busy = self.rmdir()?;
        let mut pause = Pause::of(patience);
        loop {
            let mut left = None;
            for dir in &busy {
                let is_used = !processes_below(dir)?.is_empty();
                // Groups that are empty may be many: the patience is for processes.
                if is_used || !remove_below(dir, Instant::now() + PATIENCE)? {
                    left = left.or(Some(*dir));
                }
            }
            let Some(first) = left else { return Ok(None) };
            if !pause.take() {
                return Ok(Some(who_is_left(first)));
            }
        }
    }

    /// After the last process is gone, which is the usual case, this is all. Whatever has kept one is met again by whoever
    /// goes on with those that it returns.
    fn rmdir(&self) -> Result<Vec<&PathBuf>> {
        let busy: Vec<&PathBuf> = self.dirs.iter().filter(|dir| rmdir(dir).is_err()).collect();
        busy.iter().try_for_each(|dir| check_is_cgroup(dir))?;
        Ok(busy)
    }

    /// Bytes of memory in use.
    ///
    /// # Errors
    /// No hierarchy of the container's tells.
    pub fn memory_in_use(&self) -> Result<i64> {
        match self.number("memory.current")? {
            Some(used) => Ok(used),
            None => self
                .number("memory.usage_in_bytes")?
                .context("no cgroup of the container tells its use of memory"),
        }
    }

    /// The limit of memory and swap together, where v1 counts that.
    ///
    /// # Errors
    /// It can't be read.
    pub fn memory_and_swap_limit(&self) -> Result<Option<i64>> {
        self.number("memory.memsw.limit_in_bytes")
    }

    fn number(&self, file: &str) -> Result<Option<i64>> {
        let Some(dir) = self.dir_with(file)? else { return Ok(None) };
        let path = dir.join(file);
        let text = kernfs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let number = text.trim_end().parse().with_context(|| format!("{}: {text:?}", path.display()))?;
        Ok(Some(number))
    }

    /// The directory whose list of processes counts: v2's, whose kernel interface is the best; else the freezer's.
    fn leading_dir(&self) -> Result<Option<&Path>> {
        for file in ["cgroup.events", "freezer.state", "cgroup.procs"] {
            if let Some(dir) = self.dir_with(file)? {
                return Ok(Some(dir));
            }
        }
        Ok(None)
    }

    /// The first directory that has such a file.
    fn dir_with(&self, file: &str) -> Result<Option<&Path>> {
        for dir in &self.dirs {
            let path = dir.join(file);
            match exists(&path) {
                Ok(true) => return Ok(Some(dir)),
                Ok(false) => {}
                Err(e) if e.kind() == ErrorKind::NotADirectory => {}
                Err(e) => return Err(e).with_context(|| format!("stat {}", path.display())),
            }
        }
        Ok(None)
    }
}

/// Waits that grow, up to a limit in all.
struct Pause {
    next: Duration,
    end: Instant,
}

impl Pause {
    fn of(patience: Duration) -> Self {
        Pause { next: Duration::from_micros(200), end: Instant::now() + patience }
    }

    /// Whether there was time left to wait.
    fn take(&mut self) -> bool {
        std::thread::sleep(self.next);
        self.next = (self.next * 2).min(Duration::from_millis(100));
        Instant::now() < self.end
    }
}

/// A file, ENOTDIR, is another group's, and no group: a create that was killed may have put one on record.
fn rmdir(dir: &Path) -> nix::Result<()> {
    match nix::unistd::unlinkat(nix::fcntl::AT_FDCWD, dir, nix::unistd::UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
        other => other,
    }
}

/// Before anything is signalled or emptied: a stale record must not point at ordinary directories.
fn check_is_cgroup(dir: &Path) -> Result<()> {
    use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};
    match statfs(dir) {
        Ok(fs) if [CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC].contains(&fs.filesystem_type()) => Ok(()),
        Ok(_) => bail!("{} is not on a cgroup filesystem", dir.display()),
        Err(Errno::ENOENT) => Ok(()),
        Err(e) => bail!("statfs {}: {e}", dir.display()),
    }
}

/// Removes the groups inside, and then `dir`. False: there are processes in it.
fn remove_below(dir: &Path, end: Instant) -> Result<bool> {
    Ok(rmdir_if_free(dir)? || (tree::remove_inside(dir, end)? && rmdir_if_free(dir)?))
}

fn rmdir_if_free(dir: &Path) -> Result<bool> {
    match rmdir(dir) {
        Err(Errno::EBUSY) => Ok(false),
        other => other.map(|()| true).map_err(|e| anyhow!("rmdir {}: {e}", dir.display())),
    }
}

/// v2 since Linux 5.14: the kernel kills the whole tree, frozen or not, and catches what forks meanwhile.
fn kill_at_once(dir: &Path) -> Result<bool> {
    let file = dir.join("cgroup.kill");
    match kernfs::write(&file, "1") {
        Ok(()) | Err(Errno::ENODEV) => Ok(true),
        // v1 has no such file, and neither has a threaded group, which can't be killed alone.
        Err(Errno::ENOENT | Errno::EACCES | Errno::EPERM | Errno::EOPNOTSUPP) => Ok(false),
        Err(e) => Err(anyhow!("write 1 to {}: {e}", file.display())),
    }
}

fn everyone(_: Pid) -> Result<bool> {
    Ok(true)
}

/// How many processes were there to take the signal.
fn signal_all(dir: &Path, signal: i32, meant: &dyn Fn(Pid) -> Result<bool>) -> Result<usize> {
    let mut there = 0;
    for pid in processes_below(dir)?.into_iter().map(Pid::from_raw) {
        // The handle first: it is the process that was asked about that gets the signal, or nobody.
        let sent = match pidfd::open(pid) {
            Ok(process) if meant(pid)? => pidfd::signal(process, signal),
            Ok(_) => continue,
            Err(e) => Err(e),
        };
        there += 1;
        match sent {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => bail!("send signal {signal} to {pid}: {e}"),
        }
    }
    Ok(there)
}

fn processes_below(dir: &Path) -> Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    tree::each(dir, &mut |group| {
        match kernfs::read_at(group, Path::new("cgroup.procs")) {
            // 0 is a process that our own pid namespace can't see.
            Ok(text) => pids.extend(text.lines().filter_map(|l| l.parse().ok()).filter(|pid: &i32| *pid > 0)),
            // Gone meanwhile; or a threaded group, whose processes its domain lists.
            Err(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => {}
            Err(e) => bail!("read cgroup.procs: {e}"),
        }
        Ok(())
    })?;
    Ok(pids)
}

/// For an error, and so without one of its own: the processes with their names.
fn who_is_left(dir: &Path) -> String {
    let pids = processes_below(dir).unwrap_or_default();
    let name = |pid: &i32| match kernfs::read(Path::new(&format!("/proc/{pid}/comm"))) {
        Ok(comm) => format!("{pid} ({})", comm.trim_end()),
        Err(_) => pid.to_string(),
    };
    match pids.len() {
        0 => format!("{} is busy without a process", dir.display()),
        _ => format!("still in {}: {}", dir.display(), pids.iter().map(name).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_record_never_empties_an_ordinary_directory() {
        use std::fs;
        let dir = std::env::temp_dir().join(format!("ampoule-cgroup-{}", std::process::id()));
        fs::create_dir_all(dir.join("kept")).unwrap();
        let error = Cgroup::new(vec![dir.clone()]).remove().unwrap_err().to_string();
        assert_eq!(error, format!("{} is not on a cgroup filesystem", dir.display()));
        assert!(dir.join("kept").is_dir());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn one_that_is_gone_has_nothing_and_wants_nothing() {
        let gone = Cgroup::new(vec!["/sys/fs/cgroup/ampoule-never-was".into()]);
        gone.remove().unwrap();
        gone.kill().unwrap();
        assert!(gone.processes().unwrap().is_empty());
        assert!(!gone.is_frozen().unwrap());
    }
}
