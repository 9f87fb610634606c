//! What a process reads and writes.
//!
//! containerd's fifos are handed to the container itself: nothing is copied, so nothing is lost and no memory is
//! needed. The shim keeps both ends of each open, so that a container can write while nobody reads, as when containerd
//! is away. When the process has ended, they are closed once a client reads, which then sees the end (stdio/outlet.rs).
//!
//! Two cases need copying: a terminal, and the output of an exec. What an exec leaves in the background holds its
//! output open for ever, and a descriptor that was handed out can't be taken back; so an exec writes to a pipe, and its
//! reader sees the end at the latest when the exec is deleted and what it wrote has been read.

mod console;
mod copy;
mod logger;
mod outlet;
mod place;

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, fchown, pipe2};
use tokio::sync::oneshot;

pub use console::Console;
pub use copy::all_done;
use copy::{Capped, Sink};
use logger::Logger;
use outlet::Outlet;
use place::Place;

use crate::engine::Ends;
use crate::reaper::Reaper;

/// How long what an exec left in the background is listened to after the exec is deleted, as containerd's own shim has
/// it. What the exec itself wrote has no limit.
const AFTERGLOW: Duration = Duration::from_secs(2);

/// Where a client wants a process's streams, in containerd's words.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

/// Whose process it is.
pub struct Owner<'a> {
    pub namespace: &'a str,
    pub id: &'a str,
    /// Who may open the streams again by their names in /proc. None: nobody asked.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Whether it is an exec, which others may outlive.
    pub is_exec: bool,
}

/// The shim's side of a process's streams.
#[derive(Default)]
pub struct Io {
    /// Holds the process's stdin open until CloseIO.
    stdin: Option<OwnedFd>,
    /// Fifos that the process has, held until it ends.
    outlets: Vec<Outlet>,
    /// Those that have had no client since: given up when these are dropped.
    unread: Vec<oneshot::Sender<()>>,
    /// Copies, which end when these are dropped.
    copies: Vec<oneshot::Sender<()>>,
    console: Option<Console>,
    logger: Option<Logger>,
}

impl Io {
    /// Opens a process's streams; the descriptors are for the process.
    ///
    /// # Errors
    /// A stream that can't be opened; a logger that can't be started or doesn't become ready.
    pub async fn open(streams: &Streams, owner: &Owner<'_>, reaper: &Reaper) -> Result<(Io, Ends)> {
        let mut io = Io::default();
        if streams.terminal {
            // The runtime makes the terminal, and its end comes through the console socket.
            return Ok((io, [place::null()?, place::null()?, place::null()?]));
        }
        let stdin = io.input(&streams.stdin).with_context(|| format!("open stdin {}", streams.stdin))?;
        let (stdout, stderr) = (Place::parse(&streams.stdout)?, Place::parse(&streams.stderr)?);
        let [out, err] = match (&stdout, &stderr) {
            (Place::Program(program), _) => {
                let (logger, ends) = Logger::start(program, owner, reaper).await?;
                io.logger = Some(logger);
                ends
            }
            (Place::Capped(path, most), Place::Capped(other, _)) if path == other => {
                let file = io.pipe(Sink::Capped(Capped::open(path, *most)?))?;
                [file.try_clone()?, file]
            }
            (Place::File(path), Place::File(other)) if path == other => {
                let file = place::append(path)?;
                [file.try_clone()?, file]
            }
            _ => [
                io.output(&stdout, owner).with_context(|| format!("open stdout {}", streams.stdout))?,
                io.output(&stderr, owner).with_context(|| format!("open stderr {}", streams.stderr))?,
            ],
        };
        for fd in [&stdin, &out, &err] {
            owner.give(fd)?;
        }
        Ok((io, [stdin, out, err]))
    }

    fn input(&mut self, path: &str) -> Result<OwnedFd> {
        if path.is_empty() {
            return place::null();
        }
        let (reader, writer) = place::fifo(path)?;
        self.stdin = Some(writer);
        // Blocking, as programs expect; it doesn't block here, for there is a writer.
        drop(reader);
        place::open(path, OFlag::O_RDONLY)
    }

    fn output(&mut self, place: &Place, owner: &Owner<'_>) -> Result<OwnedFd> {
        let path = match place {
            Place::Nowhere => return place::null(),
            Place::File(path) => return place::append(path),
            Place::Capped(path, most) => return self.pipe(Sink::Capped(Capped::open(path, *most)?)),
            Place::Program(_) => anyhow::bail!("a logger takes stdout and stderr"),
            Place::Fifo(path) => path,
        };
        let outlet = Outlet::open(path)?;
        if !owner.is_exec {
            self.outlets.push(outlet);
            // As above: there is a reader.
            return place::open(path, OFlag::O_WRONLY);
        }
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        place::set_nonblocking(&ours)?;
        let (ended, end) = oneshot::channel();
        copy::splice(ours, outlet, end)?;
        self.copies.push(ended);
        Ok(theirs)
    }

    /// A pipe for what can't be handed out.
    fn pipe(&mut self, sink: Sink) -> Result<OwnedFd> {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        let (ended, end) = oneshot::channel();
        copy::bytes(ours, sink, end)?;
        self.copies.push(ended);
        Ok(theirs)
    }

    /// Takes the terminal that the runtime has made.
    ///
    /// # Errors
    /// A stream that can't be opened.
    pub fn attach(&mut self, console: Console, streams: &Streams) -> Result<()> {
        if !streams.stdin.is_empty() {
            let (reader, writer) =
                place::fifo(&streams.stdin).with_context(|| format!("open stdin {}", streams.stdin))?;
            self.stdin = Some(writer);
            let (ended, end) = oneshot::channel();
            copy::bytes(reader, Sink::new(console.end()?)?, end)?;
            self.copies.push(ended);
        }
        let writer = match Place::parse(&streams.stdout)? {
            Place::Fifo(path) => {
                let outlet =
                    Outlet::open(&path).with_context(|| format!("open stdout {}", streams.stdout))?;
                Sink::Fifo(outlet.watched()?)
            }
            Place::File(path) => Sink::new(place::append(&path)?)?,
            Place::Capped(path, most) => Sink::Capped(Capped::open(&path, most)?),
            Place::Nowhere => Sink::new(place::null()?)?,
            Place::Program(_) => anyhow::bail!("a terminal can't be given to a logger"),
        };
        let (ended, end) = oneshot::channel();
        copy::bytes(console.end()?, writer, end)?;
        self.copies.push(ended);
        self.console = Some(console);
        Ok(())
    }

    /// The terminal, if there is one.
    pub fn console(&self) -> Option<&Console> {
        self.console.as_ref()
    }

    /// The client writes no more: once its own end is closed, the process sees the end of its input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The process has ended.
    pub fn ended(&mut self) {
        self.stdin = None;
        for outlet in self.outlets.drain(..) {
            let (given_up, mut end) = oneshot::channel();
            tokio::spawn(async move { outlet.close(&mut end).await });
            self.unread.push(given_up);
        }
    }

    /// The process is deleted. Copies go on until everything that it wrote is out.
    pub fn delete(&mut self) {
        self.ended();
        self.unread.clear();
        self.console = None;
        self.logger = None;
        let copies = std::mem::take(&mut self.copies);
        if !copies.is_empty() {
            tokio::spawn(async move {
                tokio::time::sleep(AFTERGLOW).await;
                drop(copies);
            });
        }
    }
}

impl Owner<'_> {
    /// Lets the options' user open a stream again by its name in /proc.
    fn give(&self, fd: impl AsFd) -> Result<()> {
        if self.uid.is_none() && self.gid.is_none() || place::is_null(&fd) {
            return Ok(());
        }
        fchown(fd, self.uid.map(Uid::from_raw), self.gid.map(Gid::from_raw)).context("chown a stream")
    }
}
