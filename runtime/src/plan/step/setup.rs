//! Steps of the new process about what it is a part of.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use serde::Serialize;

use super::types::FdSlot;
use crate::plan::namespaces::name;
use crate::spec::NamespaceKind;

/// Of the new process.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "fields are named for what they are")]
pub enum SetupStep {
    /// On v1, into whose groups no process can be cloned.
    JoinCgroup { dir: PathBuf, slot: FdSlot },
    /// Of the user namespace.
    BecomeRoot,
    /// One that the host has opened.
    JoinNamespace { kind: NamespaceKind, slot: FdSlot },
    /// All those of a process, by its pidfd (setns(2), Linux 5.8).
    JoinNamespacesOf { kinds: Vec<NamespaceKind>, init: i32, slot: FdSlot },
    /// Once it is where its root is to be.
    UnshareCgroup,
    /// A time namespace, with each clock's offset: seconds, and nanoseconds to add to them.
    UnshareTime { offsets: Vec<(String, i64, u32)> },
    /// No controlling terminal of the caller's.
    Setsid,
    /// A new one, so that it has no keys of the caller's.
    JoinSessionKeyring { name: String },
    /// Of the keys that this process makes, up to exec.
    SetKeyLabel { label: String },
    /// In its uts namespace.
    SetHostname { name: String },
    /// In its uts namespace.
    SetDomainname { name: String },
    /// In its network namespace, as every runtime does.
    LoopbackUp,
    /// A kernel parameter of one of its namespaces.
    WriteSysctl { key: String, value: String },
}

impl Display for SetupStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            SetupStep::JoinCgroup { dir, .. } => write!(f, "join cgroup {}", dir.display()),
            SetupStep::BecomeRoot => f.write_str("set uid 0 and gid 0 of the user namespace"),
            SetupStep::JoinNamespace { kind, .. } => write!(f, "join the {} namespace", name(*kind)),
            SetupStep::JoinNamespacesOf { kinds, init, .. } => {
                let kinds: Vec<_> = kinds.iter().map(|kind| name(*kind)).collect();
                write!(f, "join the {} namespaces of process {init}", kinds.join(","))
            }
            SetupStep::UnshareCgroup => f.write_str("unshare the cgroup namespace"),
            SetupStep::UnshareTime { offsets } => {
                f.write_str("unshare the time namespace")?;
                offsets.iter().try_for_each(|(clock, s, ns)| write!(f, ", {clock} {s:+} s {ns:+} ns"))
            }
            SetupStep::Setsid => f.write_str("setsid"),
            SetupStep::JoinSessionKeyring { name } => write!(f, "join session keyring {name}"),
            SetupStep::SetKeyLabel { label } => write!(f, "set the SELinux label of keys {label}"),
            SetupStep::SetHostname { name } => write!(f, "set hostname {name}"),
            SetupStep::SetDomainname { name } => write!(f, "set domainname {name}"),
            SetupStep::LoopbackUp => f.write_str("bring up lo"),
            SetupStep::WriteSysctl { key, value } => write!(f, "write {value} to /proc/sys/{key}"),
        }
    }
}

impl SetupStep {
    /// The JSON path that asked for the step; empty when none did.
    pub fn json_path(&self) -> &str {
        match self {
            SetupStep::JoinNamespace { .. } => "linux.namespaces",
            SetupStep::UnshareTime { .. } => "linux.timeOffsets",
            SetupStep::SetKeyLabel { .. } => "process.selinuxLabel",
            SetupStep::SetHostname { .. } => "hostname",
            SetupStep::SetDomainname { .. } => "domainname",
            SetupStep::WriteSysctl { .. } => "linux.sysctl",
            SetupStep::JoinCgroup { .. }
            | SetupStep::BecomeRoot
            | SetupStep::JoinNamespacesOf { .. }
            | SetupStep::UnshareCgroup
            | SetupStep::Setsid
            | SetupStep::JoinSessionKeyring { .. }
            | SetupStep::LoopbackUp => "",
        }
    }
}
