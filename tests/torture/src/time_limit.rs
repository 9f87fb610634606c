//! A time limit for a traced program, which may never end by itself.

use ampoule_tests::patience;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

/// The limit of one program, which is killed when it is reached.
pub struct TimeLimit {
    done: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    expired: Arc<AtomicBool>,
}

impl TimeLimit {
    /// Gives a program as long as anything may take (`patience`), from now on.
    pub fn start(program: Pid) -> Self {
        let (done, wait) = mpsc::channel::<()>();
        let expired = Arc::new(AtomicBool::new(false));
        let flag = expired.clone();
        let thread = std::thread::spawn(move || {
            if wait.recv_timeout(patience()) == Err(mpsc::RecvTimeoutError::Timeout) {
                flag.store(true, Ordering::Relaxed);
                let _ = kill(program, Signal::SIGKILL);
            }
        });
        Self { done: Some(done), thread: Some(thread), expired }
    }

    /// Takes the limit away; whether it was reached.
    pub fn expired(mut self) -> bool {
        drop(self.done.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
        self.expired.load(Ordering::Relaxed)
    }
}
