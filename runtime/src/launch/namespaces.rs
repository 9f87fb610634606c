//! Namespaces of a process that is there already.

use std::fs::{self, File};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};

use crate::spec::NamespaceKind;

/// clone3's, setns's and unshare's flag for a namespace.
pub(super) fn flag(kind: NamespaceKind) -> CloneFlags {
    match kind {
        NamespaceKind::User => CloneFlags::CLONE_NEWUSER,
        NamespaceKind::Pid => CloneFlags::CLONE_NEWPID,
        NamespaceKind::Network => CloneFlags::CLONE_NEWNET,
        NamespaceKind::Mount => CloneFlags::CLONE_NEWNS,
        NamespaceKind::Ipc => CloneFlags::CLONE_NEWIPC,
        NamespaceKind::Uts => CloneFlags::CLONE_NEWUTS,
        NamespaceKind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        NamespaceKind::Time => CloneFlags::from_bits_retain(libc::CLONE_NEWTIME),
    }
}

/// Enters one of this process's own, which it is known by in `/proc/self/ns`: the one that is there for its children,
/// or the one that it is in, so that its children are in that one again.
pub(super) fn enter_own(name: &str) -> Result<()> {
    let path = format!("/proc/self/ns/{name}");
    let own = File::open(&path).with_context(|| format!("open {path}"))?;
    setns(own, CloneFlags::empty()).context("setns")
}

/// time_namespaces(7): unshare makes it for the next child, and offsets can be written until a process is in it. The
/// process enters it itself, which one without threads may (setns(2)).
pub(super) fn offset_clocks(offsets: &[(String, i64, u32)]) -> Result<()> {
    unshare(flag(NamespaceKind::Time)).context("unshare")?;
    let path = "/proc/self/timens_offsets";
    let lines: String = offsets.iter().map(|(clock, s, ns)| format!("{clock} {s} {ns}\n")).collect();
    fs::write(path, lines).with_context(|| format!("write {path}"))?;
    enter_own("time_for_children")
}
