//! Copies from one descriptor to another, each a task of its own. A full sink is waited for, without a limit and with
//! at most a page in memory.

use std::fs::{self, File};
use std::io::Write;
use std::io::{Error, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use linux::watch::watched;
use nix::errno::Errno;
use nix::fcntl::SpliceFFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};

use super::outlet::Outlet;
use super::place;

/// What is moved at a time; a pipe holds no more.
const PIPE: usize = 64 << 10;

/// No more than a fifo takes at once when it is writable at all (PIPE_BUF).
const PAGE: usize = 4096;

/// Copies at work: the program must not end before they do.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static DONE: Notify = Notify::const_new();

/// One of them.
struct AtWork;

impl AtWork {
    fn begin() -> AtWork {
        COUNT.fetch_add(1, Ordering::Relaxed);
        AtWork
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
        DONE.notify_waiters();
    }
}

/// Waits until no copy is at work.
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
pub fn splice(from: OwnedFd, outlet: Outlet, end: oneshot::Receiver<()>) -> Result<()> {
    let from = watched(from, Interest::READABLE)?;
    let outlet = outlet.watched()?;
    let at_work = AtWork::begin();
    tokio::spawn(async move {
        let _at_work = at_work;
        let mut source = Source { from: &from, end, ending: false };
        while source.has_more().await {
            let to = &outlet.writer;
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
        source.close(outlet).await;
    });
    Ok(())
}

/// Copies to and from what can't be spliced: terminals, and files that are put aside.
pub fn bytes(from: OwnedFd, mut sink: Sink, end: oneshot::Receiver<()>) -> Result<()> {
    place::set_nonblocking(&from)?;
    let from = watched(from, Interest::READABLE)?;
    let at_work = AtWork::begin();
    tokio::spawn(async move {
        let _at_work = at_work;
        let mut source = Source { from: &from, end, ending: false };
        let mut page = [0; PAGE];
        while source.has_more().await {
            // EIO: nobody has the terminal's other end any more.
            match nix::unistd::read(from.get_ref(), &mut page) {
                Ok(0) => break,
                Ok(len) => {
                    if sink.write(&page[..len]).await.is_err() {
                        break;
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        if let Sink::Fifo(outlet) = sink {
            source.close(outlet).await;
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

    /// Nothing more will come through: lets the client see the end.
    async fn close(mut self, outlet: Outlet<AsyncFd<OwnedFd>>) {
        if !self.ending {
            outlet.close(&mut self.end).await;
        }
    }
}

/// Whether a read would give an answer now.
fn is_ready(fd: &AsyncFd<OwnedFd>) -> bool {
    let mut fds = [PollFd::new(fd.get_ref().as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
}

/// Files can't be waited for (EPERM of epoll), and needn't.
pub enum Sink {
    File(OwnedFd),
    Capped(Capped),
    Fifo(Outlet<AsyncFd<OwnedFd>>),
    Other(AsyncFd<OwnedFd>),
}

impl Sink {
    pub fn new(fd: OwnedFd) -> Result<Sink> {
        let kind = std::fs::File::from(fd.try_clone()?).metadata()?.file_type();
        if kind.is_file() || place::is_null(&fd) {
            return Ok(Sink::File(fd));
        }
        place::set_nonblocking(&fd)?;
        Ok(Sink::Other(watched(fd, Interest::WRITABLE)?))
    }

    async fn write(&mut self, mut rest: &[u8]) -> Result<(), Error> {
        while !rest.is_empty() {
            let written = match self {
                Sink::File(fd) => nix::unistd::write(fd, rest).map_err(Error::from),
                Sink::Capped(file) => file.write(rest),
                Sink::Other(fd) | Sink::Fifo(Outlet { writer: fd, .. }) => {
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

/// A file that is put aside before it grows too large.
pub struct Capped {
    path: PathBuf,
    file: File,
    len: u64,
    most: u64,
}

impl Capped {
    /// # Errors
    /// The file can't be opened.
    pub fn open(path: &Path, most: u64) -> Result<Capped> {
        let file = File::from(place::append(path)?);
        let len = file.metadata()?.len();
        Ok(Capped { path: path.to_owned(), file, len, most })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        if self.len > 0 && self.len + bytes.len() as u64 > self.most {
            let mut aside = self.path.clone().into_os_string();
            aside.push(".1");
            fs::rename(&self.path, aside)?;
            self.file = File::options().append(true).create(true).open(&self.path)?;
            self.len = 0;
        }
        let len = self.file.write(bytes)?;
        self.len += len as u64;
        Ok(len)
    }
}
