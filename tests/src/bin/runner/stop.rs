//! Stopping a run early, at Ctrl-C or when make was killed: tests that run still come to their end, so that they clean up.

use ampoule_tests::field;
use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use std::sync::atomic::{AtomicBool, Ordering};

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Whether no more tests are to be begun.
pub(crate) fn is_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// Watches for signals that ask for an end, unless the caller ignores them, as nohup does. At the first it calls
/// `at_first`; the second ends this process at once, and with it whatever it has started. To be called before there are other threads.
pub(crate) fn watch(at_first: impl FnOnce() + Send + 'static) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let ignored =
        u64::from_str_radix(&field(&status, "SigIgn"), 16).context("SigIgn in /proc/self/status")?;
    let asking = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter();
    let signals: SigSet = asking.filter(|one| ignored & 1 << (*one as i32 - 1) == 0).collect();
    signals.thread_block()?;
    std::thread::spawn(move || {
        let _ = signals.wait();
        STOPPED.store(true, Ordering::Relaxed);
        at_first();
        let _ = signals.wait();
        std::process::exit(130);
    });
    Ok(())
}
