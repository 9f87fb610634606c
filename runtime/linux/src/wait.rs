//! Children that have ended, waitid(2). nix's waits give EINVAL for a death by a real-time signal, after they have reaped.

use nix::errno::Errno;
use nix::unistd::Pid;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its pid, which is free now.
    pub pid: Pid,
    /// Its exit code, or 128 and the signal that killed it.
    pub status: u8,
}

/// Takes the end of a child, of any or of one, if there is one to take. None: it runs, or all do.
///
/// # Errors
/// ECHILD: there is no such child.
pub fn reap(pid: Option<Pid>) -> Result<Option<Ended>, Errno> {
    let (kind, id) = pid.map_or((libc::P_ALL, 0), |pid| (libc::P_PID, pid.as_raw() as libc::id_t));
    loop {
        // SAFETY: siginfo_t is plain data, for which zero is a value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: waitid(2) writes to `info` only, which outlives the call.
        match Errno::result(unsafe { libc::waitid(kind, id, &mut info, libc::WEXITED | libc::WNOHANG) }) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        // SAFETY: waitid(2) fills these fields, or leaves the zeros when no child has ended.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        let status = if info.si_code == libc::CLD_EXITED { status } else { 128 + status };
        return Ok(Some(Ended { pid: Pid::from_raw(pid), status: status as u8 }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    #[allow(clippy::zombie_processes, reason = "waiting for them is what is tested")]
    fn a_death_by_a_real_time_signal_is_a_status_like_any_other() {
        for (script, status) in [("kill -34 $$", 162), ("kill -TERM $$", 143), ("exit 7", 7)] {
            let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let pid = Pid::from_raw(child.id() as i32);
            let ended = loop {
                match reap(Some(pid)).unwrap() {
                    Some(ended) => break ended,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(ended, Ended { pid, status });
            assert_eq!(reap(Some(pid)), Err(Errno::ECHILD));
        }
    }
}
