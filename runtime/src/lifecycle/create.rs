//! From a bundle to a container that waits at its gate, or is on its way through it.

use std::io::ErrorKind;
use std::path::Path;

use ::cgroup::Cgroup;
use anyhow::{Context, Result, bail};
use interface::id::Id;
use interface::line::rfc3339;
use linux::absent::{absent, is_dir, metadata};
use nix::sys::signal::SigSet;

use super::PidOutput;
use super::delete::{Cause, destroy};
use crate::bundle::Bundle;
use crate::container::record::{OCI_VERSION, Record};
use crate::container::store::{Locked, Store};
use crate::facts::{self, Facts};
use crate::launch::{self, Launched};
use crate::plan::{self, Driver, Options, Plan, Request};
use crate::report::{Level, Log};
use crate::spec::Spec;

/// What the caller asked for.
#[allow(missing_docs, reason = "runc's own flags")]
pub struct CreateArgs<'a> {
    pub id: &'a Id,
    pub bundle: &'a Path,
    pub options: Options,
    /// The user's word; None: as his rights are.
    pub rootless: Option<bool>,
    pub pid_output: PidOutput<'a>,
    /// The signal mask that the payload gets, or CRIU.
    pub signals: SigSet,
}

/// A new container, still locked.
pub struct NewContainer {
    /// Its directory.
    pub locked: Locked,
    /// Its record.
    pub record: Record,
    /// Its init.
    pub launched: Launched,
}

/// Makes the container.
///
/// # Errors
/// One line; nothing is left behind, whatever step it was.
pub fn create(store: &Store, log: &Log, args: CreateArgs<'_>) -> Result<NewContainer> {
    let bundle = Bundle::open(args.bundle)?;
    let spec = bundle.spec()?;
    let facts = facts(args.options.driver, args.rootless)?;
    let request = Request {
        id: args.id.as_str(),
        bundle: &bundle.dir,
        spec: &spec,
        facts: &facts,
        options: &args.options,
    };
    let plan = plan::create(&request).with_context(|| bundle.config())?;
    let record = record(&request, &plan).with_context(|| bundle.config())?;
    let is_dir = is_dir(&record.rootfs).with_context(|| format!("stat {}", record.rootfs.display()))?;
    if !is_dir {
        bail!("{}: root.path: {} is not a directory", bundle.config(), record.rootfs.display());
    }
    for warning in &plan.warnings {
        log.line(Level::Warning, warning)?;
    }
    log.trace(&plan)?;

    let locked = put_on_record(store, args.id, &plan, &record)?;
    let launch = || {
        let launched = launch::create(&plan, &locked, &record, bundle.bytes(), args.signals)?;
        args.pid_output.write(&launched).map(|()| launched)
    };
    let launched = launch();
    made(locked, record, launched, log)
}

/// Takes the id and says what will be made. Until that is on record nothing is, so an error takes the directory along, which
/// needs no look at it: there may be no descriptors left for one.
pub(super) fn put_on_record(store: &Store, id: &Id, plan: &Plan, record: &Record) -> Result<Locked> {
    let locked = store.claim(id)?;
    match unoccupied(plan).and_then(|()| locked.save(record)) {
        Ok(()) => Ok(locked),
        Err(reason) => {
            // The first error is the one to report.
            let _ = locked.remove();
            Err(reason)
        }
    }
}

/// A launch that failed leaves nothing behind.
pub(super) fn made(
    locked: Locked,
    record: Record,
    launched: Result<Launched>,
    log: &Log,
) -> Result<NewContainer> {
    match launched {
        Ok(launched) => Ok(NewContainer { locked, record, launched }),
        Err(reason) => {
            if let Err(left) = destroy(locked, log, Cause::Failed) {
                // The first error is the one to report; what can't be removed now, `delete --force` will try again.
                let _ = log.line(Level::Warning, &format!("clean up after the failure: {left:#}"));
            }
            Err(reason)
        }
    }
}

/// The host, and the systemd that makes scopes, where one is to.
pub(super) fn facts(driver: Driver, rootless: Option<bool>) -> Result<Facts> {
    match driver {
        Driver::Cgroupfs => facts::probe::gather(rootless),
        Driver::Systemd => facts::probe::gather(rootless)?.with_manager(),
    }
}

/// What is known of the container that the plan makes.
///
/// # Errors
/// The JSON path of what is not there.
pub(super) fn record(request: &Request<'_>, plan: &Plan) -> Result<Record> {
    let &Request { id, bundle, spec, facts, .. } = request;
    let recorded = plan.recorded.clone();
    let rootfs = spec.root.as_ref().map(|root| bundle.join(&*root.path)).unwrap_or_default();
    let rootfs = rootfs.canonicalize().with_context(|| format!("root.path: {}", rootfs.display()))?;
    Ok(Record {
        oci_version: OCI_VERSION.to_owned(),
        id: id.to_owned(),
        bundle: bundle.to_owned(),
        rootfs,
        created: rfc3339(std::time::SystemTime::now()),
        owner: facts.euid,
        annotations: recorded.annotations,
        cgroups: recorded.cgroups,
        cgroup2: recorded.cgroup2,
        rdt_groups: recorded.rdt_groups,
        keyring: recorded.keyring,
        scope: recorded.scope,
        streams: streams(spec)?,
        own_pid_namespace: recorded.own_pid_namespace,
        poststart: recorded.poststart,
        poststop: recorded.poststop,
    })
}

/// Ours, unless it has a terminal of its own.
fn streams(spec: &Spec<'_>) -> Result<Vec<String>> {
    if spec.process.as_ref().is_some_and(|process| process.terminal) {
        return Ok(Vec::new());
    }
    let link = |n| {
        let path = format!("/proc/self/fd/{n}");
        // One that is closed is like none that a process has.
        let link = absent(std::fs::read_link(&path)).with_context(|| format!("read {path}"))?;
        Ok(link.unwrap_or_default().display().to_string())
    };
    (0..3).map(link).collect()
}

/// Asked before the cgroups are on record: what a record names, delete kills and removes.
fn unoccupied(plan: &Plan) -> Result<()> {
    for dir in &plan.recorded.cgroups {
        // ENOTDIR: so is what would be above it.
        let is_file = match metadata(dir) {
            Err(e) if e.kind() == ErrorKind::NotADirectory => true,
            other => {
                other.with_context(|| format!("stat {}", dir.display()))?.is_some_and(|kind| !kind.is_dir())
            }
        };
        if is_file {
            bail!("linux.cgroupsPath: {} is a file of the cgroup there; name it otherwise", dir.display());
        }
    }
    match Cgroup::new(plan.recorded.cgroups.clone()).processes()?.first() {
        Some(pid) => bail!("linux.cgroupsPath: the cgroup is not empty: process {pid} is in it"),
        None => Ok(()),
    }
}
