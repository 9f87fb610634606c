//! An end before the end: Ctrl-C, or a make that was killed. Tests that run go on to theirs, so that they can clean up.

use nix::sys::signal::{SigSet, Signal};
use std::sync::atomic::{AtomicBool, Ordering};

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Whether no more tests are to be begun.
pub(crate) fn is_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// Watches for signals that ask for an end, and calls `told` at the first. To be called before there are other threads.
pub(crate) fn watch(told: impl FnOnce() + Send + 'static) -> nix::Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block()?;
    std::thread::spawn(move || {
        let _ = signals.wait();
        STOPPED.store(true, Ordering::Relaxed);
        told();
    });
    Ok(())
}
