//! What a process reads and writes.
//!
//! containerd's fifos are handed to the container itself: nothing is copied, so nothing is lost and no memory is
//! needed. The shim keeps both ends of each open, so that a container can write while nobody reads, as when containerd
//! is away. When the process has ended, they are closed once a client reads, which then sees the end (stdio/output_fifo.rs).
//!
//! Two cases need copying: a terminal, and the output of an exec. What an exec leaves in the background holds its
//! output open for ever, and a descriptor that a process was given can't be taken back; so an exec writes to a pipe, and its
//! reader sees the end at the latest when the exec is deleted and what it wrote has been read.

mod console;
mod copy;
mod logger;
mod open;
mod output_fifo;
mod rotating_file;
mod uri;

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, fchown, pipe2};
use tokio::sync::oneshot;

pub use console::Console;
use containerd_shim_protos::shim::oci;
use copy::Destination;
pub use copy::all_done;
use logger::Logger;
use output_fifo::OutputFifo;
use rotating_file::RotatingFile;
use uri::StdioUri;

use crate::reaper::Reaper;

/// How long what an exec left in the background is listened to after the exec is deleted, as containerd's own shim has
/// it. What the exec itself wrote has no limit.
const EXEC_IO_GRACE: Duration = Duration::from_secs(2);

/// Where a client wants a process's streams, as in containerd's `cio.Config`: a path for stdin, paths or URIs for output.
#[derive(Clone, Debug, Default)]
pub struct StdioConfig {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

/// The three descriptors that a container's process begins with.
pub struct ChildStdio {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// Whose process it is.
pub struct Owner<'a> {
    namespace: &'a str,
    id: &'a str,
    /// Who may open the streams again by their names in /proc. None: nobody asked.
    uid: Option<u32>,
    gid: Option<u32>,
}

/// The shim's side of a process's stdio.
#[derive(Default)]
pub struct ProcessIo {
    /// Holds the process's stdin open until CloseIO.
    stdin: Option<OwnedFd>,
    /// Fifos that the process has, held until it ends.
    fifos: Vec<OutputFifo>,
    /// Those that no client has opened since the process has ended: given up when these are dropped.
    unread: Vec<oneshot::Sender<()>>,
    /// Copies, which end when these are dropped.
    copies: Vec<oneshot::Sender<()>>,
    console: Option<Console>,
    logger: Option<Logger>,
}

impl ProcessIo {
    /// Opens a process's streams; the descriptors are for the process. What an exec leaves behind may outlive it.
    ///
    /// # Errors
    /// A stream that can't be opened; a logger that can't be started or doesn't become ready.
    pub async fn open(
        stdio: &StdioConfig,
        owner: &Owner<'_>,
        is_exec: bool,
        reaper: &Reaper,
    ) -> Result<(ProcessIo, ChildStdio)> {
        let mut io = ProcessIo::default();
        if stdio.terminal {
            // The runtime makes the terminal, and its master comes through the console socket.
            let [stdin, stdout, stderr] = [open::null()?, open::null()?, open::null()?];
            return Ok((io, ChildStdio { stdin, stdout, stderr }));
        }
        let stdin = io.input(&stdio.stdin).with_context(|| format!("open stdin {}", stdio.stdin))?;
        let uris = (StdioUri::parse(&stdio.stdout)?, StdioUri::parse(&stdio.stderr)?);
        let [stdout, stderr] = match &uris {
            (StdioUri::Binary(binary), _) => {
                let (logger, pipes) = Logger::start(binary, owner, reaper).await?;
                io.logger = Some(logger);
                pipes
            }
            (StdioUri::RotatingFile(path, max_size), StdioUri::RotatingFile(other, _)) if path == other => {
                let pipe = io.pipe(Destination::Rotating(RotatingFile::open(path, *max_size)?))?;
                [pipe.try_clone()?, pipe]
            }
            (StdioUri::File(path), StdioUri::File(other)) if path == other => {
                let file = open::append(path)?;
                [file.try_clone()?, file]
            }
            (stdout, stderr) => [
                io.output(stdout, is_exec).with_context(|| format!("open stdout {}", stdio.stdout))?,
                io.output(stderr, is_exec).with_context(|| format!("open stderr {}", stdio.stderr))?,
            ],
        };
        for fd in [&stdin, &stdout, &stderr] {
            owner.chown(fd)?;
        }
        Ok((io, ChildStdio { stdin, stdout, stderr }))
    }

    fn input(&mut self, path: &str) -> Result<OwnedFd> {
        if path.is_empty() {
            return open::null();
        }
        let (reader, writer) = open::fifo(path)?;
        self.stdin = Some(writer);
        // Blocking, as programs expect; it doesn't block here, for there is a writer.
        drop(reader);
        open::path(path, OFlag::O_RDONLY)
    }

    fn output(&mut self, uri: &StdioUri, is_exec: bool) -> Result<OwnedFd> {
        let path = match uri {
            StdioUri::Null => return open::null(),
            StdioUri::File(path) => return open::append(path),
            StdioUri::RotatingFile(path, max_size) => {
                return self.pipe(Destination::Rotating(RotatingFile::open(path, *max_size)?));
            }
            StdioUri::Binary(_) => anyhow::bail!("a logger takes stdout and stderr"),
            StdioUri::Fifo(path) => path,
        };
        let fifo = OutputFifo::open(path)?;
        if !is_exec {
            self.fifos.push(fifo);
            // As above: there is a reader.
            return open::path(path, OFlag::O_WRONLY);
        }
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        open::set_nonblocking(&ours)?;
        let (ended, end) = oneshot::channel();
        copy::splice(ours, fifo, end)?;
        self.copies.push(ended);
        Ok(theirs)
    }

    /// A pipe, for an end that can't be given to the process.
    fn pipe(&mut self, to: Destination) -> Result<OwnedFd> {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        let (ended, end) = oneshot::channel();
        copy::bytes(ours, to, end)?;
        self.copies.push(ended);
        Ok(theirs)
    }

    /// Takes the terminal that the runtime has made.
    ///
    /// # Errors
    /// A stream that can't be opened.
    pub fn attach(&mut self, console: Console, stdio: &StdioConfig) -> Result<()> {
        if !stdio.stdin.is_empty() {
            let (reader, writer) =
                open::fifo(&stdio.stdin).with_context(|| format!("open stdin {}", stdio.stdin))?;
            self.stdin = Some(writer);
            let (ended, end) = oneshot::channel();
            copy::bytes(reader, Destination::new(console.master()?)?, end)?;
            self.copies.push(ended);
        }
        let output = match StdioUri::parse(&stdio.stdout)? {
            StdioUri::Fifo(path) => {
                let fifo =
                    OutputFifo::open(&path).with_context(|| format!("open stdout {}", stdio.stdout))?;
                Destination::Fifo(fifo.watched()?)
            }
            StdioUri::File(path) => Destination::new(open::append(&path)?)?,
            StdioUri::RotatingFile(path, max_size) => {
                Destination::Rotating(RotatingFile::open(&path, max_size)?)
            }
            StdioUri::Null => Destination::new(open::null()?)?,
            StdioUri::Binary(_) => anyhow::bail!("a terminal can't be given to a logger"),
        };
        let (ended, end) = oneshot::channel();
        copy::bytes(console.master()?, output, end)?;
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
        for fifo in self.fifos.drain(..) {
            let (given_up, mut end) = oneshot::channel();
            tokio::spawn(async move { fifo.close(&mut end).await });
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
                tokio::time::sleep(EXEC_IO_GRACE).await;
                drop(copies);
            });
        }
    }
}

impl<'a> Owner<'a> {
    pub fn of(namespace: &'a str, id: &'a str, options: &oci::Options) -> Owner<'a> {
        let given = |id: u32| (id != 0).then_some(id);
        Owner { namespace, id, uid: given(options.io_uid), gid: given(options.io_gid) }
    }

    /// Lets the options' user open a stream again by its name in /proc.
    fn chown(&self, fd: impl AsFd) -> Result<()> {
        if self.uid.is_none() && self.gid.is_none() || open::is_null(&fd) {
            return Ok(());
        }
        fchown(fd, self.uid.map(Uid::from_raw), self.gid.map(Gid::from_raw)).context("chown a stream")
    }
}
