//! Steps at which the new process meets the outside.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use super::sync::{HostSync, InitSync};
use super::text::run_hooks;
use super::types::{Hook, HookKind};

/// Of the new process.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "fields are named for what they are")]
pub enum LifecycleStep {
    /// Tells the host that a point is reached.
    Send { point: InitSync },
    /// Waits for the host to reach a point.
    Wait { point: HostSync },
    /// The container's hooks: createContainer and startContainer.
    RunHooks { kind: HookKind, hooks: Vec<Hook> },
    /// The start gate (container/gate.rs): of a file in the state directory, or the runtime's word.
    WaitForStart,
}

impl Display for LifecycleStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            LifecycleStep::Send { point } => write!(f, "send: {point}"),
            LifecycleStep::Wait { point } => write!(f, "wait: {point}"),
            LifecycleStep::RunHooks { kind, hooks } => run_hooks(f, *kind, hooks),
            LifecycleStep::WaitForStart => f.write_str("wait at the gate for start"),
        }
    }
}
