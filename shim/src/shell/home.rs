//! What is known of a container that was started from a shell: one directory each, below /run/ampoule-shim.
//!
//! ```text
//! ID/
//!   about.json   its bundle and its log
//!   socket       where its shim listens, as long as there is one
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
pub struct Home {
    pub id: String,
    dir: PathBuf,
}

/// What never changes.
#[derive(Serialize, Deserialize)]
pub struct About {
    pub bundle: PathBuf,
    pub log: PathBuf,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Running,
    Exited(u8),
    /// Its shim was killed.
    Lost,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Running => f.write_str("running"),
            Status::Exited(code) => write!(f, "exited ({code})"),
            Status::Lost => f.write_str("lost"),
        }
    }
}

/// The directory of all homes; an ordinary user's is in a directory of their own.
fn root() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !nix::unistd::geteuid().is_root());
    own.map_or_else(|| "/run".into(), PathBuf::from).join(super::NAME)
}

impl Home {
    /// Makes the home of a new container. One that has ended gives its name away.
    ///
    /// # Errors
    /// The id is invalid or taken.
    pub fn make(id: &str, about: &About) -> Result<Home> {
        Id::new(id)?;
        let home = Home { id: id.to_owned(), dir: root().join(id) };
        let mut maker = DirBuilder::new();
        maker.mode(0o700).recursive(true).create(root()).context("make the directory of containers")?;
        maker.recursive(false);
        if exists(&home.dir)? && home.status()? != Status::Running {
            home.forget()?;
        }
        match maker.create(&home.dir) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => bail!("there is a container {id} already"),
            made => made.with_context(|| format!("make {}", home.dir.display()))?,
        }
        fs::write(home.path("about.json"), serde_json::to_vec(about)?).context("write about.json")?;
        Ok(home)
    }

    /// # Errors
    /// There is no such container.
    pub fn open(id: &str) -> Result<Home> {
        Id::new(id)?;
        let home = Home { id: id.to_owned(), dir: root().join(id) };
        if !exists(&home.dir)? {
            bail!("there is no container {id}; see {} list", super::NAME);
        }
        Ok(home)
    }

    /// All of them, by name.
    pub fn all() -> Result<Vec<Home>> {
        let entries = entries(&root()).with_context(|| format!("read {}", root().display()))?;
        // What has no container's name is somebody else's.
        let names = entries.iter().filter_map(|entry| entry.file_name().into_string().ok());
        let homes = names.filter(|id| Id::new(id).is_ok()).map(|id| Home { dir: root().join(&id), id });
        let mut homes: Vec<Home> = homes.collect();
        homes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(homes)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// # Errors
    /// Whoever made it was killed at once.
    pub fn about(&self) -> Result<About> {
        let bytes = fs::read(self.path("about.json")).context("read about.json")?;
        serde_json::from_slice(&bytes).context("read about.json")
    }

    /// # Errors
    /// It can't be told.
    pub fn status(&self) -> Result<Status> {
        // In this order: the shim writes the one before it gives up the other.
        let kept = listens(&self.path("socket"))?;
        Ok(match self.exit()? {
            Some(code) => Status::Exited(code),
            None if kept => Status::Running,
            None => Status::Lost,
        })
    }

    fn exit(&self) -> Result<Option<u8>> {
        let text = absent(fs::read_to_string(self.path("exit"))).context("read the exit code")?;
        text.map(|text| text.trim().parse().context("read the exit code")).transpose()
    }

    /// Its end is written down, whole or not at all.
    ///
    /// # Errors
    /// /run is full.
    pub fn ended(&self, code: u8) -> Result<()> {
        fs::write(self.path("exit.new"), format!("{code}\n")).context("write the exit code")?;
        fs::rename(self.path("exit.new"), self.path("exit")).context("write the exit code")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Its shim was killed, and its exit code went with it.
    pub fn wait(&self) -> Result<u8> {
        let watch = Inotify::init(InitFlags::IN_CLOEXEC)?;
        watch.add_watch(&self.dir, AddWatchFlags::IN_MOVED_TO).context("watch for its end")?;
        // A shim that is killed closes this, and writes nothing.
        let shim = connect(&self.path("socket"))?;
        loop {
            match (self.exit()?, &shim) {
                (Some(code), _) => return Ok(code),
                (None, None) => bail!("{} was lost: its shim was killed", self.id),
                (None, Some(shim)) => self.news(&watch, shim)?,
            }
        }
    }

    fn news(&self, watch: &Inotify, shim: &UnixStream) -> Result<()> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let flags = PollFlags::POLLIN;
        let mut fds = [PollFd::new(watch.as_fd(), flags), PollFd::new(shim.as_fd(), flags)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => return Ok(()),
            answer => answer.context("wait for its end")?,
        };
        let gone = fds[1].any().unwrap_or(false);
        if fds[0].any().unwrap_or(false) {
            watch.read_events().context("wait for its end")?;
        } else if gone && self.exit()?.is_none() {
            // It may be on its last steps.
            std::thread::sleep(Duration::from_millis(100));
            if self.status()? == Status::Lost {
                bail!("{} was lost: its shim was killed", self.id);
            }
        }
        Ok(())
    }

    /// Removes it, and what a killed shim left of the container.
    ///
    /// # Errors
    /// It runs.
    pub fn forget(&self) -> Result<()> {
        match self.status()? {
            Status::Running => bail!("{} is running; end it with ampoule kill {} KILL", self.id, self.id),
            Status::Lost => {
                if let Some(engine) = crate::runtime::Runtime::load(&self.dir)? {
                    let mut call = engine.call(&self.dir, "delete");
                    call.command.args(["--force", &self.id]);
                    call.run_alone()?;
                }
            }
            Status::Exited(_) => {}
        }
        fs::remove_dir_all(&self.dir).with_context(|| format!("remove {}", self.dir.display()))
    }
}
