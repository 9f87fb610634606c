//! Processes whose parent was killed come to the harness, which waits for them at once: a pid namespace ends only when
//! each of its processes has been waited for, and the host's init may take its time.
//!
//! By a process of its own: threads of the one that traces would take news of tracees from each other, as soon as these
//! are orphans that have come to it (wait_consider_task() in kernel/exit.c).

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use std::process::{Command, ExitCode};

/// Set for the process that does the work.
pub const INNER: &str = "AMPOULE_TORTURE_INNER";

/// Whether this process has one above it that waits for orphans; then it dies with that.
pub fn are_waited_for() -> bool {
    let inner = std::env::var_os(INNER).is_some();
    if inner {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("die with the process above");
    }
    inner
}

/// Does all that was asked in another process, and waits for whatever comes meanwhile.
pub fn wait_for_all() -> ExitCode {
    nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
    let program = std::env::current_exe().expect("find this program");
    let inner = Command::new(program).args(std::env::args_os().skip(1)).env(INNER, "1").spawn();
    let inner = inner.expect("start this program again").id() as i32;
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == inner => return ExitCode::from(code as u8),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == inner => {
                eprintln!("torture: ended by {signal}");
                return ExitCode::FAILURE;
            }
            Err(Errno::ECHILD) => unreachable!("the inner process has not been waited for"),
            _ => {}
        }
    }
}
