//! Init mode: one command, every signal passed on to it, every orphan reaped, its exit code ours.

use crate::execute::{self, Before};
use crate::message::{Level, Speaker};
use crate::reap;
use crate::sys::{self, EINTR, Received, Start, Text};
use ampoule_pause::options::Options;
use ampoule_pause::signals::{self, Set, Signal};

/// Runs the command to its end; returns pause's exit code.
pub fn run(start: Start, options: &Options, speaker: Speaker, blocked_before: Set) -> u8 {
    prepare(options, &speaker);
    // Ignored, it would throw exit codes away.
    let chld_ignored = sys::default_action(signals::CHLD) == Ok(1);
    let before = Before { blocked: blocked_before, chld_ignored, group: sys::group() };
    let command = match sys::fork() {
        Ok(0) => return execute::become_command(start, options.word, &before, &speaker),
        Ok(pid) => pid,
        Err(errno) => {
            speaker.count(Level::Fatal, Text::of(c"fork: error "), errno as u32);
            return 1;
        }
    };
    // The child does it too: whoever comes first, a signal to the group finds it.
    let _ = sys::lead_group(command);
    speaker.count(Level::Info, Text::of(c"Spawned pid "), command as u32);
    start.forget();
    let_go(options);
    Init { options, speaker, command, code: None, phase: Phase::Running }.serve()
}

/// Sees to it that orphans come here, and that the parent's end is noticed.
fn prepare(options: &Options, speaker: &Speaker) {
    if options.parent_death > 0 {
        sys::set_parent_death(options.parent_death);
    }
    if sys::pid() == 1 {
        return;
    }
    // What --grace ends are the children of a subreaper: nobody else's processes.
    if options.subreaper || options.grace.is_some() {
        sys::become_subreaper();
    }
    if !sys::is_subreaper() {
        speaker.say(Level::Warn, Text::of(c"not PID 1: orphans are not reaped here without -s"), b"");
    }
}

/// Lets go of the working directory and of every descriptor: pause pins no mount and holds no pipe open. Only what
/// it was asked to say later needs stderr.
fn let_go(options: &Options) {
    sys::leave_directory();
    let speaks = options.warn || options.verbosity >= Level::Info as u32;
    sys::close(0, if speaks { 1 } else { usize::MAX });
    if speaks {
        sys::close(3, usize::MAX);
    }
}

const ALL_BUT_CHLD: Set = Set::ALL.without(Set::of(&[signals::CHLD]));

/// How far it has come.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// The command runs.
    Running,
    /// The command has ended; the rest got TERM, and has until the alarm.
    Ending,
    /// The time is up.
    Killing,
}

struct Init<'a> {
    options: &'a Options,
    speaker: Speaker<'a>,
    /// The command's pid.
    command: i32,
    /// The command's exit code, once it has ended.
    code: Option<u8>,
    phase: Phase,
}

impl Init<'_> {
    /// The one loop: forward, reap, wait.
    fn serve(mut self) -> u8 {
        let mut received = Received::new();
        loop {
            // The lowest number comes first. SIGCHLD, as frequent as orphans are, would keep those above it waiting.
            while let Ok(signal) = sys::take_signal(ALL_BUT_CHLD, false, Some(&mut received)) {
                self.handle(signal, &received);
            }
            let any_left = reap::all(|pid, status| self.reaped(pid, status));
            if let Some(code) = self.code {
                match self.options.grace {
                    Some(seconds) if any_left => self.end_the_rest(seconds),
                    _ => return code,
                }
            }
            match sys::take_signal(Set::ALL, true, Some(&mut received)) {
                Ok(signal) => self.handle(signal, &received),
                Err(EINTR) => {}
                Err(errno) => {
                    self.speaker.count(Level::Fatal, Text::of(c"wait: error "), errno as u32);
                    return 1;
                }
            }
        }
    }

    fn handle(&mut self, signal: Signal, received: &Received) {
        let of_the_kernel = received.code > 0;
        match signal {
            // The loop reaps anyway.
            signals::CHLD => {}
            signals::ALRM if of_the_kernel && self.phase == Phase::Ending => self.phase = Phase::Killing,
            // Meant for pause: it used a terminal that it had given away.
            signals::TTIN | signals::TTOU if of_the_kernel => {}
            // SIGPIPE: nobody reads what pause says.
            _ if !of_the_kernel && received.sender == sys::pid() => {}
            _ => {
                self.speaker.count(Level::Debug, Text::of(c"Signal "), signal as u32);
                self.forward(signal, received);
            }
        }
    }

    fn forward(&self, signal: Signal, received: &Received) {
        if self.code.is_some() {
            self.signal_the_rest(signal);
        } else if self.options.group {
            let _ = sys::kill(-self.command, signal);
        } else if received.code != Received::QUEUED || sys::queue(self.command, signal, received).is_err() {
            let _ = sys::kill(self.command, signal);
        }
    }

    fn reaped(&mut self, pid: i32, status: u32) {
        if pid == self.command {
            let code = reap::exit_code(status);
            self.speaker.count(Level::Info, Text::of(c"Main child ended: "), code.into());
            self.code = Some(self.options.exit_code(code));
        } else {
            let level = if self.options.warn { Level::Warn } else { Level::Debug };
            self.speaker.count(level, Text::of(c"Reaped zombie process with pid="), pid as u32);
        }
    }

    /// TERM, then KILL until none is left: when a process ends, its children come to light.
    fn end_the_rest(&mut self, seconds: u32) {
        if self.phase == Phase::Running {
            self.signal_the_rest(signals::TERM);
            self.phase = if seconds > 0 { Phase::Ending } else { Phase::Killing };
            sys::alarm(seconds);
        }
        if self.phase == Phase::Killing {
            self.signal_the_rest(signals::KILL);
        }
    }

    /// Signals all that is left: as PID 1 the whole namespace, elsewhere the own children. None of them can have made
    /// room for another process of the same pid: they are taken here only.
    fn signal_the_rest(&self, signal: Signal) {
        if sys::pid() == 1 {
            let _ = sys::kill(-1, signal);
        } else if let Ok(children) = sys::open(Text::of(c"/proc/thread-self/children")) {
            let mut room = [0; 64];
            let mut pid = 0i32;
            loop {
                let read = sys::read(children, &mut room);
                if read.is_empty() {
                    break;
                }
                for byte in read {
                    if *byte == b' ' {
                        let _ = sys::kill(pid, signal);
                        pid = 0;
                    } else {
                        pid = pid.wrapping_mul(10).wrapping_add(i32::from(byte.wrapping_sub(b'0')));
                    }
                }
            }
            sys::close(children as usize, children as usize);
        }
    }
}
