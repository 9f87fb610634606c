//! SIGTERM, SIGINT and SIGHUP end a wait with an error, so that whoever waits removes what it has made.
//!
//! Once [`arm`] was called they are blocked, and let in only while one of the waits here waits (ppoll(2)): none comes between
//! a look and a wait, and none is lost to who reads them from a descriptor later. Where it was not called, they do what
//! they always do, which is right for a verb that leaves nothing.
//!
//! SIGXFSZ ends no verb at all, see [`outlive_file_limit`].

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};

const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

static ARMED: AtomicBool = AtomicBool::new(false);
/// The last that came, and whether a wait has still to be ended by it.
static LAST: AtomicI32 = AtomicI32::new(0);
static DUE: AtomicBool = AtomicBool::new(false);

extern "C" fn take(signal: libc::c_int) {
    LAST.store(signal, Ordering::Relaxed);
    DUE.store(true, Ordering::Relaxed);
}

/// Whether SIGXFSZ is blocked by us, and was not by the caller.
static OUTLIVES: AtomicBool = AtomicBool::new(false);

/// A write beyond RLIMIT_FSIZE fails with EFBIG from now on, and doesn't end the process besides (setrlimit(2)): whoever
/// writes says so, and removes what is half made. Blocked and not ignored, for a mask is given back to the payload in any
/// case.
///
/// # Errors
/// Those of sigprocmask(2).
pub fn outlive_file_limit() -> Result<(), Errno> {
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&Signal::SIGXFSZ.into()), Some(&mut before))?;
    OUTLIVES.store(!before.contains(Signal::SIGXFSZ), Ordering::Relaxed);
    Ok(())
}

/// Blocks the three from now on, and returns the mask as the caller had it. One that is ignored, as by nohup(1), stays so.
///
/// # Errors
/// Those of sigaction(2) and sigprocmask(2).
pub fn arm() -> Result<SigSet, Errno> {
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ENDING.into_iter().collect()), Some(&mut before))?;
    let handler = SigAction::new(SigHandler::Handler(take), SaFlags::empty(), SigSet::empty());
    for signal in ENDING {
        // SAFETY: the handler stores to atomics and does nothing else.
        let old = unsafe { sigaction(signal, &handler) }?;
        if matches!(old.handler(), SigHandler::SigIgn) {
            // SAFETY: what was there before, which is no code of ours.
            unsafe { sigaction(signal, &old) }?;
        }
    }
    ARMED.store(true, Ordering::Relaxed);
    if OUTLIVES.load(Ordering::Relaxed) {
        before.remove(Signal::SIGXFSZ);
    }
    Ok(before)
}

/// In a new process, whose handlers are not ours: the signals are left to its program.
pub fn disarm() {
    ARMED.store(false, Ordering::Relaxed);
}

/// While it lives they end no wait: what is being removed is removed to its end, which is not far. One that comes in this
/// time asks for no more than what is done, and ends no later wait either.
pub struct Held(bool);

/// Holds them back.
pub fn hold() -> Held {
    Held(ARMED.swap(false, Ordering::Relaxed))
}

impl Drop for Held {
    fn drop(&mut self) {
        ARMED.store(self.0, Ordering::Relaxed);
        if self.0 {
            let last = LAST.load(Ordering::Relaxed);
            // Lets in what waits outside; that it has come is the only answer there is.
            let _ = sleep(Duration::ZERO);
            LAST.store(last, Ordering::Relaxed);
        }
    }
}

/// The signal that has ended a wait.
pub fn taken() -> Option<Signal> {
    Signal::try_from(LAST.load(Ordering::Relaxed)).ok()
}

/// Waits until one of them is ready, or the time is over: how many are ready.
///
/// # Errors
/// EINTR: one of the three came. The others of poll(2).
pub fn poll(fds: &mut [PollFd<'_>], patience: Option<Duration>) -> Result<usize, Errno> {
    let end = patience.map(|patience| Instant::now() + patience);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()).into());
        let mask = if ARMED.load(Ordering::Relaxed) { Some(open_mask()?) } else { None };
        match ppoll(fds, left, mask) {
            Err(Errno::EINTR) if !DUE.swap(false, Ordering::Relaxed) => {}
            answer => return answer.map(|ready| ready as usize),
        }
    }
}

/// Waits until there is something to read, or the end of it. Not armed it leaves that to the read: a filter may be in
/// force that knows no ppoll(2).
///
/// # Errors
/// As those of [`poll`].
pub fn readable(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    if ARMED.load(Ordering::Relaxed) {
        poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], None)?;
    }
    Ok(())
}

/// Writes a report to whom nobody may listen, all of it. Each time it waits until there is room, and then writes no more than
/// a pipe that is ready takes without waiting.
///
/// # Errors
/// As those of [`poll`], and of write(2). Whoever was to end once already waits for a second and no longer: EAGAIN.
pub fn write(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    // What is open for reading only would never be ready, and says so at once.
    if OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE == OFlag::O_RDONLY {
        return Err(Errno::EBADF);
    }
    while !bytes.is_empty() {
        let patience = taken().map(|_| Duration::from_secs(1));
        if poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], patience)? == 0 {
            return Err(Errno::EAGAIN);
        }
        match nix::unistd::write(fd, &bytes[..bytes.len().min(libc::PIPE_BUF)]) {
            Ok(n) => bytes = &bytes[n..],
            // Not blocking, and another has filled it.
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Sleeps.
///
/// # Errors
/// As those of [`poll`].
pub fn sleep(time: Duration) -> Result<(), Errno> {
    poll(&mut [], Some(time)).map(drop)
}

/// The mask as it is, but for the three.
fn open_mask() -> Result<SigSet, Errno> {
    let mut mask = SigSet::thread_get_mask()?;
    ENDING.iter().for_each(|signal| mask.remove(*signal));
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    #[test]
    fn a_report_longer_than_a_pipe_is_written_as_it_is_read() {
        let (read, pipe) = nix::unistd::pipe().unwrap();
        let text: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let reader = std::thread::spawn(|| {
            let mut all = Vec::new();
            File::from(read).read_to_end(&mut all).map(|_| all)
        });
        write(pipe.as_fd(), &text).unwrap();
        drop(pipe);
        assert!(reader.join().unwrap().unwrap() == text);
    }

    #[test]
    fn nobody_waits_to_write_where_nothing_is_ever_taken() {
        let (read, pipe) = nix::unistd::pipe().unwrap();
        assert_eq!(write(read.as_fd(), b"x"), Err(Errno::EBADF));
        drop(read);
        assert_eq!(write(pipe.as_fd(), b"x"), Err(Errno::EPIPE));
    }
}
