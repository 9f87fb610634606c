//! The signals of a verb that launches a process: until it runs they end the launch, afterwards they are the process's.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::sys::process;

/// Those by which a user, or whoever supervises the runtime, ends what takes too long.
const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Signals as they arrive, none lost: blocked before there is a process, read from descriptors.
pub struct Signals {
    all: SignalFd,
    ending: SignalFd,
    /// The mask as it was; the payload gets it back.
    pub original: SigSet,
}

impl Signals {
    /// Blocks every signal but those that a fault of this program raises.
    ///
    /// # Errors
    /// Those of the calls; there are no descriptors left.
    pub fn block() -> Result<Signals> {
        let mut all = SigSet::all();
        for fault in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGILL,
            Signal::SIGABRT,
            Signal::SIGTRAP,
        ] {
            all.remove(fault);
        }
        let mut original = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut original)).context("sigprocmask")?;
        let mut ending = SigSet::empty();
        for signal in ENDING {
            // Who starts it with nohup(1) has it live on. A blocked signal arrives although it is ignored.
            if !process::ignores(signal).context("sigaction")? {
                ending.add(signal);
            }
        }
        let read = |set: &SigSet| SignalFd::with_flags(set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        let (all, ending) = (read(&all).context("signalfd")?, read(&ending).context("signalfd")?);
        Ok(Signals { all, ending, original })
    }

    /// Waits until there is something to read from the other side, or that is gone.
    ///
    /// # Errors
    /// `interrupted by SIGTERM`, or another of those that end a launch.
    pub fn wait_for(&self, other: impl AsFd) -> Result<()> {
        self.wait_for_at_most(other, None).map(drop)
    }

    /// The same with a limit; false: it is over.
    ///
    /// # Errors
    /// As above.
    pub fn wait_for_at_most(&self, other: impl AsFd, limit: Option<Duration>) -> Result<bool> {
        let (other, ending) = (other.as_fd(), self.ending.as_fd());
        let mut events = [other, ending].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let in_time = poll_at_most(&mut events, limit)?;
        match self.ending.read_signal().context("read signalfd")? {
            Some(signal) => match Signal::try_from(signal.ssi_signo as i32) {
                Ok(signal) => bail!("interrupted by {signal}"),
                Err(_) => bail!("interrupted by signal {}", signal.ssi_signo),
            },
            None => Ok(in_time),
        }
    }

    /// The next one that has come, if any.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn next(&self) -> Result<Option<i32>> {
        Ok(self.all.read_signal().context("read signalfd")?.map(|signal| signal.ssi_signo as i32))
    }
}

/// Waits until there is something to read; false: the limit is over.
///
/// # Errors
/// Those of poll(2).
pub(super) fn wait_at_most(other: impl AsFd, limit: Option<Duration>) -> Result<bool> {
    poll_at_most(&mut [PollFd::new(other.as_fd(), PollFlags::POLLIN)], limit)
}

fn poll_at_most(events: &mut [PollFd<'_>], limit: Option<Duration>) -> Result<bool> {
    let end = limit.map(|limit| Instant::now() + limit);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        // Longer than poll(2) can is a second round.
        let patience = left.map_or(PollTimeout::NONE, |left| left.try_into().unwrap_or(PollTimeout::MAX));
        match poll(events, patience) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(e).context("poll"),
        }
    }
}

/// Becomes readable when one comes.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.all.as_fd()
    }
}
