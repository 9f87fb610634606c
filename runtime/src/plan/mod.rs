//! PURE: from config.json and the host's facts to the list of steps that make the container.
//!
//! Nothing in this room touches the world: no system call, no file, no process. That is what makes `ampoule plan`
//! a dry run that needs no root, and its output a unit test. Start reading at [`order`].

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;

mod attributes;
mod cgroup;
mod check;
mod devices;
mod draft;
pub mod hooks;
mod id_maps;
mod identity;
mod intel_rdt;
mod labels;
mod mounts;
pub(crate) mod namespaces;
mod net_devices;
mod order;
pub mod path;
mod program;
mod recorded;
mod restore;
mod rootfs;
mod scheduling;
pub mod seccomp;
pub mod step;
pub mod supported;
pub mod systemd;

pub use attributes::{Attributes, Change};
pub use identity::{CAPABILITIES, CapabilitySets, Credentials};
pub use recorded::Recorded;
pub use restore::{Outer, Restore, outer, restore};

use crate::facts::Facts;
use crate::spec::{Process, Resources, Spec};
use draft::Draft;
use step::{HostStep, InitStep, Spawn};

/// Where the container's terminal goes, if it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Console {
    /// Nobody would be there to hold it.
    #[default]
    None,
    /// The runtime stays in the foreground and copies.
    Foreground,
    /// The master end is sent to this unix socket.
    Socket(PathBuf),
}

/// Who makes the container's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// The runtime itself.
    #[default]
    Cgroupfs,
    /// systemd, as a scope.
    Systemd,
}

/// Whether the container waits for `start`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// `create`: at a gate that others find in the state directory.
    #[default]
    Published,
    /// `run` and `exec`: the way is free as soon as all is done that it depends on.
    Passed,
}

/// What the command line adds to the document.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "runc's own flags")]
pub struct Options {
    pub console: Console,
    pub driver: Driver,
    pub gate: Gate,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    /// Descriptors after stderr that the payload inherits, besides those of socket activation.
    pub preserve_fds: u32,
    /// Descriptors of socket activation (sd_listen_fds(3)).
    pub listen_fds: u32,
}

/// The whole of what `create` does once the record is saved, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// On the host, before the clone.
    pub pre_clone: Vec<HostStep>,
    /// The clone.
    pub spawn: Spawn,
    /// On the host, while the new process carries out `init`.
    pub post_clone: Vec<HostStep>,
    /// In the new process; ends in exec.
    pub init: Vec<InitStep>,
    /// What the record holds of it.
    pub recorded: Recorded,
    /// What was left out because the spec says to warn rather than to fail.
    pub warnings: Vec<String>,
    /// How many descriptors the steps share.
    pub slots: usize,
}

/// A line a step. Without numbers: a step more would change every line below it.
impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let list = |f: &mut Formatter<'_>, title: &str, steps: &mut dyn Iterator<Item = &dyn Display>| {
            writeln!(f, "{title}")?;
            for step in steps {
                writeln!(f, "  {step}")?;
            }
            Ok(())
        };
        list(f, "on the host, before clone", &mut self.pre_clone.iter().map(|s| s as &dyn Display))?;
        list(f, "clone", &mut [&self.spawn].into_iter().map(|s| s as &dyn Display))?;
        list(f, "on the host, concurrently", &mut self.post_clone.iter().map(|s| s as &dyn Display))?;
        list(f, "in the new process", &mut self.init.iter().map(|s| s as &dyn Display))?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

/// What there is to plan from.
#[allow(missing_docs, reason = "each is described by its type")]
pub struct Request<'a> {
    pub id: &'a str,
    /// The bundle's directory, absolute.
    pub bundle: &'a Path,
    pub spec: &'a Spec<'a>,
    pub facts: &'a Facts,
    pub options: &'a Options,
}

/// What there is to plan `exec` from.
#[allow(missing_docs, reason = "each is described by its type")]
pub struct ExecRequest<'a> {
    pub id: &'a str,
    /// The container's document, as it was created from.
    pub spec: &'a Spec<'a>,
    pub process: &'a Process<'a>,
    pub facts: &'a Facts,
    pub options: &'a Options,
    /// The container's root directory on the host.
    pub rootfs: &'a Path,
    /// The container's init, on the host.
    pub init: i32,
    /// The v2 cgroup to be cloned into.
    pub into: Option<PathBuf>,
    /// The v1 cgroups to join.
    pub enter: Vec<PathBuf>,
}

/// Plans `create`.
///
/// # Errors
/// The JSON path, the value and what was expected, of the first thing that can't be.
pub fn create(request: &Request<'_>) -> Result<Plan> {
    let &Request { id, bundle, spec, facts, options } = request;
    let Some(process) = &spec.process else { bail!("process: missing") };
    let Some(root) = spec.root.as_ref().filter(|r| !r.path.is_empty()) else { bail!("root.path: missing") };
    let mut draft = Draft::new(id, spec, facts, options)?;
    draft.bundle = bundle;
    draft.rootfs = bundle.join(&*root.path);
    check::document(&draft, process)?;
    order::create(&mut draft, process)?;
    Ok(draft.finish())
}

/// Plans `exec`. The first of the plan's slots is for a pidfd of the container's init.
///
/// # Errors
/// As those of [`create`].
pub fn exec(request: &ExecRequest<'_>) -> Result<Plan> {
    let &ExecRequest { id, spec, process, facts, options, .. } = request;
    let mut draft = Draft::new(id, spec, facts, options)?;
    draft.rootfs = request.rootfs.to_owned();
    check::process(&draft, process)?;
    order::exec(&mut draft, request)?;
    Ok(draft.finish())
}

/// What `update` is to change.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    /// Of the cgroups.
    pub resources: Resources<'a>,
    /// Lines for the schemata of `linux.intelRdt`.
    pub schemata: Vec<String>,
}

/// Plans `update`: `pre_clone` has it all. `total`: see [`cgroup::update`].
///
/// # Errors
/// The JSON path of a limit that no cgroup of the container can hold, or whose value can't be.
pub fn update(
    facts: &Facts,
    id: &str,
    spec: &Spec<'_>,
    cgroups: &[PathBuf],
    changes: &Changes<'_>,
    total: Option<i64>,
) -> Result<Plan> {
    let (mut pre_clone, warnings) = cgroup::update(&facts.cgroups, cgroups, &changes.resources, total)?;
    pre_clone.extend(intel_rdt::update(facts, id, spec, &changes.schemata)?);
    Ok(Plan { pre_clone, warnings, ..Plan::default() })
}
