//! A fifo that a client reads a process's output from.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::Result;
use linux::watch::watched;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::open;

/// How often it is looked whether a client has come: at first, and after a while.
const POLL_INTERVALS: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(1)];

/// Both ends of a fifo, so that a process can write while nobody reads.
pub struct OutputFifo<Writer = OwnedFd> {
    reader: OwnedFd,
    pub writer: Writer,
}

impl OutputFifo {
    /// # Errors
    /// It is no fifo, or can't be opened.
    pub fn open(path: &str) -> Result<OutputFifo> {
        let (reader, writer) = open::fifo(path)?;
        Ok(OutputFifo { reader, writer })
    }

    /// To be waited for.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn watched(self) -> Result<OutputFifo<AsyncFd<OwnedFd>>> {
        Ok(OutputFifo { reader: self.reader, writer: watched(self.writer, Interest::WRITABLE)? })
    }
}

impl<Writer: AsFd> OutputFifo<Writer> {
    /// Closes it when a client has it open, which then reads end-of-file; at the latest when `end` is over.
    ///
    /// Not before: what is in a fifo goes with its last descriptor, and containerd opens it in a thread that may come
    /// late, or, after it was killed, much later, to wait in open(2) for a writer (fifo(7)).
    pub async fn close(self, end: &mut oneshot::Receiver<()>) {
        let OutputFifo { reader, writer } = self;
        // It would be taken for a client's.
        drop(reader);
        let [mut interval, longest] = POLL_INTERVALS;
        while !is_read(&writer) {
            tokio::select! {
                () = tokio::time::sleep(interval) => interval = (2 * interval).min(longest),
                _ = &mut *end => return,
            }
        }
    }
}

/// Whether a write end has a read end: without one it is in error.
fn is_read(writer: impl AsFd) -> bool {
    let mut fds = [PollFd::new(writer.as_fd(), PollFlags::empty())];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
}
