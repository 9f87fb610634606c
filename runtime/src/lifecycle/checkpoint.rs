//! running → files.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;

use anyhow::{Context, Result, anyhow, bail};

use super::create::facts;
use super::delete::{Cause, destroy};
use crate::container::record::Record;
use crate::container::status::{Verb, allowed, observe_locked};
use crate::container::store::Locked;
use crate::facts;
use crate::launch::{self, Dump, Images};
use crate::plan::{self, Console, Driver, Options, Outer, Request};
use crate::report::Log;
use crate::spec;

/// What the caller asked for.
#[allow(missing_docs, reason = "runc's own flags")]
pub struct CheckpointArgs {
    pub images: Images,
    /// The user's word; None: as his rights are.
    pub rootless: Option<bool>,
    pub pre_dump: bool,
    pub status: Option<File>,
}

/// Saves the container. Unless it is to run on, it is gone afterwards.
///
/// # Errors
/// A wrong status; what CRIU can't save. The container runs on, then.
pub fn checkpoint(locked: Locked, log: &Log, args: CheckpointArgs) -> Result<()> {
    let CheckpointArgs { mut images, rootless, pre_dump, status } = args;
    needs_root(rootless)?;
    let seen = observe_locked(&locked)?;
    let Some((pid, _)) = seen.init.filter(|_| allowed(Verb::Checkpoint, seen.status)) else {
        bail!("container cannot be checkpointed in {} state", seen.status)
    };
    prepare(&images)?;
    let record = locked.container.record()?;
    images.wishes.config_file = config_file(&record);
    let outer = outer(&locked, &record).context("the container's config.json")?;
    let stays = pre_dump || images.wishes.leave_running;
    launch::dump(Dump { images: &images, record: &record, outer: &outer, pid, pre_dump, status })?;
    if stays { Ok(()) } else { destroy(locked, log, Cause::Asked { force: true }) }
}

/// Its directories: not made for what can't be saved anyway.
fn prepare(images: &Images) -> Result<()> {
    for dir in [&images.images, &images.work] {
        // Memory holds secrets, so nobody else may read it.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.with_context(|| format!("make {}", dir.display()))?;
    }
    let Some(parent) = &images.wishes.parent else { return Ok(()) };
    let dir = images.images.join(parent);
    match dir.metadata() {
        Ok(kind) if kind.is_dir() => Ok(()),
        Ok(_) => bail!("--parent-path {parent}: {} is no directory", dir.display()),
        Err(e) => bail!("--parent-path {parent}: {}: {e}", dir.display()),
    }
}

/// What it has of the host's: as it was planned.
fn outer(locked: &Locked, record: &Record) -> Result<Outer> {
    let config = locked.container.config()?;
    let spec = spec::parse(&config).map_err(|e| anyhow!("{e}"))?;
    let driver = if record.scope.is_some() { Driver::Systemd } else { Driver::Cgroupfs };
    // Where its terminal is, is nobody's concern now.
    let options = Options { console: Console::Foreground, driver, ..Options::default() };
    let (id, facts) = (locked.container.id.as_str(), facts(driver, Some(false))?);
    let plan =
        plan::create(&Request { id, bundle: &record.bundle, spec: &spec, facts: &facts, options: &options })?;
    plan::outer(&plan)
}

/// CRIU can do a little without, but nothing that a container is made of.
pub(super) fn needs_root(rootless: Option<bool>) -> Result<()> {
    if facts::probe::ourselves(rootless)?.rootless {
        bail!("checkpoint and restore take root's rights over the host: CRIU needs them");
    }
    Ok(())
}

/// CRIU's own options for this container (runc's annotation), or for all of them.
pub(super) fn config_file(record: &Record) -> Option<String> {
    match record.annotations.get("org.criu.config") {
        Some(path) => Some(path.clone()).filter(|path| !path.is_empty()),
        None => Some("/etc/criu/runc.conf".to_owned()),
    }
}
