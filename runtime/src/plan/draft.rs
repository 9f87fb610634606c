//! A plan in the making.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::attributes::Attributes;
use super::namespaces::{self, Namespaces};
use super::step::{FdSlot, HostStep, IdMap, IdRange, InitStep, RootfsStep, Spawn};
use super::{Options, Plan, Recorded};
use crate::facts::Facts;
use crate::spec::Spec;

/// What is planned from, and what is planned so far.
pub(super) struct Draft<'a> {
    pub(super) id: &'a str,
    pub(super) bundle: &'a Path,
    /// The root filesystem's directory on the host; empty until [`super::create`] or [`super::exec`] fills it.
    pub(super) rootfs: PathBuf,
    pub(super) spec: &'a Spec<'a>,
    pub(super) facts: &'a Facts,
    pub(super) options: &'a Options,
    pub(super) namespaces: Namespaces,
    pub(super) pre_clone: Vec<HostStep>,
    pub(super) spawn: Spawn,
    pub(super) post_clone: Vec<HostStep>,
    pub(super) init: Vec<InitStep>,
    /// What the record keeps; empty until `order::create` has planned the cgroups, and always for `exec`.
    pub(super) recorded: Recorded,
    /// The user namespaces that mounts with these maps share.
    pub(super) id_maps: BTreeMap<(Vec<IdRange>, Vec<IdRange>), FdSlot>,
    /// How many slots [`Draft::slot`] has given, and so the next one's index.
    slots: usize,
    warnings: Vec<String>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        id: &'a str,
        spec: &'a Spec<'a>,
        facts: &'a Facts,
        options: &'a Options,
    ) -> Result<Self> {
        Ok(Draft {
            id,
            bundle: Path::new(""),
            rootfs: PathBuf::new(),
            spec,
            facts,
            options,
            namespaces: namespaces::namespaces(spec)?,
            pre_clone: Vec::new(),
            spawn: Spawn::default(),
            post_clone: Vec::new(),
            init: Vec::with_capacity(64),
            recorded: Recorded::default(),
            id_maps: BTreeMap::new(),
            slots: 0,
            warnings: Vec::new(),
        })
    }

    pub(super) fn finish(self) -> Plan {
        Plan {
            pre_clone: self.pre_clone,
            spawn: self.spawn,
            post_clone: self.post_clone,
            init: self.init,
            recorded: self.recorded,
            warnings: self.warnings,
            slots: self.slots,
        }
    }

    pub(super) fn slot(&mut self) -> FdSlot {
        self.slots += 1;
        FdSlot(self.slots - 1)
    }

    pub(super) fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// Adds a step of the new process.
    pub(super) fn step(&mut self, step: impl Into<InitStep>) {
        self.init.push(step.into());
    }

    /// Adds steps of the new process.
    pub(super) fn steps<S: Into<InitStep>>(&mut self, steps: impl IntoIterator<Item = S>) {
        self.init.extend(steps.into_iter().map(Into::into));
    }

    /// A detached copy of mounts of the host's tree. The runtime makes it before the clone: in a user namespace its path
    /// may not be walkable. The new process makes it where the runtime can't: with `needs_user_namespace()`, since that
    /// user may copy mounts only in a mount namespace of his own; and of a scope's cgroup, which systemd makes after the
    /// clone. A copy with mapped ids is always the runtime's to make.
    pub(super) fn clone_mount(
        &mut self,
        source: PathBuf,
        recursive: bool,
        attributes: Attributes,
        id_map: Option<IdMap>,
        property: String,
    ) -> FdSlot {
        let slot = self.slot();
        let is_of_scope = self.recorded.scope.is_some() && self.recorded.cgroups.contains(&source);
        if id_map.is_none() && (self.facts.needs_user_namespace() || is_of_scope) {
            self.step(RootfsStep::CloneMount { source, recursive, attributes, slot, property });
        } else {
            let step = HostStep::CloneMount { source, recursive, attributes, id_map, slot, property };
            self.pre_clone.push(step);
        }
        slot
    }
}
