//! `run` in the foreground: signals go in, the terminal's bytes go both ways, the exit code comes out.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::Pid;

use super::Launched;
use crate::sys::{interrupt, pidfd, tty, wait};

/// Signals as they arrive, none lost: blocked before there is a process, read from a descriptor.
pub struct Signals {
    fd: SignalFd,
    /// The mask as it was; the payload gets it back.
    pub original: SigSet,
}

impl Signals {
    /// Blocks every signal but those that a fault of this program raises. Those that are to end it still end a wait for a
    /// container that is being made (sys/interrupt.rs); afterwards they are the container's.
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
struct Raw(Termios);

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
        Ok(Some(Raw(saved)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // After the last output is out, so that it is not shown in the wrong mode. Nobody is left to tell of errors.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

/// Whether there is a terminal here to stand in for the container's.
pub fn has_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stdin().is_terminal() || std::io::stdout().is_terminal() || std::io::stderr().is_terminal()
}

/// Stays until the container's init has ended; returns its exit code, 128 + N for signal N.
pub fn attend(launched: Launched, signals: &Signals) -> Result<u8> {
    let Some(master) = &launched.master else {
        loop {
            let mut events = [PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN)];
            wait_for(&mut events)?;
            if let Some(code) = take_signals(&launched, signals, None)? {
                return Ok(code);
            }
        }
    };
    let raw = Raw::set()?;
    let flags = OFlag::from_bits_truncate(fcntl(master, FcntlArg::F_GETFL).context("fcntl")?);
    fcntl(master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).context("fcntl")?;
    let mut copy = Copy { master: master.as_fd(), stdin_open: true, typed: Vec::new() };
    let code = loop {
        copy.turn(signals)?;
        if let Some(code) = take_signals(&launched, signals, Some(master))? {
            break code;
        }
    };
    copy.drain();
    drop(raw);
    Ok(code)
}

fn wait_for(events: &mut [PollFd<'_>]) -> Result<()> {
    match poll(events, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(e).context("poll"),
    }
}

/// Forwards what came; Some(exit code) when the init has ended.
fn take_signals(launched: &Launched, signals: &Signals, master: Option<&OwnedFd>) -> Result<Option<u8>> {
    while let Some(signal) = signals.fd.read_signal().context("read signalfd")? {
        match Signal::try_from(signal.ssi_signo as i32) {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = reap(launched.pid)? {
                    return Ok(Some(code));
                }
            }
            Ok(Signal::SIGWINCH) if master.is_some() => master.into_iter().for_each(follow_size),
            // Ours, not the container's: a reader of our output went away.
            Ok(Signal::SIGPIPE) => {}
            // It may have ended meanwhile; SIGCHLD is then on its way.
            _ => drop(pidfd::signal(&launched.pidfd, signal.ssi_signo as i32)),
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

struct Copy<'a> {
    master: BorrowedFd<'a>,
    stdin_open: bool,
    /// Typed, but not taken yet: nothing more is read before it is.
    typed: Vec<u8>,
}

impl Copy<'_> {
    /// Waits for something to do, and does it.
    fn turn(&mut self, signals: &Signals) -> Result<()> {
        let stdin = std::io::stdin();
        let out = if self.typed.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        let mut events = vec![
            PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.master, PollFlags::POLLIN | out),
        ];
        if self.stdin_open && self.typed.is_empty() {
            events.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        wait_for(&mut events)?;
        let ready: Vec<bool> = events.iter().map(|e| e.any().unwrap_or_default()).collect();
        if ready[1] {
            self.write_typed();
            if !self.show() {
                // Nobody holds the other end just now: its hang-up would wake us again and again.
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        if ready.get(2) == Some(&true) {
            self.read_typed();
        }
        Ok(())
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
            Err(_) => self.stdin_open = false,
        }
    }

    fn write_typed(&mut self) {
        while !self.typed.is_empty() {
            match nix::unistd::write(self.master, &self.typed) {
                Ok(n) => drop(self.typed.drain(..n)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // Hung up: there is nobody to type to.
                Err(_) => self.typed.clear(),
            }
        }
    }

    /// Shows what the container wrote; false when the other end is closed.
    fn show(&self) -> bool {
        let mut bytes = [0u8; 16384];
        match nix::unistd::read(self.master, &mut bytes) {
            Ok(n) if n > 0 => {
                let mut stdout = std::io::stdout().lock();
                // A reader of ours that went away must not keep the container from running on.
                let _ = stdout.write_all(&bytes[..n]).and_then(|()| stdout.flush());
                true
            }
            Err(Errno::EAGAIN | Errno::EINTR) => true,
            _ => false,
        }
    }

    /// What was written before the end and not shown yet.
    fn drain(&self) {
        loop {
            let mut events = [PollFd::new(self.master, PollFlags::POLLIN)];
            let more = poll(&mut events, PollTimeout::ZERO).is_ok_and(|n| n > 0);
            if !more || !self.show() {
                return;
            }
        }
    }
}
