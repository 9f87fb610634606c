//! Copies from one descriptor to another, each a task of its own. A full destination is waited for, without a limit and
//! with at most a page in memory.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use linux::watch::watched;
use nix::errno::Errno;
use nix::fcntl::SpliceFFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};

use super::open;
use super::output_fifo::OutputFifo;
use super::rotating_file::RotatingFile;

/// What is moved at a time; a pipe holds no more.
const PIPE: usize = 64 << 10;

/// No more than a fifo takes at once when it is writable at all (PIPE_BUF).
const PAGE: usize = 4096;

/// Copies that run: the program must not end before they do.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static DONE: Notify = Notify::const_new();

/// One of them.
struct Running;

impl Running {
    fn begin() -> Running {
        COUNT.fetch_add(1, Ordering::Relaxed);
        Running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
        DONE.notify_waiters();
    }
}

/// Waits until no copy runs.
pub async fn all_done() {
    loop {
        let done = DONE.notified();
        if COUNT.load(Ordering::Relaxed) == 0 {
            return;
        }
        done.await;
    }
}

/// Moves what is in a pipe to a fifo, without seeing it, until the pipe's other end is closed; once `end` is over, only
/// what is in it already.
pub fn splice(from: OwnedFd, fifo: OutputFifo, end: oneshot::Receiver<()>) -> Result<()> {
    let from = watched(from, Interest::READABLE)?;
    let fifo = fifo.watched()?;
    let running = Running::begin();
    tokio::spawn(async move {
        let _running = running;
        let mut source = Source { from: &from, end, ending: false };
        while source.has_more().await {
            let to = &fifo.writer;
            let Ok(mut room) = to.writable().await else { break };
            let how = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
            match nix::fcntl::splice(from.get_ref(), None, to.get_ref(), None, PIPE, how) {
                Ok(0) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                // Either end may be meant; `has_more` has just looked at one.
                Err(Errno::EAGAIN) => room.clear_ready(),
                Err(_) => break,
            }
        }
        source.close(fifo).await;
    });
    Ok(())
}

/// Copies to and from what can't be spliced: terminals, and files that are rotated.
pub fn bytes(from: OwnedFd, mut destination: Destination, end: oneshot::Receiver<()>) -> Result<()> {
    open::set_nonblocking(&from)?;
    let from = watched(from, Interest::READABLE)?;
    let running = Running::begin();
    tokio::spawn(async move {
        let _running = running;
        let mut source = Source { from: &from, end, ending: false };
        let mut page = [0; PAGE];
        while source.has_more().await {
            // EIO: nobody has the other end of the pty any more.
            match nix::unistd::read(from.get_ref(), &mut page) {
                Ok(0) => break,
                Ok(len) => {
                    if destination.write(&page[..len]).await.is_err() {
                        break;
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        if let Destination::Fifo(fifo) = destination {
            source.close(fifo).await;
        }
    });
    Ok(())
}

struct Source<'a> {
    from: &'a AsyncFd<OwnedFd>,
    end: oneshot::Receiver<()>,
    ending: bool,
}

impl Source<'_> {
    /// Waits until there is something to read, an end of file included. False: there isn't, and the end has come.
    async fn has_more(&mut self) -> bool {
        loop {
            if is_ready(self.from) {
                return true;
            }
            if self.ending {
                return false;
            }
            tokio::select! {
                ready = self.from.readable() => match ready {
                    Ok(mut ready) if !is_ready(self.from) => ready.clear_ready(),
                    Ok(_) => return true,
                    Err(_) => return false,
                },
                _ = &mut self.end => self.ending = true,
            }
        }
    }

    /// Nothing more will come: lets the client read end-of-file.
    async fn close(mut self, fifo: OutputFifo<AsyncFd<OwnedFd>>) {
        if !self.ending {
            fifo.close(&mut self.end).await;
        }
    }
}

/// Whether a read would give an answer now.
fn is_ready(fd: &AsyncFd<OwnedFd>) -> bool {
    let mut fds = [PollFd::new(fd.get_ref().as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
}

/// Where a copy goes. Files can't be waited for (EPERM of epoll), and needn't.
pub enum Destination {
    File(OwnedFd),
    Rotating(RotatingFile),
    Fifo(OutputFifo<AsyncFd<OwnedFd>>),
    Other(AsyncFd<OwnedFd>),
}

impl Destination {
    pub fn new(fd: OwnedFd) -> Result<Destination> {
        let kind = File::from(fd.try_clone()?).metadata()?.file_type();
        if kind.is_file() || open::is_null(&fd) {
            return Ok(Destination::File(fd));
        }
        open::set_nonblocking(&fd)?;
        Ok(Destination::Other(watched(fd, Interest::WRITABLE)?))
    }

    async fn write(&mut self, mut rest: &[u8]) -> Result<(), Error> {
        while !rest.is_empty() {
            let written = match self {
                Destination::File(fd) => nix::unistd::write(fd, rest).map_err(Error::from),
                Destination::Rotating(file) => file.write(rest),
                Destination::Other(fd) | Destination::Fifo(OutputFifo { writer: fd, .. }) => {
                    fd.async_io(Interest::WRITABLE, |fd| Ok(nix::unistd::write(fd, rest)?)).await
                }
            };
            match written {
                Ok(len) => rest = &rest[len..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
