//! One more process in a container that is there.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use linux::absent::is_dir;
use nix::sys::signal::SigSet;
use nix::unistd::Pid;

use super::PidOutput;
use crate::container::record::Record;
use crate::container::status::{Observed, Status, Verb, allowed, observe};
use crate::container::store::Container;
use crate::facts;
use crate::launch::{self, Launched};
use crate::plan::{self, ExecRequest, Gate, Options};
use crate::report::{Level, Log};
use crate::spec::{Process, Spec};

/// What the caller asked for.
#[allow(missing_docs, reason = "runc's own flags")]
pub struct ExecArgs<'a> {
    pub options: Options,
    /// The user's word; None: as his rights are.
    pub rootless: Option<bool>,
    pub pid_output: PidOutput<'a>,
    pub ignore_paused: bool,
    /// `[CONTROLLER:]PATH`, below the container's own cgroups.
    pub cgroups: &'a [String],
    /// The signal mask that the process gets.
    pub signals: SigSet,
}

/// Starts a process in a container that was created from `spec`; returns when its program runs.
///
/// # Errors
/// A wrong status; what the planner refuses; the step that failed.
pub fn exec(
    container: &Container,
    log: &Log,
    args: ExecArgs<'_>,
    spec: &Spec<'_>,
    process: &Process<'_>,
) -> Result<Launched> {
    let (pid, init) = init(container, args.ignore_paused)?;
    let record = container.record()?;
    let (into, enter) = cgroups(&record, args.cgroups)?;
    let mut options = args.options;
    options.no_new_keyring = !record.keyring;
    options.gate = Gate::Passed;
    let facts = facts::probe::ourselves(args.rootless)?;
    let plan = plan::exec(&ExecRequest {
        id: container.id.as_str(),
        spec,
        process,
        facts: &facts,
        options: &options,
        rootfs: &record.rootfs,
        init: pid.as_raw(),
        into,
        enter,
    })?;
    for warning in &plan.warnings {
        log.line(Level::Warning, warning)?;
    }
    log.trace(&plan)?;
    let launched = launch::exec(&plan, &record, init, args.signals)?;
    match launched.passed().and_then(|()| args.pid_output.write(&launched)) {
        Ok(()) => Ok(launched),
        Err(reason) => {
            // The caller gets no pid of a process whose start has failed, and so couldn't end it.
            launched.end();
            Err(reason)
        }
    }
}

/// The init of a container that takes a further process.
fn init(container: &Container, ignore_paused: bool) -> Result<(Pid, OwnedFd)> {
    match observe(container)? {
        Observed { status, init: Some(init) }
            if allowed(Verb::Exec, status) || (ignore_paused && is_paused(status)) =>
        {
            Ok(init)
        }
        Observed { status, .. } if is_paused(status) => {
            bail!("cannot exec in a paused container (use --ignore-paused to override)")
        }
        Observed { status: Status::Creating, .. } => {
            bail!("cannot exec in a container that is still being created")
        }
        Observed { status, .. } => bail!("cannot exec in a {status} container"),
    }
}

fn is_paused(status: Status) -> bool {
    matches!(status, Status::Paused | Status::Held)
}

/// The v2 cgroup to be cloned into, and the v1 cgroups to enter.
fn cgroups(record: &Record, given: &[String]) -> Result<(Option<PathBuf>, Vec<PathBuf>)> {
    let mut into = record.cgroup2.clone();
    let mut enter: Vec<_> =
        record.cgroups.iter().filter(|dir| Some(*dir) != into.as_ref()).cloned().collect();
    for text in given {
        let (controller, path) = text.split_once(':').map_or((None, &**text), |(c, p)| (Some(c), p));
        let path = path.trim_start_matches('/');
        if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
            bail!("--cgroup {text}: expected [CONTROLLER:]PATH, a path below the container's cgroup");
        }
        // A v1 directory has its hierarchy's controllers as a part of its path: /sys/fs/cgroup/cpu,cpuacct/ID.
        let holds = |dir: &Path, name: &str| {
            dir.iter().any(|part| part.to_string_lossy().split(',').any(|controller| controller == name))
        };
        let mut found = false;
        for dir in into.iter_mut().filter(|_| controller.is_none_or(str::is_empty)).chain(
            enter.iter_mut().filter(|dir| controller.is_none_or(|name| name.is_empty() || holds(dir, name))),
        ) {
            dir.push(path);
            found = true;
            if !is_dir(dir).with_context(|| format!("--cgroup {text}: stat {}", dir.display()))? {
                bail!("--cgroup {text}: there is no {}", dir.display());
            }
        }
        if !found {
            bail!(
                "--cgroup {text}: the container has no cgroup of controller {}",
                controller.unwrap_or_default()
            );
        }
    }
    Ok((into, enter))
}
