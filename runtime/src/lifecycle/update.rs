//! New limits for a container that is there.

use ::cgroup::Cgroup;
use anyhow::{Result, anyhow, bail};

use crate::container::status::{Verb, allowed, observe_locked};
use crate::container::store::Locked;
use crate::facts;
use crate::launch;
use crate::plan::{self, Changes};
use crate::report::{Level, Log};
use crate::spec;

/// Sets what the changes name, and leaves the rest as it is.
///
/// # Errors
/// A wrong status; a limit that can't be had here; with `checkBeforeUpdate`, one that is below what is in use.
pub fn update(locked: &Locked, log: &Log, changes: &Changes<'_>) -> Result<()> {
    let container = &locked.container;
    let status = observe_locked(locked)?.status;
    if !allowed(Verb::Update, status) {
        bail!("container not running: it is {status}");
    }
    let record = container.record()?;
    let group = Cgroup::new(record.cgroups.clone());
    let memory = &changes.resources.memory;
    if let Some(limit) = memory.limit.filter(|limit| *limit > 0 && memory.check_before_update) {
        let used = group.memory_in_use()?;
        if limit < used {
            bail!("rejecting memory limit {limit}: {used} bytes are in use");
        }
    }
    let facts = match record.scope {
        Some(_) => facts::probe::gather(None)?.with_manager()?,
        None => facts::probe::gather(None)?,
    };
    let config = container.config()?;
    let spec = spec::parse(&config).map_err(|e| anyhow!("the container's config.json: {e}"))?;
    let (id, total) = (container.id.as_str(), group.memory_and_swap_limit()?);
    let mut update = plan::update(&facts, id, &spec, &record.cgroups, changes, total)?;
    for warning in &update.warnings {
        log.line(Level::Warning, warning)?;
    }
    if let Some(scope) = &record.scope {
        plan::systemd::set_properties(scope, &mut update);
    }
    launch::update(&update, &record)
}
