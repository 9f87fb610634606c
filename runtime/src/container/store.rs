//! Where containers are kept: one directory each below `--root`.
//!
//! ```text
//! ID/            flock(2)ed while a verb changes the container
//!   state.json   the record; written before anything else is done
//!   init         the init's pid and start time; written right after the clone
//!   config.json  what it was created from
//!   gate.new     the start gate while the container is being made …
//!   gate         … and once it is created; removed by start
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use interface::id::Id;
use interface::message::{ALREADY_EXISTS, DOES_NOT_EXIST};
use linux::absent::{absent, entries, exists};
use linux::{interrupt, lock};

use super::gate;
use super::record::Record;
use super::status::Init;

/// Longer than any step of another verb should take; then the user is told who is in the way.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) const RECORD: &str = "state.json";
pub(super) const INIT: &str = "init";
pub(super) const CONFIG: &str = "config.json";

/// The directory of all containers.
pub struct Store {
    root: PathBuf,
}

/// One container's directory.
pub struct Container {
    /// Its name.
    pub id: Id,
    path: PathBuf,
    dir: File,
}

/// A container that only this process may change, until dropped.
pub struct Locked {
    /// The container.
    pub container: Container,
    /// Held until this is dropped.
    _lock: Lock,
}

struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // At the latest it ends with this process, and nobody can do anything about it sooner.
        let _ = lock::unlock(&self.0);
    }
}

impl Store {
    /// The store at `root`; nothing is touched yet.
    pub fn new(root: PathBuf) -> Store {
        Store { root }
    }

    /// Takes the id for a new container.
    ///
    /// # Errors
    /// `container with given ID already exists`; a state directory that can't be made or locked, of which nothing stays.
    pub fn claim(&self, id: &Id) -> Result<Locked> {
        let path = self.root.join(id.as_str());
        let root = &self.root;
        loop {
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    let made = DirBuilder::new().mode(0o700).recursive(true).create(root);
                    made.with_context(|| format!("make {}", root.display()))?;
                    continue;
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    refuse_other_kinds(&path)?;
                    bail!(ALREADY_EXISTS)
                }
                other => other.with_context(|| format!("make {}", path.display()))?,
            }
            match self.take(id).and_then(Locked::if_new) {
                Ok(Some(locked)) => return Ok(locked),
                // A `delete --force` came in between: the lock is on a directory that is no more.
                Ok(None) => {}
                Err(reason) => {
                    // The first error is the one to report.
                    let _ = fs::remove_dir(&path);
                    return Err(reason);
                }
            }
        }
    }

    /// Opens a container.
    ///
    /// # Errors
    /// `container does not exist`.
    pub fn open(&self, id: &Id) -> Result<Container> {
        self.find(id)?.context(DOES_NOT_EXIST)
    }

    /// Opens a container, if there is one.
    ///
    /// # Errors
    /// It can't be told, or it can't be opened.
    pub fn find(&self, id: &Id) -> Result<Option<Container>> {
        let path = self.root.join(id.as_str());
        let dir = match absent(open_dir(&path)) {
            Err(e) if e.kind() == ErrorKind::NotADirectory => {
                refuse_other_kinds(&path).and(Err(e).with_context(|| format!("open {}", path.display())))?
            }
            other => other.with_context(|| format!("open {}", path.display()))?,
        };
        Ok(dir.map(|dir| Container { id: id.clone(), path, dir }))
    }

    /// Opens and locks a container, if there is one, and still is one when its lock is free.
    ///
    /// # Errors
    /// As those of [`Store::find`] and [`Container::lock`].
    pub fn take(&self, id: &Id) -> Result<Option<Locked>> {
        self.find(id)?.map_or(Ok(None), Container::hold)
    }

    /// The name of every container, sorted. A directory that has none is somebody else's.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn ids(&self) -> Result<Vec<Id>> {
        let read = || format!("read {}", self.root.display());
        let mut ids = Vec::new();
        for entry in entries(&self.root).with_context(read)? {
            let kind = entry.file_type().with_context(read)?;
            if let Some(Ok(id)) = entry.file_name().to_str().map(Id::new)
                && kind.is_dir()
            {
                ids.push(id);
            }
        }
        ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(ids)
    }
}

/// No link is followed: what a verb removes is removed where the containers are.
fn open_dir(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

/// What is not a directory was not made here, and so is not removed here.
fn refuse_other_kinds(path: &Path) -> Result<()> {
    let kind = absent(fs::symlink_metadata(path)).with_context(|| format!("stat {}", path.display()))?;
    match kind.map(|kind| kind.file_type()) {
        Some(kind) if !kind.is_dir() => {
            let what = if kind.is_symlink() { "a symbolic link" } else { "a file" };
            bail!(
                "{0} is {what} and not a directory, so no container; remove it with: rm {0}",
                path.display()
            )
        }
        _ => Ok(()),
    }
}

impl Container {
    /// Waits for the container's lock.
    ///
    /// # Errors
    /// `container does not exist` when it was deleted meanwhile; a time-out after 10 s.
    pub fn lock(self) -> Result<Locked> {
        self.hold()?.context(DOES_NOT_EXIST)
    }

    fn hold(self) -> Result<Option<Locked>> {
        // Of the directory that is open: by now its path may be another's.
        let file = self.dir.try_clone().context("dup")?;
        let start = Instant::now();
        while !lock::try_lock(&file, true).with_context(|| format!("flock {}", self.path.display()))? {
            if start.elapsed() > LOCK_TIMEOUT {
                bail!("another process has been changing this container for 10 s");
            }
            interrupt::sleep(Duration::from_millis(2)).context("wait for the container's lock")?;
        }
        let lock = Lock(file);
        let links = lock.0.metadata().with_context(|| format!("stat {}", self.path.display()))?.nlink();
        Ok((links > 0).then_some(Locked { container: self, _lock: lock }))
    }

    /// Whether somebody is changing the container now.
    ///
    /// # Errors
    /// It is gone, or its lock can't be asked.
    pub fn is_locked(&self) -> Result<bool> {
        let file = open_dir(&self.path).with_context(|| format!("open {}", self.path.display()))?;
        self.is_held_by_others(&file)
    }

    /// The same of one that may be gone, which nobody is changing.
    ///
    /// # Errors
    /// Its lock can't be asked.
    pub(super) fn is_held(&self) -> Result<bool> {
        let file = absent(open_dir(&self.path)).with_context(|| format!("open {}", self.path.display()))?;
        file.map_or(Ok(false), |file| self.is_held_by_others(&file))
    }

    fn is_held_by_others(&self, dir: &File) -> Result<bool> {
        let free = lock::try_lock(dir, false).with_context(|| format!("flock {}", self.path.display()))?;
        Ok(!free)
    }

    /// Whether it is still there, and more than a name.
    ///
    /// # Errors
    /// It can't be told.
    pub fn has_files(&self) -> Result<bool> {
        Ok(!entries(&self.path).with_context(|| format!("read {}", self.path.display()))?.is_empty())
    }

    /// Its directory's path, without symlinks.
    pub fn real_path(&self) -> Result<PathBuf> {
        self.path.canonicalize().with_context(|| format!("find {}", self.path.display()))
    }

    /// Its directory's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory, for the gate.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Whether creation has not finished yet.
    pub fn has_unready_gate(&self) -> Result<bool> {
        let path = self.path.join(gate::UNREADY);
        exists(&path).with_context(|| format!("stat {}", path.display()))
    }

    /// Whether the init waits for start: somebody listens at the gate.
    pub fn gate_is_shut(&self) -> Result<bool> {
        let path = self.path.join(gate::READY);
        // Sooner told than by a socket, and mostly there is none.
        let is_there = exists(&path).with_context(|| format!("stat {}", path.display()))?;
        Ok(is_there && gate::is_attended(self.dir())?)
    }
}

impl Locked {
    /// It is not another's, who has made it anew after a `delete --force` of ours.
    fn if_new(taken: Option<Locked>) -> Result<Option<Locked>> {
        if let Some(locked) = &taken {
            let record = locked.container.path.join(RECORD);
            if exists(&record).with_context(|| format!("stat {}", record.display()))? {
                bail!(ALREADY_EXISTS);
            }
        }
        Ok(taken)
    }

    /// Saves the record, before anything it describes exists.
    pub fn save(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record)?;
        self.write(RECORD, &bytes)
    }

    /// Saves the document that the container was created from.
    pub fn save_config(&self, bytes: &[u8]) -> Result<()> {
        self.write(CONFIG, bytes)
    }

    /// Saves the init's pid and start time.
    pub fn save_init(&self, init: Init) -> Result<()> {
        self.write(INIT, format!("{} {}\n", init.pid, init.start_time).as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.container.path.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut f| f.write_all(bytes)).with_context(|| format!("write {}", path.display()))
    }

    /// `run` has no gate with a name, but until its program runs it is being created, too.
    pub fn mark_unready(&self) -> Result<()> {
        self.write(gate::UNREADY, b"")
    }

    /// The program of `run` runs.
    pub fn unmark_unready(&self) -> Result<()> {
        fs::remove_file(self.container.path.join(gate::UNREADY))
            .context("remove the mark of an unready container")
    }

    /// Creation is over: the gate gets its name.
    pub fn publish_gate(&self) -> Result<()> {
        let path = &self.container.path;
        fs::rename(path.join(gate::UNREADY), path.join(gate::READY)).context("publish the start gate")
    }

    /// The gate is open for good.
    pub fn remove_gate(&self) -> Result<()> {
        fs::remove_file(self.container.path.join(gate::READY)).context("remove the start gate")
    }

    /// Forgets the container.
    pub fn remove(self) -> Result<()> {
        let path = &self.container.path;
        for name in [INIT, gate::UNREADY, gate::READY, CONFIG, RECORD] {
            absent(fs::remove_file(path.join(name)))
                .with_context(|| format!("remove {}/{name}", path.display()))?;
        }
        fs::remove_dir(path).with_context(|| format!("remove {}", path.display()))
    }
}
