//! What is kept of a plan for as long as the container is there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::cgroup::Cgroups;
use super::draft::Draft;
use super::hooks;
use super::step::{Hook, HookKind};
use super::systemd::Scope;
use crate::spec::NamespaceKind;

/// What the record holds of the plan: where to find what it makes, and what is done later.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Recorded {
    /// Its cgroup in every hierarchy.
    pub cgroups: Vec<PathBuf>,
    /// The one of them that is in the v2 hierarchy.
    pub cgroup2: Option<PathBuf>,
    /// Its own groups of the resctrl filesystem, each before the one that it is in.
    pub rdt_groups: Vec<PathBuf>,
    /// The unit that systemd keeps for them.
    pub scope: Option<Scope>,
    /// Whether its processes have a session keyring of the container's.
    pub keyring: bool,
    /// Whether killing the init ends every process of the container.
    pub own_pid_namespace: bool,
    /// The document's annotations.
    pub annotations: BTreeMap<String, String>,
    /// What is run once it is started.
    pub poststart: Vec<Hook>,
    /// What is run once it is deleted.
    pub poststop: Vec<Hook>,
}

/// Of a plan that has got these cgroups. Groups of resctrl are added where they are planned.
pub(super) fn recorded(draft: &Draft<'_>, cgroups: &Cgroups) -> Result<Recorded> {
    // A scope is v2's alone.
    let scoped = cgroups.scope.as_ref().and(cgroups.dirs.first());
    Ok(Recorded {
        cgroups: cgroups.dirs.clone(),
        cgroup2: cgroups.into.as_ref().or(scoped).cloned(),
        rdt_groups: Vec::new(),
        scope: cgroups.scope.clone(),
        keyring: !draft.options.no_new_keyring,
        own_pid_namespace: draft.namespaces.makes(NamespaceKind::Pid),
        annotations: draft.spec.annotations.0.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        poststart: hooks::of(draft.spec, HookKind::Poststart)?,
        poststop: hooks::of(draft.spec, HookKind::Poststop)?,
    })
}
