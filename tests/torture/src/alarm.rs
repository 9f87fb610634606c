//! An end for a program that has none.

use ampoule_tests::patience;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

/// Kills a program that doesn't end in time.
pub struct Alarm {
    done: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    rang: Arc<AtomicBool>,
}

impl Alarm {
    /// From now on it has the usual patience.
    pub fn set(program: Pid) -> Self {
        let (done, wait) = mpsc::channel::<()>();
        let rang = Arc::new(AtomicBool::new(false));
        let flag = rang.clone();
        let thread = std::thread::spawn(move || {
            if wait.recv_timeout(patience()) == Err(mpsc::RecvTimeoutError::Timeout) {
                flag.store(true, Ordering::Relaxed);
                let _ = kill(program, Signal::SIGKILL);
            }
        });
        Self { done: Some(done), thread: Some(thread), rang }
    }

    /// Unsets it; whether it was needed.
    pub fn rang(mut self) -> bool {
        drop(self.done.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
        self.rang.load(Ordering::Relaxed)
    }
}
