//! The new process and the container's cgroups: what must hold before it joins them, how it does, whose they are.

use std::path::PathBuf;

use ::cgroup::layout::{Hierarchy, Version};

use crate::plan::draft::Draft;
use crate::plan::namespaces::Namespaces;
use crate::plan::step::{HostStep, SetupStep};
use crate::spec::NamespaceKind;

/// A check of each directory that can be frozen.
pub(in crate::plan) fn refuse_frozen(draft: &Draft<'_>) -> Vec<HostStep> {
    if draft.recorded.scope.is_some() {
        return Vec::new(); // systemd has yet to make it
    }
    let freezes = |hierarchy: &Hierarchy| match hierarchy.version {
        Version::V2 => Some("cgroup.events"),
        Version::V1 => hierarchy.controllers.iter().any(|c| c == "freezer").then_some("freezer.state"),
    };
    let all = draft.facts.cgroups.hierarchies.iter().zip(&draft.recorded.cgroups);
    all.filter_map(|(hierarchy, dir)| {
        Some(HostStep::RefuseFrozen { dir: dir.clone(), file: freezes(hierarchy)? })
    })
    .collect()
}

/// config-linux.md#cgroup-ownership: v2, a new cgroup namespace and a writable mount of it.
pub(in crate::plan) fn chown(draft: &Draft<'_>) -> Option<HostStep> {
    let writable = draft.spec.mounts.iter().any(|m| {
        &*m.destination == "/sys/fs/cgroup"
            && matches!(&*m.kind, "cgroup" | "cgroup2")
            && !m.options.iter().any(|o| &**o == "ro")
    });
    if !writable
        || draft.facts.needs_user_namespace() // who maps only his own ids owns it already
        || !draft.namespaces.makes(NamespaceKind::Cgroup)
        || !draft.namespaces.makes(NamespaceKind::User)
    {
        return None;
    }
    let id = |ranges| Namespaces::outside(ranges, 0);
    let (uid, gid) = (id(&draft.namespaces.uids)?, id(&draft.namespaces.gids)?);
    let mut v2 = draft.facts.cgroups.hierarchies.iter().zip(&draft.recorded.cgroups);
    let (_, dir) = v2.find(|(h, _)| h.version == Version::V2)?;
    Some(HostStep::ChownCgroup { dir: dir.clone(), uid, gid })
}

/// The v1 directories, into which no process can be cloned.
pub(in crate::plan) fn join(draft: &mut Draft<'_>, dirs: Vec<PathBuf>) {
    for dir in dirs {
        let slot = draft.slot();
        draft.pre_clone.push(HostStep::OpenCgroup { dir: dir.clone(), slot });
        draft.step(SetupStep::JoinCgroup { dir, slot });
    }
}
