//! The start gate, both ends: it stands between `created` and `running`, as runc's exec fifo does.
//!
//! ```text
//!   init (in the container)                      start (on the host)
//!   ───────────────────────                      ───────────────────
//!   accept, parked here for days     ◀── connect
//!                                    ◀── GO
//!   ABOUT ──▶                                    (the hooks of startContainer have run)
//!   exec, which closes the socket   ──▶ end of file: it runs
//!   or: the reason as text          ──▶ it failed
//! ```
//!
//! End of file without ABOUT means that the init was killed before its exec. Whoever only connects and goes away
//! learns that somebody is parked; that is how `created` is told from `running`. `run` needs no name for its gate:
//! it says the same over the channel that it has to the new process anyway.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use linux::interrupt;
use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, Backlog, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, shutdown,
};

/// The socket's name while the container is being made.
pub const UNREADY: &str = "gate.new";
/// The socket's name once it is created.
pub const READY: &str = "gate";

const GO: u8 = b'g';
const ABOUT: u8 = b'x';
/// A reason longer than this is cut: it crosses in one message.
const MAX_REASON: usize = 4096;

fn address(dir: BorrowedFd<'_>, name: &str) -> Result<UnixAddr> {
    // A state directory's path may be longer than the 107 bytes of a unix address; this never is.
    UnixAddr::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()).as_str())
        .context("address of the start gate")
}

fn socket(flags: SockFlag) -> Result<OwnedFd> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).context("socket")
}

/// Makes the gate, still under its first name.
pub fn build(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let listener = socket(SockFlag::empty())?;
    socket::bind(listener.as_raw_fd(), &address(dir, UNREADY)?).context("bind the start gate")?;
    socket::listen(&listener, Backlog::new(16)?).context("listen at the start gate")?;
    Ok(listener)
}

/// In the new process: parks until somebody says GO. Errors mean that nobody ever will.
pub fn park(listener: impl AsFd) -> Result<OwnedFd, Errno> {
    loop {
        let fd = match linux::socket::accept(&listener) {
            Ok(fd) => fd,
            Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
            Err(e) => return Err(e),
        };
        if wait_for_go(&fd) {
            return Ok(fd);
        }
    }
}

/// In the new process: waits for GO on a connection. False: the other side went away.
///
/// A seccomp filter may be in force already, so here the new process only uses read(2) and write(2).
pub fn wait_for_go(stream: impl AsFd) -> bool {
    let mut word = [0u8; 1];
    loop {
        match nix::unistd::read(&stream, &mut word) {
            Err(Errno::EINTR) => {}
            answer => return answer == Ok(1) && word[0] == GO,
        }
    }
}

/// In the new process: the next thing is exec.
pub fn about_to_exec(stream: impl AsFd) -> Result<(), Errno> {
    // SIGPIPE is ignored until exec.
    nix::unistd::write(stream, &[ABOUT]).map(drop)
}

/// In the new process: exec did not happen, or something before it failed. Nobody listening is no error: the process ends anyway.
pub fn failed(stream: impl AsFd, reason: &str) {
    let cut = reason.len().min(MAX_REASON);
    // As said above.
    let _ = nix::unistd::write(stream, &reason.as_bytes()[..cut]);
}

/// On the host: connects to the gate. None: nobody is parked there.
///
/// # Errors
/// Those of connect(2), but for the ones that say so.
pub fn connect(dir: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let stream = socket(SockFlag::empty())?;
    match socket::connect(stream.as_raw_fd(), &address(dir, READY)?) {
        Ok(()) => Ok(Some(stream)),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(None),
        Err(e) => Err(e).context("connect to the start gate"),
    }
}

/// On the host: whether somebody is parked there.
///
/// # Errors
/// As those of [`connect`].
pub fn is_attended(dir: BorrowedFd<'_>) -> Result<bool> {
    let stream = socket(SockFlag::SOCK_NONBLOCK)?;
    match socket::connect(stream.as_raw_fd(), &address(dir, READY)?) {
        // EAGAIN: a frozen init leaves everybody waiting who has looked before.
        Ok(()) | Err(Errno::EAGAIN) => Ok(true),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Err(e) => Err(e).context("connect to the start gate"),
    }
}

/// On the host: lets the init go.
pub fn go(stream: impl AsFd) -> Result<()> {
    match socket::send(stream.as_fd().as_raw_fd(), &[GO], MsgFlags::MSG_NOSIGNAL) {
        // It is gone, and what it sent before that is still to be received. If it isn't, this ends it: nobody waits for ever.
        Err(Errno::EPIPE | Errno::ECONNRESET) => {
            match shutdown(stream.as_fd().as_raw_fd(), Shutdown::Write) {
                Ok(()) | Err(Errno::ENOTCONN) => Ok(()),
                Err(e) => Err(e).context("shut the start gate"),
            }
        }
        other => other.map(drop).context("open the start gate"),
    }
}

/// On the host: waits until the program runs.
///
/// # Errors
/// The init's own reason, or that it was killed.
pub fn passed(stream: impl AsFd) -> Result<()> {
    let mut about = false;
    let mut buffer = [0u8; MAX_REASON];
    loop {
        interrupt::readable(stream.as_fd()).context("listen for the start")?;
        match socket::recv(stream.as_fd().as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            // A reset is reported once, before what is still in the queue (see launch's channel).
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            Ok(0) if about => return Ok(()),
            Ok(0) => {
                bail!("the init process was killed before it could run its program")
            }
            Ok(1) if buffer[0] == ABOUT => about = true,
            Ok(n) => bail!("{}", String::from_utf8_lossy(&buffer[..n])),
            Err(e) => return Err(e).context("listen for the start"),
        }
    }
}
