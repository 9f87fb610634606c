//! What a process reads and writes.
//!
//! containerd's fifos are handed to the container itself: nothing is copied, so nothing is lost and no memory is
//! needed. The shim keeps both ends of each open, so that a container can write while nobody reads, as when containerd
//! is away. When the process has ended, the write end is closed, so that readers see the end; the read end stays until
//! Delete, for what is in the fifo goes with its last descriptor.
//!
//! Two cases need copying: a terminal, and the output of an exec. What an exec leaves in the background holds its
//! output open for ever, and a descriptor that was handed out can't be taken back; so an exec writes to a pipe, and its
//! reader sees the end at the latest when the exec is deleted and what it wrote has been read.

mod console;
mod copy;
mod logger;
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
    /// Write ends of output, held until the process ends.
    writers: Vec<OwnedFd>,
    /// Read ends of output, held until Delete.
    readers: Vec<OwnedFd>,
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
        let (reader, writer) = place::fifo(path)?;
        self.readers.push(reader);
        if !owner.is_exec {
            self.writers.push(writer);
            // As above: there is a reader.
            return place::open(path, OFlag::O_WRONLY);
        }
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        place::set_nonblocking(&ours)?;
        let (ended, end) = oneshot::channel();
        copy::splice(ours, writer, end)?;
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
                let (reader, writer) =
                    place::fifo(&path).with_context(|| format!("open stdout {}", streams.stdout))?;
                self.readers.push(reader);
                Sink::new(writer)?
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
        self.writers.clear();
    }

    /// The process is deleted. Copies go on until everything that it wrote is out.
    pub fn delete(&mut self) {
        self.ended();
        self.readers.clear();
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
