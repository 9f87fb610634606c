//! What a restore takes of the plan that made the container: the host's part of it. Everything inside is brought back
//! by CRIU, which only wants the places that things are mounted on, and to be told what lies outside.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::Plan;
use super::attributes::{Attributes, Propagation};
use super::namespaces::{self, Namespaces};
use super::path::ContainerPath;
use super::step::{Inside, Mark, Outside, Slot, Spawn};
use crate::spec::NamespaceKind;

/// What a container has of the host's, and an image only names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outer {
    /// Where something of the host's is mounted, and what it is.
    pub mounts: Vec<(ContainerPath, PathBuf)>,
    /// Where a file of the container's may be hidden by /dev/null.
    pub masks: Vec<ContainerPath>,
    /// Namespaces that are joined; where the handle on each is.
    pub namespaces: Vec<(NamespaceKind, PathBuf, Slot)>,
    /// Who its root is on the host, in a user namespace of its own.
    pub owner: Option<u32>,
}

impl Outer {
    /// Whether the network is another's.
    pub fn has_network(&self) -> bool {
        self.namespaces.iter().any(|(kind, ..)| *kind == NamespaceKind::Network)
    }
}

/// What of a plan lies outside of its container.
///
/// # Errors
/// The JSON path of what CRIU can't bring back as it was.
pub fn outer(plan: &Plan) -> Result<Outer> {
    let mut outer = Outer::default();
    for step in &plan.before {
        match step {
            Outside::CloneTree { id_map: Some(_), property, .. } => {
                bail!("{property}: CRIU can't bring back a mount with mapped ids")
            }
            Outside::OpenNamespace {
                kind: kind @ (NamespaceKind::Cgroup | NamespaceKind::Mount), ..
            } => {
                bail!("linux.namespaces: CRIU can't join a {} namespace", namespaces::name(*kind))
            }
            Outside::OpenNamespace { kind, path, slot } => {
                outer.namespaces.push((*kind, path.clone(), *slot));
            }
            _ => {}
        }
    }
    outer.owner = plan.after.iter().find_map(|step| match step {
        Outside::MapIds { uids, .. } => Namespaces::outside(uids, 0),
        _ => None,
    });
    for step in &plan.inside {
        match step {
            Inside::UseRoot { .. } => {
                bail!(
                    "linux.namespaces: CRIU can't bring back a container without a mount namespace of its own"
                )
            }
            Inside::Bind { target, source, .. } => outer.mounts.push((target.clone(), source.clone())),
            Inside::BindNode { path, .. } => outer.mounts.push((path.clone(), path.as_str().into())),
            Inside::MaskPath { path, .. } => outer.masks.push(path.clone()),
            _ => {}
        }
    }
    Ok(outer)
}

/// Plans the restore of a container that `whole` would create: up to CRIU, which is the program, and has its
/// conversation's end in the slot that is returned. The root is mounted on `stage`, a directory of the host's. After the
/// mark of readiness stands what is done once the namespaces are there.
pub fn restore(whole: Plan, criu: &Path, stage: &Path) -> (Plan, Slot) {
    let (socket, second) = (Slot(whole.slots), Slot(whole.slots + 1));
    let root = whole.inside.iter().find_map(|step| match step {
        Inside::AttachRoot { slot, source } => Some((*slot, source.clone())),
        _ => None,
    });
    let (first, source) = root.unwrap_or((second, PathBuf::new())); // outer() refuses those without
    let is_readonly = whole.inside.iter().any(|step| matches!(step, Inside::ReadonlyRoot));
    let devices = devices(&whole.inside);
    let (mut inside, others): (Vec<_>, Vec<_>) = whole.inside.into_iter().partition(is_first);
    let places = places(others);

    let mut before: Vec<_> = whole.before.into_iter().filter(is_needed).collect();
    before.retain(|step| match step {
        Outside::CloneTree { slot, .. } => *slot == first || binds(&places, *slot),
        _ => true,
    });
    before.push(Outside::CloneTree {
        source,
        recursive: true,
        attributes: Attributes::propagating(Propagation::Slave, true),
        id_map: None,
        slot: second,
        property: "root.path".to_owned(),
    });
    let handed_on = before.iter().filter_map(|step| match step {
        Outside::OpenNamespace { kind: NamespaceKind::Network | NamespaceKind::Pid, slot, .. } => Some(*slot),
        _ => None,
    });
    let namespaces = handed_on.collect();

    let steps = whole.after.into_iter().filter(is_needed);
    let (late, mut after): (Vec<_>, Vec<_>) =
        steps.partition(|step| matches!(step, Outside::MoveDevice { .. } | Outside::RunHooks { .. }));
    after.push(Outside::Hear { mark: Mark::Ready });
    if whole.spawn.new.contains(&NamespaceKind::Network) {
        after.push(Outside::LoopbackUp); //                CRIU leaves devices to us
    }
    after.extend(late);

    let at = || stage.to_owned();
    inside.push(Inside::Isolate);
    inside.extend(devices.into_iter().map(|path| Inside::ReadonlyDevice { path }));
    inside.push(Inside::Stage { slot: first, at: at() });
    inside.extend(places);
    inside.push(Inside::ClearStage { at: at() }); //       with all that was bound only to make places in it
    inside.push(Inside::Stage { slot: second, at: at() });
    if is_readonly {
        inside.push(Inside::ReadonlyRoot); //              CRIU leaves the root's own mount as it finds it
    }
    inside.extend([
        Inside::Umask { mask: 0o077 }, //                  of its logs; the processes have theirs in the images
        Inside::CloseOnExec { from: 3 },
        Inside::Tell { mark: Mark::Ready },
        Inside::Criu { program: criu.to_owned(), socket, namespaces },
    ]);
    let spawn = Spawn { new: vec![NamespaceKind::Mount], into: whole.spawn.into, ..Spawn::default() };
    let slots = whole.slots + 2;
    (Plan { before, spawn, after, inside, slots, warnings: whole.warnings, ..Plan::default() }, socket)
}

/// Of the host's steps, those that are not about what CRIU does itself: ids, limits of the process.
fn is_needed(step: &Outside) -> bool {
    !matches!(
        step,
        Outside::ForbidTracing
            | Outside::MakeIdMap { .. }
            | Outside::LeavePidNamespace
            | Outside::OomScore { .. }
            | Outside::MapIds { .. }
            | Outside::RunOn { .. }
            | Outside::Tell { mark: Mark::OnRecord | Mark::IdsMapped | Mark::HooksRan | Mark::DevicesMoved }
            | Outside::Hear { .. }
            | Outside::PassConsole { .. }
            | Outside::PassListener { .. }
    )
}

/// Of the steps inside, those that CRIU's own process passes on to whom it brings back.
fn is_first(step: &Inside) -> bool {
    matches!(
        step,
        Inside::Await { mark: Mark::Attached }
            | Inside::EnterCgroup { .. }
            | Inside::LabelKeys { .. }
            | Inside::SessionKeyring { .. }
    )
}

/// The host's devices that are bound, each once: masks of files are such, too. One that the container may write to stays as
/// it is, for what a user namespace gets read-only it can't have back; whoever is its root can't change it, either.
fn devices(steps: &[Inside]) -> Vec<PathBuf> {
    let is_left = |device: &PathBuf| {
        let is_it = |path: &ContainerPath| Path::new(path.as_str()) == device;
        steps.iter().any(|step| matches!(step, Inside::BindNode { path, readonly: false, .. } if is_it(path)))
    };
    let device = |step: &Inside| match step {
        Inside::BindNode { path, readonly: true, .. } => Some(PathBuf::from(path.as_str())),
        Inside::MaskPath { .. } => Some(PathBuf::from("/dev/null")),
        _ => None,
    };
    let mut all: Vec<_> = steps.iter().filter_map(device).collect();
    all.sort();
    all.dedup();
    all.retain(|device| !is_left(device));
    all
}

/// The places that are mounted on, and what else is made in the root or in what is bound there. Whatever lies in a
/// filesystem of the container's own comes back with that.
fn places(steps: Vec<Inside>) -> Vec<Inside> {
    let mut own: Vec<ContainerPath> = Vec::new();
    let (mut copies, mut places) = (Vec::new(), Vec::new());
    for step in steps {
        let path = match &step {
            Inside::Mount { target, .. } | Inside::Bind { target, .. } => target,
            Inside::MakeNode { path, .. } | Inside::BindNode { path, .. } | Inside::Symlink { path, .. } => {
                path
            }
            Inside::CloneTree { .. } => {
                copies.push(step);
                continue;
            }
            _ => continue,
        };
        if own.iter().any(|mount| path.is_within(mount.as_str())) {
            continue;
        }
        places.push(match step {
            Inside::Mount { target, property, .. } => {
                own.push(target.clone());
                Inside::MakeDirectory { path: target, property }
            }
            step => step,
        });
    }
    copies.retain(|copy| matches!(copy, Inside::CloneTree { slot, .. } if binds(&places, *slot)));
    copies.append(&mut places);
    copies
}

fn binds(steps: &[Inside], wanted: Slot) -> bool {
    steps.iter().any(|step| matches!(step, Inside::Bind { slot, .. } if *slot == wanted))
}
