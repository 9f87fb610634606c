//! A program that is traced up to one of its system calls, which is then killed or fails.
//!
//! One process is traced at a time: the runtime, or the one that it clones, or one that was there before. Everything else
//! runs free.

mod attached;

use crate::registers;
use crate::sys;
use crate::syscalls;
use crate::time_limit::TimeLimit;
use nix::errno::Errno;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::process::Command;
use std::time::{Duration, Instant};

pub use attached::attached;

/// Which process is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The program that is started.
    Itself,
    /// What it forks, up to that one's exec.
    Child,
    /// A process that is there already, up to its exec.
    Other(Pid),
}

/// What happens at the system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Nothing: all of them are counted.
    Count,
    /// SIGKILL just before call number N, from 1; or when others had time to go as far as they get without it.
    Kill(usize, Pace),
    /// Call number N gives this error.
    Fail(usize, Errno),
}

/// Who is ahead when a process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// It is killed at once.
    AtOnce,
    /// It is held for a moment before.
    Held,
}

/// Longer than a new process needs to everything that it does alone.
const MOMENT: Duration = Duration::from_millis(15);

impl Act {
    /// Whether the call may come to this: two runs may differ by a call.
    fn suits(self, number: i64) -> bool {
        match self {
            Act::Fail(_, errno) => syscalls::errors(number).contains(&errno),
            _ => true,
        }
    }

    fn call(self) -> usize {
        match self {
            Act::Count => usize::MAX,
            Act::Kill(call, _) | Act::Fail(call, _) => call,
        }
    }
}

/// How it went.
#[derive(Debug, Default)]
pub struct Trace {
    /// The program's exit code, 128 + signal when one ended it.
    pub code: i32,
    /// The numbers of the system calls, in their order, up to the one that was meant.
    pub calls: Vec<i64>,
    /// Whether that one came.
    pub reached: bool,
    /// It didn't end in time, and was killed.
    pub hung: bool,
}

/// What the tracing of one call needs to know.
struct Tracer {
    program: Pid,
    tracee: Option<Pid>,
    target: Target,
    act: Act,
    trace: Trace,
    /// A child whose first stop was reported before its clone was.
    early: Option<Pid>,
    /// Between a call's entry and its exit: ptrace(2) tells them by their turns only.
    inside: bool,
    /// The exit code, once it has one.
    code: Option<i32>,
}

/// Starts a program, plays the act, and waits for the program's end.
pub fn run(mut command: Command, target: Target, act: Act) -> Trace {
    if target == Target::Itself || target == Target::Child {
        sys::traced(&mut command);
    }
    // Before the program starts: it would be through with the other before that is held.
    let tracee = match target {
        Target::Other(pid) => Some(hold(pid).unwrap_or_else(|errno| panic!("trace {pid}: {errno}"))),
        _ => None,
    };
    #[expect(clippy::zombie_processes, reason = "the tracer waits for it, by its pid")]
    let program = command.spawn().unwrap_or_else(|e| panic!("start {:?}: {e}", command.get_program()));
    let program = Pid::from_raw(program.id() as i32);
    // Its copies of the streams would keep them open.
    drop(command);
    let mut tracer = Tracer {
        program,
        tracee,
        target,
        act,
        trace: Trace::default(),
        early: None,
        inside: false,
        code: None,
    };
    let limit = TimeLimit::start(program);
    if let Err(errno) = tracer.begin().and_then(|()| tracer.go_on()) {
        // A tracee that was killed is gone between two requests; its end is still to be heard.
        assert_eq!(errno, Errno::ESRCH, "trace {program}");
        tracer.go_on_untraced();
    }
    tracer.let_go();
    tracer.trace.hung = limit.expired();
    tracer.trace.code = tracer.code.unwrap_or(-1);
    tracer.trace
}

/// Nobody outlives a harness that dies.
const OPTIONS: Options =
    Options::PTRACE_O_TRACESYSGOOD.union(Options::PTRACE_O_EXITKILL).union(Options::PTRACE_O_TRACEEXEC);

fn hold(pid: Pid) -> Result<Pid, Errno> {
    ptrace::attach(pid)?;
    waitpid(pid, Some(WaitPidFlag::__WALL))?;
    ptrace::setoptions(pid, OPTIONS)?;
    ptrace::syscall(pid, None)?;
    Ok(pid)
}

impl Tracer {
    /// Takes hold of the process that is meant, or of the program on its way to forking that.
    fn begin(&mut self) -> Result<(), Errno> {
        match self.target {
            Target::Other(_) => Ok(()),
            Target::Itself => {
                waitpid(self.program, Some(WaitPidFlag::__WALL))?;
                ptrace::setoptions(self.program, OPTIONS)?;
                self.tracee = Some(self.program);
                ptrace::syscall(self.program, None)
            }
            Target::Child => {
                waitpid(self.program, Some(WaitPidFlag::__WALL))?;
                // A hook is vforked, the init is cloned with SIGCHLD, which is a fork to ptrace(2).
                ptrace::setoptions(self.program, OPTIONS | Options::PTRACE_O_TRACEFORK)?;
                self.tracee = Some(self.program);
                ptrace::cont(self.program, None)
            }
        }
    }

    /// Plays on until the program has ended.
    fn go_on(&mut self) -> Result<(), Errno> {
        while self.code.is_none() {
            let status = wait()?;
            if !self.has_ended(status) {
                match status.pid() {
                    Some(pid) if Some(pid) == self.tracee => self.stopped(pid, status)?,
                    stranger => self.early = stranger,
                }
            }
        }
        Ok(())
    }

    fn go_on_untraced(&mut self) {
        while self.code.is_none() {
            match wait() {
                Ok(status) => _ = self.has_ended(status),
                Err(errno) => panic!("wait for {}: {errno}", self.program),
            }
        }
    }

    /// Notes the end of the program or of the tracee.
    fn has_ended(&mut self, status: WaitStatus) -> bool {
        let (pid, code) = match status {
            WaitStatus::Exited(pid, code) => (pid, code),
            WaitStatus::Signaled(pid, signal, _) => (pid, 128 + signal as i32),
            _ => return false,
        };
        if Some(pid) == self.tracee {
            self.tracee = None;
        }
        if pid == self.program {
            self.code = Some(code);
        }
        true
    }

    fn stopped(&mut self, pid: Pid, status: WaitStatus) -> Result<(), Errno> {
        let waits_for_fork = self.target == Target::Child && pid == self.program;
        match status {
            WaitStatus::PtraceSyscall(_) => self.at_call(pid),
            WaitStatus::PtraceEvent(_, _, event) if event == Event::PTRACE_EVENT_FORK as i32 => {
                let child = Pid::from_raw(ptrace::getevent(pid)? as i32);
                ptrace::detach(pid, None)?;
                self.tracee = Some(child);
                if self.early != Some(child) {
                    waitpid(child, Some(WaitPidFlag::__WALL))?;
                }
                ptrace::setoptions(child, OPTIONS)?;
                ptrace::syscall(child, None)
            }
            // The program executes its sealed copy; all others, what they were made for.
            WaitStatus::PtraceEvent(..) if pid != self.program => {
                self.tracee = None;
                ptrace::detach(pid, None)
            }
            WaitStatus::PtraceEvent(..) if waits_for_fork => ptrace::cont(pid, None),
            WaitStatus::Stopped(_, signal) if waits_for_fork => ptrace::cont(pid, signal),
            WaitStatus::Stopped(_, signal) => ptrace::syscall(pid, signal),
            _ => ptrace::syscall(pid, None),
        }
    }

    /// At a call's entry or exit.
    fn at_call(&mut self, pid: Pid) -> Result<(), Errno> {
        self.inside = !self.inside;
        if !self.inside {
            return ptrace::syscall(pid, None);
        }
        let number = registers::call(pid)?;
        self.trace.calls.push(number);
        if self.trace.calls.len() != self.act.call() || !self.act.suits(number) {
            return ptrace::syscall(pid, None);
        }
        self.trace.reached = true;
        let Act::Fail(_, errno) = self.act else {
            if matches!(self.act, Act::Kill(_, Pace::Held)) {
                std::thread::sleep(MOMENT);
            }
            return kill(pid, Signal::SIGKILL);
        };
        if !syscalls::is_done_anyway(number) {
            registers::skip_call(pid)?;
        }
        ptrace::syscall(pid, None)?;
        self.give(pid, errno)
    }

    /// Waits for the call's exit, has it give the error, and lets go.
    fn give(&mut self, pid: Pid, errno: Errno) -> Result<(), Errno> {
        loop {
            let status = wait()?;
            if self.has_ended(status) {
                if self.tracee.is_none() || self.code.is_some() {
                    return Ok(());
                }
            } else if let WaitStatus::PtraceSyscall(_) = status {
                registers::give(pid, errno)?;
                self.tracee = None;
                return ptrace::detach(pid, None);
            } else {
                ptrace::syscall(pid, None)?;
            }
        }
    }

    /// Detaches from a tracee that outlives the program: only what stands still can be let go.
    fn let_go(&mut self) {
        let Some(pid) = self.tracee.take() else { return };
        let _ = kill(pid, Signal::SIGSTOP);
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            match waitpid(pid, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_micros(100)),
                Ok(WaitStatus::Stopped(_, Signal::SIGSTOP)) => {
                    let _ = ptrace::detach(pid, None);
                    return;
                }
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(_) => return,
                Ok(WaitStatus::Stopped(_, signal)) => _ = ptrace::cont(pid, signal),
                Ok(_) => _ = ptrace::cont(pid, None),
            }
        }
    }
}

/// The next news of this thread's own children and tracees: other threads have theirs.
fn wait() -> Result<WaitStatus, Errno> {
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Err(Errno::EINTR) => {}
            // A real-time signal, which nix has no name for, ended somebody.
            Err(Errno::EINVAL) => {}
            other => return other,
        }
    }
}
