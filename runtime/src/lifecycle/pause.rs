//! running → paused, and back.

use ::cgroup::Cgroup;
use anyhow::{Result, bail};

use crate::container::status::{Verb, allowed, observe_locked};
use crate::container::store::Locked;

/// Stops every process of the container, and returns when they have stopped.
///
/// # Errors
/// A wrong status; a process that can't be stopped within three seconds, after which all run on.
pub fn pause(locked: &Locked) -> Result<()> {
    group(locked, Verb::Pause)?.freeze()
}

/// Lets them go on.
///
/// # Errors
/// A wrong status; a cgroup that is frozen from above.
pub fn resume(locked: &Locked) -> Result<()> {
    group(locked, Verb::Resume)?.thaw()
}

fn group(locked: &Locked, verb: Verb) -> Result<Cgroup> {
    let status = observe_locked(locked)?.status;
    match verb {
        _ if allowed(verb, status) => Ok(Cgroup::new(locked.container.record()?.cgroups)),
        Verb::Pause => bail!("container not running: it is {status}"),
        _ => bail!("container not paused: it is {status}"),
    }
}
