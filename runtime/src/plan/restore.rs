//! What a restore takes of the plan that made the container: the host's part of it. Everything inside is brought back
//! by CRIU, which only wants the places that things are mounted on, and to be told what lies outside.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::attributes::{Attributes, Propagation};
use super::namespaces::{self, Namespaces};
use super::path::ContainerPath;
use super::step::{
    FdSlot, HostStep, HostSync, InitStep, InitSync, LifecycleStep, Mount, PayloadStep, RootfsStep, SetupStep,
    Spawn,
};
use super::{Plan, Recorded};
use crate::spec::NamespaceKind;

/// What a container has of the host's, and an image only names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outer {
    /// Where something of the host's is mounted, and what it is.
    pub mounts: Vec<(ContainerPath, PathBuf)>,
    /// Where a file of the container's may be hidden by /dev/null.
    pub masks: Vec<ContainerPath>,
    /// Namespaces that are joined; where the handle on each is.
    pub namespaces: Vec<(NamespaceKind, PathBuf, FdSlot)>,
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
    for step in &plan.pre_clone {
        match step {
            HostStep::CloneMount { id_map: Some(_), property, .. } => {
                bail!("{property}: CRIU can't bring back a mount with mapped ids")
            }
            HostStep::OpenNamespace {
                kind: kind @ (NamespaceKind::Cgroup | NamespaceKind::Mount), ..
            } => {
                bail!("linux.namespaces: CRIU can't join a {} namespace", namespaces::name(*kind))
            }
            HostStep::OpenNamespace { kind, path, slot } => {
                outer.namespaces.push((*kind, path.clone(), *slot));
            }
            _ => {}
        }
    }
    outer.owner = plan.post_clone.iter().find_map(|step| match step {
        HostStep::MapIds { uids, .. } => Namespaces::outside(uids, 0),
        _ => None,
    });
    for step in plan.init.iter().filter_map(of_rootfs) {
        match step {
            RootfsStep::UseRoot { .. } => {
                bail!(
                    "linux.namespaces: CRIU can't bring back a container without a mount namespace of its own"
                )
            }
            RootfsStep::BindMount { target, source, .. } => {
                outer.mounts.push((target.clone(), source.clone()));
            }
            RootfsStep::BindDevice { path, .. } => outer.mounts.push((path.clone(), path.as_str().into())),
            RootfsStep::MaskPath { path, .. } => outer.masks.push(path.clone()),
            _ => {}
        }
    }
    Ok(outer)
}

fn of_rootfs(step: &InitStep) -> Option<&RootfsStep> {
    match step {
        InitStep::Rootfs(step) => Some(step),
        InitStep::Setup(_) | InitStep::Payload(_) | InitStep::Lifecycle(_) => None,
    }
}

/// How a container comes back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restore {
    /// Up to CRIU, which is the program.
    pub plan: Plan,
    /// For CRIU's end of the conversation.
    pub socket: FdSlot,
    /// On the host, once CRIU has made the namespaces.
    pub late: Vec<HostStep>,
}

impl Display for Restore {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)?;
        writeln!(f, "on the host, once criu has made the namespaces")?;
        self.late.iter().try_for_each(|step| writeln!(f, "  {step}"))
    }
}

/// Plans the restore of a container that `whole` would create. The root is mounted on `stage`, a directory of the host's.
pub fn restore(whole: Plan, criu: &Path, stage: &Path) -> Restore {
    let (socket, second) = (FdSlot(whole.slots), FdSlot(whole.slots + 1));
    let root = whole.init.iter().filter_map(of_rootfs).find_map(|step| match step {
        RootfsStep::AttachRoot { slot, source } => Some((*slot, source.clone())),
        _ => None,
    });
    let (first, source) = root.unwrap_or((second, PathBuf::new())); // outer() refuses those without
    let is_readonly = whole.init.iter().filter_map(of_rootfs).any(|s| *s == RootfsStep::RemountRootReadonly);
    let devices = devices(&whole.init);
    let (mut init, others): (Vec<_>, Vec<_>) = whole.init.into_iter().partition(is_criu_to_have);
    let places = places(others);

    let mut pre_clone: Vec<_> = whole.pre_clone.into_iter().filter(is_needed).collect();
    pre_clone.retain(|step| match step {
        HostStep::CloneMount { slot, .. } => *slot == first || binds(&places, *slot),
        _ => true,
    });
    pre_clone.push(HostStep::CloneMount {
        source,
        recursive: true,
        attributes: Attributes::propagating(Propagation::Slave, true),
        id_map: None,
        slot: second,
        property: "root.path".to_owned(),
    });
    let namespaces = handed_on(&pre_clone);
    let makes_network = whole.spawn.new.contains(&NamespaceKind::Network);
    let (post_clone, late) = post_clone(whole.post_clone, makes_network);

    let at = || stage.to_owned();
    let mut step = |step: RootfsStep| init.push(step.into());
    step(RootfsStep::MakeRootSlave);
    devices.into_iter().for_each(|path| step(RootfsStep::ReadonlyForCriu { path }));
    step(RootfsStep::AttachForCriu { slot: first, at: at() });
    places.into_iter().for_each(&mut step);
    step(RootfsStep::Unmount { at: at() }); //             with all that was bound only to make places in it
    step(RootfsStep::AttachForCriu { slot: second, at: at() });
    if is_readonly {
        step(RootfsStep::RemountRootReadonly); //          CRIU leaves the root's own mount as it finds it
    }
    init.push(PayloadStep::SetUmask { mask: 0o077 }.into()); // of its logs; the processes have theirs in the images
    init.push(PayloadStep::SetCloseOnExec { from: 3 }.into());
    init.push(LifecycleStep::Send { point: InitSync::Ready }.into());
    init.push(PayloadStep::ExecCriu { program: criu.to_owned(), socket, namespaces }.into());
    let spawn = Spawn {
        new: vec![NamespaceKind::Mount],
        into: whole.spawn.into,
        close_from: 3,
        keep_environment: true,
        ..Spawn::default()
    };
    let (slots, warnings, recorded) = (whole.slots + 2, whole.warnings, Recorded::default());
    Restore { plan: Plan { pre_clone, spawn, post_clone, init, recorded, slots, warnings }, socket, late }
}

/// The namespaces that CRIU inherits; it joins the others by itself.
fn handed_on(steps: &[HostStep]) -> Vec<FdSlot> {
    let slot = |step: &HostStep| match step {
        HostStep::OpenNamespace { kind: NamespaceKind::Network | NamespaceKind::Pid, slot, .. } => {
            Some(*slot)
        }
        _ => None,
    };
    steps.iter().filter_map(slot).collect()
}

/// What is done up to CRIU, and once it has made the namespaces.
fn post_clone(steps: Vec<HostStep>, makes_network: bool) -> (Vec<HostStep>, Vec<HostStep>) {
    let (last, mut first): (Vec<_>, Vec<_>) = steps
        .into_iter()
        .filter(is_needed)
        .partition(|step| matches!(step, HostStep::MoveNetDevice { .. } | HostStep::RunHooks { .. }));
    first.push(HostStep::Expect { point: InitSync::Ready });
    let loopback = makes_network.then_some(HostStep::LoopbackUp); // CRIU leaves devices to us
    (first, loopback.into_iter().chain(last).collect())
}

/// Of the host's steps, those that are not about what CRIU does itself: ids, limits of the process; nor about a gate.
fn is_needed(step: &HostStep) -> bool {
    match step {
        HostStep::MakeCgroup { .. }
        | HostStep::EnableControllers { .. }
        | HostStep::InheritCpuset { .. }
        | HostStep::WriteCgroup { .. }
        | HostStep::AttachDeviceFilter { .. }
        | HostStep::RefuseFrozen { .. }
        | HostStep::StartScope { .. }
        | HostStep::SetScopeProperties { .. }
        | HostStep::ChownCgroup { .. }
        | HostStep::OpenCgroup { .. }
        | HostStep::OpenRoot { .. }
        | HostStep::OpenNamespace { .. }
        | HostStep::CloneMount { .. }
        | HostStep::MakeRdtGroup { .. }
        | HostStep::JoinRdtGroup { .. }
        | HostStep::MoveNetDevice { .. }
        | HostStep::LoopbackUp
        | HostStep::RunHooks { .. }
        | HostStep::Send { point: HostSync::InCgroup } => true,
        HostStep::ClearDumpable
        | HostStep::CreateUserNamespace { .. }
        | HostStep::ListenAtGate
        | HostStep::MarkCreating
        | HostStep::SavePid
        | HostStep::RestorePidNamespaceForChildren
        | HostStep::SetOomScoreAdj { .. }
        | HostStep::SetAffinity { .. }
        | HostStep::MapIds { .. }
        | HostStep::SetRlimit(_)
        | HostStep::Send {
            point:
                HostSync::PidSaved
                | HostSync::IdsMapped
                | HostSync::NetDevicesMoved
                | HostSync::HooksRan
                | HostSync::RlimitsSet
                | HostSync::ListenerSent
                | HostSync::GatePublished,
        }
        | HostStep::Expect { .. }
        | HostStep::SendConsole { .. }
        | HostStep::SendSeccompListener { .. }
        | HostStep::OpenGate
        | HostStep::SaveConfig
        | HostStep::PublishGate => false,
    }
}

/// Of the steps inside, those that CRIU's own process passes on to whom it brings back.
fn is_criu_to_have(step: &InitStep) -> bool {
    match step {
        InitStep::Setup(step) => match step {
            SetupStep::JoinCgroup { .. } | SetupStep::SetKeyLabel { .. } => true,
            SetupStep::JoinSessionKeyring { .. } => true,
            SetupStep::BecomeRoot
            | SetupStep::JoinNamespace { .. }
            | SetupStep::JoinNamespacesOf { .. }
            | SetupStep::UnshareCgroup
            | SetupStep::UnshareTime { .. }
            | SetupStep::Setsid
            | SetupStep::SetHostname { .. }
            | SetupStep::SetDomainname { .. }
            | SetupStep::LoopbackUp
            | SetupStep::WriteSysctl { .. } => false,
        },
        InitStep::Lifecycle(step) => *step == LifecycleStep::Wait { point: HostSync::InCgroup },
        InitStep::Rootfs(_) | InitStep::Payload(_) => false,
    }
}

/// The host's devices that are bound, each once: masks of files are such, too. One that the container may write to stays as
/// it is, for what a user namespace gets read-only it can't have back; whoever is its root can't change it, either.
fn devices(steps: &[InitStep]) -> Vec<PathBuf> {
    let steps = || steps.iter().filter_map(of_rootfs);
    let is_left = |device: &PathBuf| {
        let is_it = |path: &ContainerPath| Path::new(path.as_str()) == device;
        steps().any(|s| matches!(s, RootfsStep::BindDevice { path, readonly: false, .. } if is_it(path)))
    };
    let device = |step: &RootfsStep| match step {
        RootfsStep::BindDevice { path, readonly: true, .. } => Some(PathBuf::from(path.as_str())),
        RootfsStep::MaskPath { .. } => Some(PathBuf::from("/dev/null")),
        _ => None,
    };
    let mut all: Vec<_> = steps().filter_map(device).collect();
    all.sort();
    all.dedup();
    all.retain(|device| !is_left(device));
    all
}

/// The places that are mounted on, and what else is made in the root or in what is bound there. Whatever lies in a
/// filesystem of the container's own comes back with that.
fn places(steps: Vec<InitStep>) -> Vec<RootfsStep> {
    let mut own: Vec<ContainerPath> = Vec::new();
    let (mut copies, mut places) = (Vec::new(), Vec::new());
    for step in steps {
        let InitStep::Rootfs(step) = step else { continue };
        let path = match &step {
            RootfsStep::CloneMount { .. } => {
                copies.push(step);
                continue;
            }
            RootfsStep::Mount(Mount { target, .. }) | RootfsStep::BindMount { target, .. } => target,
            RootfsStep::Mknod { path, .. }
            | RootfsStep::BindDevice { path, .. }
            | RootfsStep::Symlink { path, .. } => path,
            RootfsStep::MakeRootSlave
            | RootfsStep::OpenRoot
            | RootfsStep::AttachForCriu { .. }
            | RootfsStep::ReadonlyForCriu { .. }
            | RootfsStep::Unmount { .. }
            | RootfsStep::UseRoot { .. }
            | RootfsStep::AttachRoot { .. }
            | RootfsStep::Remount { .. }
            | RootfsStep::Mkdir { .. }
            | RootfsStep::ReadonlyPath { .. }
            | RootfsStep::MaskPath { .. }
            | RootfsStep::OpenConsole { .. }
            | RootfsStep::HideHostProcfs
            | RootfsStep::EnterRoot { .. }
            | RootfsStep::SetRootPropagation { .. }
            | RootfsStep::RemountRootReadonly
            | RootfsStep::CloseRoot => continue,
        };
        if own.iter().any(|mount| path.is_within(mount.as_str())) {
            continue;
        }
        places.push(match step {
            RootfsStep::Mount(Mount { target, property, .. }) => {
                own.push(target.clone());
                RootfsStep::Mkdir { path: target, property }
            }
            step => step,
        });
    }
    copies.retain(|copy| matches!(copy, RootfsStep::CloneMount { slot, .. } if binds(&places, *slot)));
    copies.append(&mut places);
    copies
}

fn binds(steps: &[RootfsStep], wanted: FdSlot) -> bool {
    steps.iter().any(|step| matches!(step, RootfsStep::BindMount { slot, .. } if *slot == wanted))
}
