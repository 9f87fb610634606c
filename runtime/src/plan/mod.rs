//! PURE: from config.json and the host's facts to the list of steps that make the container.
//!
//! Nothing in this room touches the world: no system call, no file, no process. That is what makes `ampoule plan`
//! a dry run that needs no root, and its output a unit test. Start reading at [`order`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::cgroup::layout::{Hierarchy, Version};
use anyhow::{Result, bail};
use serde::Serialize;

mod attributes;
mod cgroup;
mod devices;
pub mod hooks;
mod id_maps;
mod identity;
mod intel_rdt;
pub mod known;
mod labels;
mod mounts;
pub(crate) mod namespaces;
mod net_devices;
mod order;
pub mod path;
mod restore;
mod rootfs;
mod scheduling;
pub mod seccomp;
pub mod step;
pub mod systemd;
mod text;

pub use attributes::{Attributes, Change};
pub use identity::{CAPABILITIES, CapabilitySets, Credentials};
pub use restore::{Outer, outer, restore};

use crate::facts::Facts;
use crate::spec::{NamespaceKind, Process, Resources, Spec};
use namespaces::Namespaces;
use path::ContainerPath;
use step::{IdMap, IdRange, Inside, Mark, Outside, Slot, Spawn};
use systemd::Scope;

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

/// What the command line adds to the document.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "runc's own flags")]
pub struct Options {
    pub console: Console,
    pub driver: Driver,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    /// Descriptors after stderr that the payload inherits, besides those of socket activation.
    pub preserve_fds: u32,
    /// Descriptors of socket activation (sd_listen_fds(3)).
    pub listen_fds: u32,
}

/// The whole of what `create` does, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// On the host, before the clone.
    pub before: Vec<Outside>,
    /// The clone.
    pub spawn: Spawn,
    /// On the host, while the new process plays `inside`.
    pub after: Vec<Outside>,
    /// In the new process; ends in exec.
    pub inside: Vec<Inside>,
    /// The container's cgroup in every hierarchy, for the record: `delete` removes them.
    pub cgroups: Vec<PathBuf>,
    /// The resctrl groups that are the container's alone, likewise.
    pub rdt_groups: Vec<PathBuf>,
    /// For the record, too: `delete` stops it.
    pub scope: Option<Scope>,
    /// What was left out because the spec says to warn rather than to fail.
    pub warnings: Vec<String>,
    /// How many handles the steps share.
    pub slots: usize,
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

/// A plan in the making.
struct Draft<'a> {
    id: &'a str,
    bundle: &'a Path,
    rootfs: PathBuf,
    spec: &'a Spec<'a>,
    facts: &'a Facts,
    options: &'a Options,
    namespaces: Namespaces,
    cgroup_dirs: Vec<PathBuf>,
    rdt_groups: Vec<PathBuf>,
    scope: Option<Scope>,
    /// Users and groups of the maps for mounts that are made already.
    id_maps: BTreeMap<(Vec<IdRange>, Vec<IdRange>), Slot>,
    before: Vec<Outside>,
    spawn: Spawn,
    after: Vec<Outside>,
    inside: Vec<Inside>,
    /// Mount changes that have to wait until /dev is filled.
    after_nodes: Vec<Inside>,
    exec: Option<Inside>,
    bound_dev: bool,
    slots: usize,
    warnings: Vec<String>,
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
    /// The v2 cgroup to be born into.
    pub into: Option<PathBuf>,
    /// The v1 cgroups to enter.
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
    order::check(&draft, process)?;
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
    order::check_process(&draft, process)?;
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

/// Plans `update`: `before` has it all. `total`: see [`cgroup::update`].
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
    let (mut before, warnings) = cgroup::update(&facts.cgroups, cgroups, &changes.resources, total)?;
    before.extend(intel_rdt::update(facts, id, spec, &changes.schemata)?);
    Ok(Plan { before, warnings, ..Plan::default() })
}

impl<'a> Draft<'a> {
    fn new(id: &'a str, spec: &'a Spec<'a>, facts: &'a Facts, options: &'a Options) -> Result<Self> {
        Ok(Draft {
            id,
            bundle: Path::new(""),
            rootfs: PathBuf::new(),
            spec,
            facts,
            options,
            namespaces: namespaces::namespaces(spec)?,
            cgroup_dirs: Vec::new(),
            rdt_groups: Vec::new(),
            scope: None,
            id_maps: BTreeMap::new(),
            before: Vec::new(),
            spawn: Spawn::default(),
            after: Vec::new(),
            inside: Vec::with_capacity(64),
            after_nodes: Vec::new(),
            exec: None,
            bound_dev: false,
            slots: 0,
            warnings: Vec::new(),
        })
    }

    fn finish(self) -> Plan {
        Plan {
            before: self.before,
            spawn: self.spawn,
            after: self.after,
            inside: self.inside,
            cgroups: self.cgroup_dirs,
            rdt_groups: self.rdt_groups,
            scope: self.scope,
            warnings: self.warnings,
            slots: self.slots,
        }
    }
}

impl Draft<'_> {
    fn slot(&mut self) -> Slot {
        self.slots += 1;
        Slot(self.slots - 1)
    }

    fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// A detached copy of mounts of the host's tree. Root makes it on the host: inside a user namespace its path may
    /// not be walkable. Anyone else may copy mounts only in a mount namespace of his own; and a scope's cgroup is not
    /// there before the process is.
    fn clone_tree(
        &mut self,
        source: PathBuf,
        recursive: bool,
        attributes: Attributes,
        id_map: Option<IdMap>,
        property: String,
    ) -> Slot {
        let slot = self.slot();
        if id_map.is_none()
            && (self.facts.powerless() || (self.scope.is_some() && self.cgroup_dirs.contains(&source)))
        {
            self.inside.push(Inside::CloneTree { source, recursive, attributes, slot, property });
        } else {
            self.before.push(Outside::CloneTree { source, recursive, attributes, id_map, slot, property });
        }
        slot
    }

    fn await_mark(&mut self, mark: Mark) {
        self.inside.push(Inside::Await { mark });
    }

    /// config-linux.md#cgroup-ownership: v2, a new cgroup namespace and a writable mount of it.
    fn own_cgroup(&self) -> Option<Outside> {
        let writable = self.spec.mounts.iter().any(|m| {
            &*m.destination == "/sys/fs/cgroup"
                && matches!(&*m.kind, "cgroup" | "cgroup2")
                && !m.options.iter().any(|o| &**o == "ro")
        });
        if !writable
            || self.facts.powerless() // who maps only his own ids owns it already
            || !self.namespaces.makes(NamespaceKind::Cgroup)
            || !self.namespaces.makes(NamespaceKind::User)
        {
            return None;
        }
        let id = |ranges| Namespaces::outside(ranges, 0);
        let (uid, gid) = (id(&self.namespaces.uids)?, id(&self.namespaces.gids)?);
        let mut v2 = self.facts.cgroups.hierarchies.iter().zip(&self.cgroup_dirs);
        let (_, dir) = v2.find(|(h, _)| h.version == Version::V2)?;
        Some(Outside::OwnCgroup { dir: dir.clone(), uid, gid })
    }

    /// Returns the steps that join them, but for those that are joined before there is a process.
    fn open_namespaces(&mut self) -> Vec<Inside> {
        let mut joins = Vec::new();
        for (kind, path) in self.namespaces.joined.clone() {
            let slot = self.slot();
            self.before.push(Outside::OpenNamespace { kind, path, slot });
            match kind {
                NamespaceKind::User | NamespaceKind::Pid => self.spawn.join.push((kind, slot)),
                _ => joins.push(Inside::Join { kind, slot }),
            }
        }
        joins
    }

    /// Whether there are processes of others' that could find the new one before its exec, in the pid namespace or in the
    /// user namespace that it joins. Where there are none, it is left to be entered by whoever makes it: hooks and exec of an
    /// ordinary user, or of root without CAP_SYS_PTRACE, may enter the namespaces of those only that they may trace. What
    /// such a user makes a user namespace for he could trace in any case.
    fn has_neighbors(&self) -> bool {
        let is_own = self.facts.powerless() && self.namespaces.makes(NamespaceKind::User);
        let joins_user =
            self.namespaces.has(NamespaceKind::User) && !self.namespaces.makes(NamespaceKind::User);
        !is_own && (joins_user || !self.namespaces.makes(NamespaceKind::Pid))
    }

    fn refuse_frozen(&mut self) {
        if self.scope.is_some() {
            return; // systemd has yet to make it
        }
        let freezes = |hierarchy: &Hierarchy| match hierarchy.version {
            Version::V2 => Some("cgroup.events"),
            Version::V1 => hierarchy.controllers.iter().any(|c| c == "freezer").then_some("freezer.state"),
        };
        let all = self.facts.cgroups.hierarchies.iter().zip(&self.cgroup_dirs);
        let steps = all.filter_map(|(hierarchy, dir)| {
            Some(Outside::RefuseFrozen { dir: dir.clone(), file: freezes(hierarchy)? })
        });
        self.before.extend(steps);
    }

    fn enter_cgroups(&mut self, dirs: Vec<PathBuf>) {
        for dir in dirs {
            let slot = self.slot();
            self.before.push(Outside::OpenCgroup { dir: dir.clone(), slot });
            self.inside.push(Inside::EnterCgroup { dir, slot });
        }
    }

    fn names(&mut self) {
        let text = |name: &Option<crate::spec::Str<'_>>| {
            name.as_ref().map(|n| n.to_string()).filter(|n| !n.is_empty())
        };
        self.inside.extend(text(&self.spec.hostname).map(|name| Inside::Hostname { name }));
        self.inside.extend(text(&self.spec.domainname).map(|name| Inside::Domainname { name }));
    }

    fn console(&mut self, process: &Process<'_>, node: bool) {
        let size = process.console_size.as_ref().map(|s| (s.height, s.width));
        self.inside.push(Inside::Console { size, node });
    }

    fn make_working_directory(&mut self, process: &Process<'_>) -> Result<()> {
        let path = ContainerPath::new(&process.cwd);
        if path.as_str() != "/" {
            self.inside.push(Inside::MakeDirectory { path, property: "process.cwd".to_owned() });
        }
        Ok(())
    }
}
