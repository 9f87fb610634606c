//! Tracing a process that runs already, such as the shim, while a call of a client's has it work.

use super::{Act, Target, Trace, Tracer, hold, wait};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

/// Traces a process that is there while something else is done, which has it make its calls.
pub fn attached<T>(pid: Pid, act: Act, work: impl FnOnce() -> T) -> (Trace, T) {
    let (held, is_held) = mpsc::channel();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let tracer = scope.spawn(|| {
            let tracee = hold(pid).unwrap_or_else(|errno| panic!("trace {pid}: {errno}"));
            held.send(()).expect("somebody waits for it");
            // It is nobody's program here, so it has no exit code: its end is that of the tracee.
            let mut tracer = Tracer {
                program: pid,
                tracee: Some(tracee),
                target: Target::Other(pid),
                act,
                trace: Trace::default(),
                early: None,
                inside: false,
                code: None,
            };
            let _ = tracer.until(&is_over);
            tracer.let_go();
            tracer.trace
        });
        is_held.recv().expect("a tracer that holds it");
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        // News, for a tracer that waits for some.
        let _ = kill(pid, Signal::SIGCONT);
        (tracer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), done)
    })
}

impl Tracer {
    /// Plays on until the tracee has ended, or it is all over.
    fn until(&mut self, is_over: &AtomicBool) -> Result<(), Errno> {
        while self.tracee.is_some() {
            let status = wait()?;
            let is_over = is_over.load(Ordering::Relaxed);
            if !self.has_ended(status) {
                match status {
                    WaitStatus::Stopped(pid, _) if is_over => {
                        self.tracee = None;
                        ptrace::detach(pid, None)?;
                    }
                    _ => self.stopped(self.program, status)?,
                }
            }
        }
        Ok(())
    }
}
