//! What is known of a container that was started from a shell: one directory each, below /run/ampoule-shim.
//!
//! ```text
//! ID/
//!   about.json   its bundle and its log
//!   socket       where its monitor listens, as long as there is one
//!   stdin        a fifo, if it has an input
//!   exit         its exit code, once it has ended and all that it wrote is in the log
//! ```

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use interface::id::Id;
use linux::absent::{absent, entries, exists};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::{Deserialize, Serialize};

use crate::socket::{connect, listens};

/// A container's directory.
#[derive(Clone)]
pub struct ContainerDir {
    pub id: String,
    path: PathBuf,
}

/// What never changes.
#[derive(Serialize, Deserialize)]
pub struct About {
    pub bundle: PathBuf,
    pub log: PathBuf,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// What the container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerStatus {
    /// The container runs, or is about to.
    Running,
    /// The container has exited with this code.
    Exited(u8),
    /// The monitor was killed, and the exit code is lost with it.
    Lost,
}

impl fmt::Display for ContainerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContainerStatus::Running => f.write_str("running"),
            ContainerStatus::Exited(code) => write!(f, "exited ({code})"),
            ContainerStatus::Lost => f.write_str("lost"),
        }
    }
}

/// Where all of them are; an ordinary user's are in a directory of their own.
fn root() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !nix::unistd::geteuid().is_root());
    own.map_or_else(|| "/run".into(), PathBuf::from).join(super::NAME)
}

impl ContainerDir {
    /// Makes the directory of a new container. One that has exited gives its ID away.
    ///
    /// # Errors
    /// The id is invalid or taken.
    pub fn make(id: &str, about: &About) -> Result<ContainerDir> {
        Id::new(id)?;
        let dir = ContainerDir { id: id.to_owned(), path: root().join(id) };
        let mut maker = DirBuilder::new();
        maker.mode(0o700).recursive(true).create(root()).context("make the directory of containers")?;
        maker.recursive(false);
        if exists(&dir.path)? && dir.status()? != ContainerStatus::Running {
            dir.remove()?;
        }
        match maker.create(&dir.path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => bail!("container {id} already exists"),
            made => made.with_context(|| format!("make {}", dir.path.display()))?,
        }
        fs::write(dir.file("about.json"), serde_json::to_vec(about)?).context("write about.json")?;
        Ok(dir)
    }

    /// # Errors
    /// There is no such container.
    pub fn open(id: &str) -> Result<ContainerDir> {
        Id::new(id)?;
        let dir = ContainerDir { id: id.to_owned(), path: root().join(id) };
        if !exists(&dir.path)? {
            bail!("container {id} does not exist; see {} list", super::NAME);
        }
        Ok(dir)
    }

    /// All of them, by name.
    pub fn all() -> Result<Vec<ContainerDir>> {
        let entries = entries(&root()).with_context(|| format!("read {}", root().display()))?;
        // What has no container's name is somebody else's.
        let names = entries.iter().filter_map(|entry| entry.file_name().into_string().ok());
        let dirs =
            names.filter(|id| Id::new(id).is_ok()).map(|id| ContainerDir { path: root().join(&id), id });
        let mut dirs: Vec<ContainerDir> = dirs.collect();
        dirs.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(dirs)
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    /// Whoever made it was killed at once.
    pub fn about(&self) -> Result<About> {
        let bytes = fs::read(self.file("about.json")).context("read about.json")?;
        serde_json::from_slice(&bytes).context("read about.json")
    }

    /// # Errors
    /// It can't be told.
    pub fn status(&self) -> Result<ContainerStatus> {
        // In this order: the monitor writes the one before it gives up the other.
        let is_monitored = listens(&self.file("socket"))?;
        Ok(match self.exit()? {
            Some(code) => ContainerStatus::Exited(code),
            None if is_monitored => ContainerStatus::Running,
            None => ContainerStatus::Lost,
        })
    }

    fn exit(&self) -> Result<Option<u8>> {
        let text = absent(fs::read_to_string(self.file("exit"))).context("read the exit code")?;
        text.map(|text| text.trim().parse().context("read the exit code")).transpose()
    }

    /// Writes its exit code, whole or not at all.
    ///
    /// # Errors
    /// /run is full.
    pub fn write_exit(&self, code: u8) -> Result<()> {
        fs::write(self.file("exit.new"), format!("{code}\n")).context("write the exit code")?;
        fs::rename(self.file("exit.new"), self.file("exit")).context("write the exit code")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Its monitor was killed, and its exit code went with it.
    pub fn wait(&self) -> Result<u8> {
        let watch = Inotify::init(InitFlags::IN_CLOEXEC)?;
        watch.add_watch(&self.path, AddWatchFlags::IN_MOVED_TO).context("watch for its end")?;
        // A monitor that is killed closes this, and writes nothing.
        let monitor = connect(&self.file("socket"))?;
        loop {
            match (self.exit()?, &monitor) {
                (Some(code), _) => return Ok(code),
                (None, None) => bail!("{} was lost: its monitor was killed", self.id),
                (None, Some(monitor)) => self.wait_for_change(&watch, monitor)?,
            }
        }
    }

    fn wait_for_change(&self, watch: &Inotify, monitor: &UnixStream) -> Result<()> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let flags = PollFlags::POLLIN;
        let mut fds = [PollFd::new(watch.as_fd(), flags), PollFd::new(monitor.as_fd(), flags)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => return Ok(()),
            polled => polled.context("wait for its end")?,
        };
        let gone = fds[1].any().unwrap_or(false);
        if fds[0].any().unwrap_or(false) {
            watch.read_events().context("wait for its end")?;
        } else if gone && self.exit()?.is_none() {
            // It may be on its last steps.
            std::thread::sleep(Duration::from_millis(100));
            if self.status()? == ContainerStatus::Lost {
                bail!("{} was lost: its monitor was killed", self.id);
            }
        }
        Ok(())
    }

    /// Removes it, and what a killed monitor left of the container.
    ///
    /// # Errors
    /// It runs.
    pub fn remove(&self) -> Result<()> {
        match self.status()? {
            ContainerStatus::Running => {
                bail!("{} is running; end it with ampoule kill {} KILL", self.id, self.id)
            }
            ContainerStatus::Lost => {
                if let Some(runtime) = crate::runtime::Runtime::load(&self.path)? {
                    let mut call = runtime.call(&self.path, "delete");
                    call.command.args(["--force", &self.id]);
                    call.run_alone()?;
                }
            }
            ContainerStatus::Exited(_) => {}
        }
        fs::remove_dir_all(&self.path).with_context(|| format!("remove {}", self.path.display()))
    }
}
