//! `run` in the foreground: signals go in, the terminal's bytes go both ways, the exit code comes out.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use linux::{interrupt, pidfd, tty, wait};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::Pid;

use super::Launched;
use super::output::Output;

/// Signals as they arrive, none lost: blocked before there is a process, read from a descriptor.
pub struct Signals {
    fd: SignalFd,
    /// The mask as it was; the payload gets it back.
    pub original: SigSet,
}

impl Signals {
    /// Blocks every signal but those that a fault of this program raises. Those that are to end it still end a wait for a
    /// container that is being made (linux/src/interrupt.rs); afterwards they are the container's.
    pub fn block() -> Result<Signals> {
        let original = interrupt::arm().context("catch the signals that end a wait")?;
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
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None).context("sigprocmask")?;
        let fd =
            SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signalfd")?;
        Ok(Signals { fd, original })
    }
}

/// The caller's terminal in raw mode until dropped.
struct Raw {
    saved: Termios,
    /// When it is to be as it was.
    when: SetArg,
}

impl Raw {
    fn set() -> Result<Option<Raw>> {
        let stdin = std::io::stdin();
        let saved = match tcgetattr(&stdin) {
            Ok(saved) => saved,
            Err(Errno::ENOTTY) => return Ok(None),
            Err(e) => return Err(e).context("tcgetattr"),
        };
        let mut raw = saved.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&stdin, SetArg::TCSANOW, &raw).context("tcsetattr")?;
        // After the last output is out, so that it is not shown in the wrong mode.
        Ok(Some(Raw { saved, when: SetArg::TCSADRAIN }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nobody is left to tell of errors.
        let _ = tcsetattr(std::io::stdin(), self.when, &self.saved);
    }
}

/// Whether there is a terminal here to stand in for the container's.
pub fn has_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stdin().is_terminal() || std::io::stdout().is_terminal() || std::io::stderr().is_terminal()
}

/// An init that has ended.
pub struct Ended {
    /// Its exit code, 128 + N for signal N.
    pub code: u8,
    terminal: Option<Between>,
}

impl Ended {
    /// Shows what it had written before and nobody has read yet: nothing but that, or SIGTERM, SIGINT or SIGHUP, ends the
    /// wait for a reader, and so what had to be done of the container is done by now.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn finish(self) -> Result<u8> {
        self.terminal.map_or(Ok(()), Between::drain)?;
        Ok(self.code)
    }
}

/// Stays until the container's init has ended.
pub fn attend(launched: Launched, signals: &Signals) -> Result<Ended> {
    let Launched { pid, pidfd, master, .. } = launched;
    let Some(master) = master else {
        loop {
            let mut events = [PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN)];
            wait_for(&mut events)?;
            if let Some(code) = take_signals((pid, &pidfd), signals, None)? {
                return Ok(Ended { code, terminal: None });
            }
        }
    };
    let raw = Raw::set()?;
    let flags = OFlag::from_bits_truncate(fcntl(&master, FcntlArg::F_GETFL).context("fcntl")?);
    fcntl(&master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).context("fcntl")?;
    let mut copy = Between { master, stdin_open: true, typed: Vec::new(), output: Output::open()?, raw };
    loop {
        copy.turn(signals)?;
        if let Some(code) = take_signals((pid, &pidfd), signals, Some(&copy.master))? {
            return Ok(Ended { code, terminal: Some(copy) });
        }
    }
}

fn wait_for(events: &mut [PollFd<'_>]) -> Result<()> {
    match poll(events, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(e).context("poll"),
    }
}

/// Forwards what came; Some(exit code) when the init has ended.
fn take_signals(
    (init, pidfd): (Pid, &OwnedFd),
    signals: &Signals,
    master: Option<&OwnedFd>,
) -> Result<Option<u8>> {
    while let Some(signal) = signals.fd.read_signal().context("read signalfd")? {
        match Signal::try_from(signal.ssi_signo as i32) {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = reap(init)? {
                    return Ok(Some(code));
                }
            }
            Ok(Signal::SIGWINCH) if master.is_some() => master.into_iter().for_each(follow_size),
            // Ours, not the container's: a reader of our output went away.
            Ok(Signal::SIGPIPE) => {}
            // So it is when a file of ours grew as far as it may; from elsewhere it is the container's.
            Ok(Signal::SIGXFSZ) if signal.ssi_pid == std::process::id() => {}
            // It may have ended meanwhile; SIGCHLD is then on its way.
            _ => drop(pidfd::signal(pidfd, signal.ssi_signo as i32)),
        }
    }
    Ok(None)
}

/// Reaps all that ended, orphans of the container among them (run is their subreaper).
fn reap(init: Pid) -> Result<Option<u8>> {
    let mut code = None;
    loop {
        match wait::reap(None) {
            Ok(Some(ended)) if ended.pid == init => code = Some(ended.status),
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::ECHILD) => return Ok(code),
            Err(e) => return Err(e).context("waitid"),
        }
    }
}

/// Gives a terminal without a size the one of ours, before its program can ask.
pub(super) fn first_size(master: &OwnedFd) {
    if tty::size(master) == Ok((0, 0)) {
        follow_size(master);
    }
}

/// Gives the container's terminal the size of ours.
pub(super) fn follow_size(master: &OwnedFd) {
    if let Ok(size) = tty::size(std::io::stdin()).or_else(|_| tty::size(std::io::stdout())) {
        // The container may have hung up.
        let _ = tty::resize(master, size);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ready {
    Signal,
    Master,
    Stdin,
    Output,
}

struct Between {
    master: OwnedFd,
    stdin_open: bool,
    /// Typed, but not taken yet: nothing more is read before it is.
    typed: Vec<u8>,
    output: Output,
    raw: Option<Raw>,
}

impl Between {
    /// Waits for something to do, and does it.
    fn turn(&mut self, signals: &Signals) -> Result<()> {
        let ready = self.wait(signals)?;
        if ready.contains(&Ready::Output) {
            self.output.show();
        }
        if ready.contains(&Ready::Master) {
            self.write_typed();
            if !self.output.is_waiting() && !self.read_shown() {
                // Nobody holds the other end just now: its hang-up would wake us again and again.
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        if ready.contains(&Ready::Stdin) {
            self.read_typed();
        }
        Ok(())
    }

    /// Waits for what something can be done about: a hang-up, which nothing can be, wakes whoever asks at all.
    fn wait(&self, signals: &Signals) -> Result<Vec<Ready>> {
        let stdin = std::io::stdin();
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::POLLIN, !self.output.is_waiting());
        wanted.set(PollFlags::POLLOUT, !self.typed.is_empty());
        let mut asked = vec![Ready::Signal];
        let mut events = vec![PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN)];
        if !wanted.is_empty() {
            asked.push(Ready::Master);
            events.push(PollFd::new(self.master.as_fd(), wanted));
        }
        if self.stdin_open && self.typed.is_empty() {
            asked.push(Ready::Stdin);
            events.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        if self.output.is_waiting() {
            asked.push(Ready::Output);
            events.push(self.output.poll_fd());
        }
        wait_for(&mut events)?;
        // None: a flag that nix doesn't know, so there is something.
        let ready = asked.into_iter().zip(events).filter(|(_, event)| event.any().unwrap_or(true));
        Ok(ready.map(|(what, _)| what).collect())
    }

    fn read_typed(&mut self) {
        let mut bytes = [0u8; 4096];
        match nix::unistd::read(std::io::stdin(), &mut bytes) {
            Ok(0) => self.stdin_open = false,
            Ok(n) => {
                self.typed.extend_from_slice(&bytes[..n]);
                self.write_typed();
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // EIO of a terminal that has hung up, say: nothing more comes from there.
            Err(_) => self.stdin_open = false,
        }
    }

    fn write_typed(&mut self) {
        while !self.typed.is_empty() {
            match nix::unistd::write(&self.master, &self.typed) {
                Ok(n) => drop(self.typed.drain(..n)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // Hung up: there is nobody to type to.
                Err(_) => self.typed.clear(),
            }
        }
    }

    /// Takes what the container wrote; false when there is no more, for the other end is closed.
    fn read_shown(&mut self) -> bool {
        let mut bytes = [0u8; 16384];
        match nix::unistd::read(&self.master, &mut bytes) {
            Ok(n) if n > 0 => {
                self.output.take(&bytes[..n]);
                true
            }
            Err(Errno::EAGAIN | Errno::EINTR) => true,
            _ => false,
        }
    }

    /// What was written before the end and not shown yet.
    fn drain(mut self) -> Result<()> {
        loop {
            if !self.output.flush()? {
                // Not after the last output, for which nobody waits.
                if let Some(raw) = &mut self.raw {
                    raw.when = SetArg::TCSANOW;
                }
                return Ok(());
            }
            let mut events = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let more = poll(&mut events, PollTimeout::ZERO).context("poll")? > 0;
            if !more || !self.read_shown() {
                return Ok(());
            }
        }
    }
}
