//! The words that the planner knows: for `features`, which must not promise others.

use super::seccomp;
use super::{attributes, mounts, scheduling};

/// Every option of `mounts[].options` that is not a filesystem's own, sorted.
pub fn mount_options() -> Vec<String> {
    let mut all = attributes::options();
    all.extend(mounts::OPTIONS.iter().flat_map(|part| part.iter()).map(|o| (*o).to_owned()));
    all.sort();
    all.dedup();
    all
}

/// `linux.seccomp`: actions, operators, flags, and the architectures that this build's kernels run.
#[allow(missing_docs, reason = "the spec's own names")]
pub struct Seccomp {
    pub actions: Vec<&'static str>,
    pub operators: Vec<&'static str>,
    /// With its SECCOMP_FILTER_FLAG_*.
    pub flags: &'static [(&'static str, u32)],
    pub archs: Vec<&'static str>,
}

/// The words of `linux.seccomp`.
pub fn seccomp() -> Seccomp {
    seccomp::words()
}

/// The modes and flags of `linux.memoryPolicy`, with their numbers for set_mempolicy(2).
pub fn memory_policy() -> [&'static [(&'static str, u64)]; 2] {
    [scheduling::MEMORY_MODES, scheduling::MEMORY_FLAGS]
}
