//! Our stdout, for a container's terminal. Whoever should read it may not: nothing that is done besides may wait for that.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;

use anyhow::{Context, Result};
use linux::interrupt;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::Mode;

/// What a pipe that is ready takes without waiting (pipe(7), PIPE_BUF).
const PART: usize = 4096;

/// What was read for stdout and not taken by it yet: nothing more is read before it is.
pub struct Output {
    fd: OwnedFd,
    is_socket: bool,
    waiting: Vec<u8>,
}

impl Output {
    /// Our stdout. O_NONBLOCK belongs to an open file, and that of stdout is others', too; so a pipe or a terminal is opened
    /// once more. Where that can't be, for the rights of another user say, it is written to in parts when it is ready.
    ///
    /// # Errors
    /// stdout can't be looked at.
    pub fn open() -> Result<Output> {
        const OWN: &str = "/proc/self/fd/1";
        let copy = std::io::stdout().as_fd().try_clone_to_owned().context("dup stdout")?;
        let kind = File::from(copy.try_clone()?).metadata().context("stat stdout")?.file_type();
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        // A file's place to write at belongs to it as well, but a file takes all at once.
        let again =
            if kind.is_fifo() || kind.is_char_device() { open(OWN, flags, Mode::empty()).ok() } else { None };
        Ok(Output { fd: again.unwrap_or(copy), is_socket: kind.is_socket(), waiting: Vec::new() })
    }

    /// Takes what the container has written, and shows what it can of it.
    pub fn take(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        self.show();
    }

    /// Whether there is something to be shown; it is asked for by [`Output::poll_fd`].
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Ready when some of it can be shown.
    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)
    }

    /// Shows what can be shown now.
    pub fn show(&mut self) {
        while self.is_waiting() {
            let part = &self.waiting[..self.waiting.len().min(PART)];
            let written = match self.is_socket {
                true => send(self.fd.as_raw_fd(), part, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL),
                false => nix::unistd::write(&self.fd, part),
            };
            match written {
                Ok(n) => drop(self.waiting.drain(..n)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // A reader of ours that went away must not keep the container from running on.
                Err(_) => self.waiting.clear(),
            }
        }
    }

    /// Waits until all is shown. False: a signal asked for the end before.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn flush(&mut self) -> Result<bool> {
        while self.is_waiting() {
            match interrupt::poll(&mut [self.poll_fd()], None) {
                Ok(_) => self.show(),
                Err(Errno::EINTR) => return Ok(false),
                Err(e) => return Err(e).context("wait for stdout"),
            }
        }
        Ok(true)
    }
}
