//! What a container is doing. It is observed, never stored: a stored word would be wrong after a crash.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use ::cgroup::Cgroup;
use anyhow::{Context, Result, bail};
use linux::{kernfs, pidfd};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::store::{Container, Locked};

/// runtime.md#state, and runc's `paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the spec's own names")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    /// Paused while it was created: `paused` outside, and `created` again once it is resumed.
    Held,
    Stopped,
}

impl Status {
    /// As the state document spells it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused | Status::Held => "paused",
            Status::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Verbs that depend on the status; `delete --force` doesn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "runc's own names")]
pub enum Verb {
    Start,
    Exec,
    Pause,
    Resume,
    Update,
    Events,
    Checkpoint,
    Kill,
    KillAll,
    Delete,
}

/// THE table: which verb is allowed in which status. Two things show as a status of their own:
///
/// - a container in a cgroup that is frozen somewhere above is paused, and a resume of it fails;
/// - one whose init has ended is stopped, whatever of it still runs in its cgroup; and so is a half-made one, whose
///   `create` was killed before there was an init.
pub fn allowed(verb: Verb, status: Status) -> bool {
    use Status::{Created, Creating, Held, Paused, Running, Stopped};
    match verb {
        // A paused one would not do it. For exec the caller may insist.
        Verb::Start => status == Created,
        Verb::Exec => matches!(status, Created | Running),
        Verb::Pause => matches!(status, Created | Running),
        Verb::Resume => matches!(status, Paused | Held),
        // A created one has nothing to save but our own program.
        Verb::Checkpoint => matches!(status, Running | Paused),
        Verb::Update | Verb::Events | Verb::Kill => matches!(status, Created | Running | Paused | Held),
        // What an init has left behind, without a pid namespace, can be reached in no other way (runc does the same).
        Verb::KillAll => status != Creating,
        // A created container never ran its program, so nothing is lost (runc does the same).
        Verb::Delete => matches!(status, Stopped | Created | Held),
    }
}

/// The init process: its pid, and the boot-relative time of its start in clock ticks, which no later process with that
/// pid shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "described above")]
pub struct Init {
    pub pid: Pid,
    pub start_time: u64,
}

impl Init {
    /// Reads the start time of a live process.
    pub fn of(pid: Pid) -> Result<Init> {
        let stat = stat(pid)?.with_context(|| format!("process {pid} has ended"))?;
        Ok(Init { pid, start_time: stat.1 })
    }

    /// A handle on the process if it still runs: not ended, not a zombie, not a later process with the same pid.
    ///
    /// # Errors
    /// It can't be told.
    pub fn alive(self) -> Result<Option<OwnedFd>> {
        let fd = match pidfd::open(self.pid) {
            Ok(fd) => fd,
            // The id of a thread now, and so not the init's pid any more: EINVAL, and since Linux 6.16 ENOENT.
            Err(Errno::ESRCH | Errno::EINVAL | Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("pidfd_open {}", self.pid)),
        };
        // The descriptor came first, so what is read now is about the process that it refers to, or about nobody.
        match stat(self.pid)? {
            Some((state, start_time)) => {
                Ok((start_time == self.start_time && !matches!(state, b'Z' | b'X')).then_some(fd))
            }
            None if pidfd::has_ended(&fd).context("poll a pidfd")? => Ok(None),
            None => bail!("process {} is not in /proc: is that mounted?", self.pid),
        }
    }
}

/// State letter and start time: fields 3 and 22 of proc_pid_stat(5). None: there is no such process.
fn stat(pid: Pid) -> Result<Option<(u8, u64)>> {
    let path = format!("/proc/{pid}/stat");
    let text = match kernfs::read(Path::new(&path)) {
        Ok(text) => text,
        // It was reaped before the file was opened, or before it was read.
        Err(Errno::ENOENT | Errno::ESRCH) => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("read {path}")),
    };
    let parse = || {
        // The name, field 2, may hold anything, parentheses and spaces too, but nothing after it does.
        let mut fields = text.rsplit_once(") ")?.1.split(' ');
        Some((fields.next()?.bytes().next()?, fields.nth(18)?.parse().ok()?))
    };
    parse().map(Some).with_context(|| format!("{path}: {text:?} tells no state"))
}

/// A status and, unless it is stopped or being made, the process that it was seen from.
pub struct Observed {
    /// What the container was doing a moment ago.
    pub status: Status,
    /// Its init, if it runs.
    pub init: Option<(Pid, OwnedFd)>,
}

impl Observed {
    /// The init's pid, or 0 as the state document wants it.
    pub fn pid(&self) -> i32 {
        self.init.as_ref().map_or(0, |(pid, _)| pid.as_raw())
    }
}

/// Looks at the container.
///
/// # Errors
/// Its files can't be read.
pub fn observe(container: &Container) -> Result<Observed> {
    look(container, || container.is_locked())
}

/// The same while we are changing it, so that nobody else makes it any more.
///
/// # Errors
/// As those of [`observe`].
pub fn observe_locked(locked: &Locked) -> Result<Observed> {
    look(&locked.container, || Ok(false))
}

fn look(container: &Container, is_being_made: impl Fn() -> Result<bool>) -> Result<Observed> {
    let gone = |status| Ok(Observed { status, init: None });
    let Some(init) = container.init()? else {
        // The runtime that makes a container holds its lock: when nobody does, that runtime is gone.
        return gone(if is_being_made()? { Status::Creating } else { Status::Stopped });
    };
    let Some(fd) = init.alive()? else { return gone(Status::Stopped) };
    let status = if container.has_unready_gate()? {
        // When nobody holds the lock, the runtime is gone: the new process is about to notice, or was let through just before.
        if is_being_made()? { Status::Creating } else { Status::Running }
    } else {
        match (container.gate_is_shut()?, is_frozen(container)?) {
            (true, false) => Status::Created,
            (true, true) => Status::Held,
            (false, true) => Status::Paused,
            (false, false) => Status::Running,
        }
    };
    Ok(Observed { status, init: Some((init.pid, fd)) })
}

/// Without a record nobody has paused it: the runtime was killed before it made a cgroup.
fn is_frozen(container: &Container) -> Result<bool> {
    container.read_record()?.map_or(Ok(false), |record| Cgroup::new(record.cgroups).is_frozen())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_of_this_process_reads_back() {
        let init = Init::of(nix::unistd::getpid()).unwrap();
        assert!(init.start_time > 0);
        assert!(init.alive().unwrap().is_some());
        assert!(Init { start_time: init.start_time + 1, ..init }.alive().unwrap().is_none());
    }

    #[test]
    fn a_thread_that_has_got_the_pid_is_not_the_init() {
        let is_refused = || Init { pid: nix::unistd::gettid(), start_time: 1 }.alive().unwrap().is_none();
        assert!(std::thread::spawn(is_refused).join().unwrap());
    }
}
