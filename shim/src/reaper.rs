//! The only code that waits for children: runtimes at work, the containers' processes that they leave to us, loggers,
//! and orphans, since the shim is their subreaper.
//!
//! A process that is ours can't lose its exit: until it is waited for, it stays, and so does its pid.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anyhow::{Context, Result};
use linux::wait::{self, Ended};
use nix::errno::Errno;
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::log;

/// The status of a process that was killed: 128 and SIGKILL.
pub const KILLED: u32 = 137;

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, or 128 and the signal.
    pub status: u32,
    pub at: SystemTime,
}

impl Exit {
    /// Of a process that was never started.
    pub const NEVER_RAN: Exit = Exit { status: 255, at: SystemTime::UNIX_EPOCH };

    fn now(ended: Ended) -> Exit {
        Exit { status: ended.status.into(), at: SystemTime::now() }
    }
}

/// A child that is waited for.
pub struct Child {
    pub pid: i32,
    end: oneshot::Receiver<Exit>,
}

impl Child {
    /// Waits for its end.
    pub async fn end(self) -> Exit {
        // The reaper lives as long as the shim.
        self.end.await.unwrap_or(Exit { status: 255, at: SystemTime::now() })
    }
}

#[derive(Default)]
struct Table {
    waiting: HashMap<i32, oneshot::Sender<Exit>>,
    /// Calls of runtimes that may leave us a process whose pid isn't known yet.
    expecting: usize,
    /// Children nobody waits for that ended during such a call.
    early: HashMap<i32, Exit>,
}

/// The table of children.
#[derive(Default)]
pub struct Reaper(Mutex<Table>);

/// While it lives, the end of a child that nobody knows yet is remembered.
pub struct Expecting(Arc<Reaper>);

impl Drop for Expecting {
    fn drop(&mut self) {
        let mut table = self.0.table();
        table.expecting -= 1;
        if table.expecting == 0 {
            table.early = HashMap::new();
        }
    }
}

impl Reaper {
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        // Whoever panics ends the program.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Reaps from now on, for ever.
    ///
    /// # Errors
    /// The kernel refuses to deliver SIGCHLD.
    pub fn start() -> Result<Arc<Reaper>> {
        let reaper = Arc::new(Reaper::default());
        let mut signals = signal(SignalKind::child()).context("listen for SIGCHLD")?;
        let ours = reaper.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                ours.sweep();
            }
        });
        Ok(reaper)
    }

    /// One signal may stand for many children.
    fn sweep(&self) {
        loop {
            let ended = match wait::reap(None) {
                Ok(Some(ended)) => ended,
                Ok(None) | Err(Errno::ECHILD) => return,
                Err(e) => return log::warning(format_args!("wait for children: {e}")),
            };
            let (pid, exit) = (ended.pid.as_raw(), Exit::now(ended));
            let mut table = self.table();
            if let Some(waiting) = table.waiting.remove(&pid) {
                // Whoever waited may have given up.
                let _ = waiting.send(exit);
            } else if table.expecting > 0 {
                table.early.insert(pid, exit);
            }
        }
    }

    /// Starts a program. (Its end can't be missed: reaping is this same thread's work.)
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let pid = command.spawn()?.id() as i32;
        Ok(self.watch(pid))
    }

    /// Announces a call that may leave us a process.
    pub fn expect(self: &Arc<Self>) -> Expecting {
        self.table().expecting += 1;
        Expecting(self.clone())
    }

    /// Waits for a process that a runtime left to us.
    ///
    /// # Errors
    /// It is no child of ours, and none that ended during the call.
    pub fn adopt(&self, pid: i32, _: &Expecting) -> Result<Child> {
        // Its pid could have been an orphan's before; then a living child has it now.
        match wait::reap(Some(Pid::from_raw(pid))) {
            Ok(None) => Ok(self.watch(pid)),
            Ok(Some(ended)) => Ok(ended_child(pid, Exit::now(ended))),
            Err(Errno::ECHILD) => {
                let early = self.table().early.remove(&pid);
                let exit = early.with_context(|| format!("process {pid} is no child of the shim"))?;
                Ok(ended_child(pid, exit))
            }
            Err(e) => Err(e).with_context(|| format!("wait for process {pid}")),
        }
    }

    fn watch(&self, pid: i32) -> Child {
        let (sender, end) = oneshot::channel();
        self.table().waiting.insert(pid, sender);
        Child { pid, end }
    }
}

fn ended_child(pid: i32, exit: Exit) -> Child {
    let (sender, end) = oneshot::channel();
    // The receiver is at hand.
    let _ = sender.send(exit);
    Child { pid, end }
}
