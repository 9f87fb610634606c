//! The steps: what a plan is made of, and all that a launch does.
//!
//! A step of the host and one of the new process are of different types, so neither can be run in the other's place;
//! those of the new process are three enums by stage, and one for where it meets the outside. Each stands in a file of
//! its own with its text, which is its only one: errors, `ampoule plan`, `--debug` and the golden files all print it.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use serde::Serialize;

mod host;
mod lifecycle;
mod payload;
mod rootfs;
mod setup;
mod sync;
mod text;
mod types;

pub use host::HostStep;
pub use lifecycle::LifecycleStep;
pub use payload::PayloadStep;
pub use rootfs::RootfsStep;
pub use setup::SetupStep;
pub use sync::{HostSync, InitSync};
pub use types::{
    CpuSet, FdSlot, Hook, HookKind, IdMap, IdMapper, IdRange, IfMissing, MemoryPolicy, Mount, Node, NodeKind,
    NodeSet, NumberList, Parameter, Rlimit, RootEntry, Scheduler,
};

use super::namespaces::name;
use crate::spec::NamespaceKind;

/// A step in the new process.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum InitStep {
    /// What it is a part of: cgroups, namespaces, session, names.
    Setup(SetupStep),
    /// Its tree of mounts.
    Rootfs(RootfsStep),
    /// Who it becomes.
    Payload(PayloadStep),
    /// Where it meets the outside.
    Lifecycle(LifecycleStep),
}

impl InitStep {
    /// The JSON path that asked for the step; empty when none did.
    pub fn json_path(&self) -> &str {
        match self {
            InitStep::Setup(step) => step.json_path(),
            InitStep::Rootfs(step) => step.json_path(),
            InitStep::Payload(step) => step.json_path(),
            InitStep::Lifecycle(_) => "",
        }
    }
}

impl Display for InitStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            InitStep::Setup(step) => step.fmt(f),
            InitStep::Rootfs(step) => step.fmt(f),
            InitStep::Payload(step) => step.fmt(f),
            InitStep::Lifecycle(step) => step.fmt(f),
        }
    }
}

impl From<SetupStep> for InitStep {
    fn from(step: SetupStep) -> Self {
        InitStep::Setup(step)
    }
}

impl From<RootfsStep> for InitStep {
    fn from(step: RootfsStep) -> Self {
        InitStep::Rootfs(step)
    }
}

impl From<PayloadStep> for InitStep {
    fn from(step: PayloadStep) -> Self {
        InitStep::Payload(step)
    }
}

impl From<LifecycleStep> for InitStep {
    fn from(step: LifecycleStep) -> Self {
        InitStep::Lifecycle(step)
    }
}

/// How the new process comes to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spawn {
    /// Namespaces that the clone itself makes.
    pub new: Vec<NamespaceKind>,
    /// The v2 cgroup that it is cloned into (clone3's CLONE_INTO_CGROUP, Linux 5.7).
    pub into: Option<PathBuf>,
    /// The container's init, for `exec`: the process is cloned into its cgroup where `into` takes no processes, since the
    /// container has divided it. (`ampoule plan --json` has it as `neighbor`.)
    pub cgroup_of: Option<i32>,
    /// Namespaces that have to be joined before the clone: user, so that the new ones belong to it; pid, because no
    /// process can change its own. A user namespace can't be left again, so an intermediate process joins them.
    pub join: Vec<(NamespaceKind, FdSlot)>,
    /// The first of the descriptors that the process closes at once, whatever they are: those below are the payload's.
    pub close_from: u32,
    /// It is to run a program of the caller's, not the container's.
    pub keep_environment: bool,
}

impl Spawn {
    /// Whether it takes an intermediate process.
    pub fn has_intermediate(&self) -> bool {
        self.join.iter().any(|(kind, _)| *kind == NamespaceKind::User)
    }
}

impl Display for Spawn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.new.iter().map(|k| name(*k)).collect();
        f.write_str("clone3")?;
        if !kinds.is_empty() {
            write!(f, " with new {}", kinds.join(","))?;
        }
        if let Some(dir) = &self.into {
            write!(f, " into {}", dir.display())?;
        }
        if !self.join.is_empty() {
            let kinds: Vec<_> = self.join.iter().map(|(kind, _)| name(*kind)).collect();
            write!(f, " in the joined {} namespace", kinds.join(" and "))?;
        }
        write!(f, ", close descriptors from {}", self.close_from)?;
        f.write_str(if self.keep_environment { "" } else { ", clear the environment" })
    }
}
