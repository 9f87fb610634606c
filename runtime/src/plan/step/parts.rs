//! What the steps are made of.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// A handle that the parent opens before the clone and the child inherits: an index into their common table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Slot(pub usize);

/// The points where the two processes wait for each other. Each appears once on either side of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Mark {
    /// Child to parent, first of all where a middle process stands between: the message says who sends it.
    Born = 9,
    /// Parent to child: the id maps are written.
    IdsMapped = 1,
    /// Parent to child: whoever comes after a crash of the parent's finds it.
    OnRecord = 13,
    /// Parent to child: the host's network devices are there.
    DevicesMoved = 10,
    /// Child to parent: the namespaces and mounts stand, the root is not yet pivoted.
    HooksDue = 2,
    /// Parent to child: every limit holds, and the host's hooks ran.
    HooksRan,
    /// Child to parent: carries the master end of the terminal.
    Console,
    /// Child to parent: nothing is left to do that a resource limit could be in the way of.
    LimitsDue = 11,
    /// Parent to child: they are set.
    Limited = 12,
    /// Child to parent: carries the number of the seccomp listener.
    Listener = 5,
    /// Child to parent: everything is done but the gate.
    Ready,
    /// Parent to child: it is in its cgroup, and every limit holds.
    Attached,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mark::Born => "its birth",
            Mark::IdsMapped => "the id maps",
            Mark::OnRecord => "its record",
            Mark::DevicesMoved => "the network devices",
            Mark::HooksDue => "the moment for hooks",
            Mark::HooksRan => "the host's hooks",
            Mark::Console => "the terminal",
            Mark::LimitsDue => "the moment for resource limits",
            Mark::Limited => "the resource limits",
            Mark::Listener => "the seccomp listener",
            Mark::Ready => "readiness",
            Mark::Attached => "its cgroup",
        })
    }
}

/// One of getrlimit(2)'s, by its name and number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "as in the document")]
pub struct Rlimit {
    pub name: String,
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

impl fmt::Display for Rlimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}:{}", self.name, self.soft, self.hard)
    }
}

/// The kinds of hooks, in the order of their lives (config.md#posix-platform-hooks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the spec's own names")]
pub enum HookKind {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HookKind::Prestart => "prestart",
            HookKind::CreateRuntime => "createRuntime",
            HookKind::CreateContainer => "createContainer",
            HookKind::StartContainer => "startContainer",
            HookKind::Poststart => "poststart",
            HookKind::Poststop => "poststop",
        })
    }
}

/// One hook: `timeout` in seconds, `args` including argv\[0\].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[allow(missing_docs, reason = "the spec's own names")]
pub struct Hook {
    pub path: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub timeout: Option<u32>,
}

/// A range of ids, as a line of `/proc/PID/uid_map` (user_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[allow(missing_docs, reason = "the three columns of the file")]
pub struct IdRange {
    pub inside: u32,
    pub outside: u32,
    pub size: u32,
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.size)
    }
}

/// How a mount shows owners: as the user namespace in `slot` maps them (MOUNT_ATTR_IDMAP, Linux 5.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "said above")]
pub struct IdMap {
    pub slot: Slot,
    pub recursive: bool,
}

/// Who writes the id maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapper {
    /// The runtime may map any id.
    Ourselves,
    /// An ordinary user maps his own ids, and gives up setgroups(2) for it (Linux 3.19).
    WithoutGroups,
    /// newuidmap(1) and newgidmap(1) know which ids the user may map.
    Helpers,
}

/// What to do when a cgroup has no such file: some come and go with kernel options that no fact tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IfMissing {
    /// The limit can't be set here.
    Fail,
    /// Nothing was asked that its absence doesn't already give.
    Skip,
    /// The same wish in the words of another file.
    Instead {
        /// The other file.
        file: String,
        /// Its writes.
        values: Vec<String>,
    },
}

/// A parameter of a new filesystem (fsconfig(2)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "fsconfig's two textual kinds")]
pub enum Parameter {
    Flag(String),
    Value(String, String),
}

/// A device node as mknod(2) wants it. `mode` holds the permission bits only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the spec's own names")]
pub struct Node {
    pub kind: NodeKind,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// config-linux.md#devices: `c` and `u`, `b`, `p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the spec's own names")]
pub enum NodeKind {
    Character,
    Block,
    Fifo,
}

/// How the root directory becomes `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// pivot_root(2): the host's tree is gone afterwards.
    Pivot,
    /// For a root that pivot_root refuses (an initramfs): chroot over it, `--no-pivot`.
    Move,
    /// Without a mount namespace of its own there is nothing to pivot.
    Chroot,
}

/// What sched_setattr(2) wants: SCHED_* and SCHED_FLAG_* by number; times in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct Scheduler {
    pub name: String,
    #[serde(skip)]
    pub policy: u32,
    pub nice: i32,
    pub priority: u32,
    pub flags: u64,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "be scheduled as {}, nice {}", self.name, self.nice)?;
        if self.priority != 0 {
            write!(f, ", priority {}", self.priority)?;
        }
        if self.flags != 0 {
            write!(f, ", flags {:#x}", self.flags)?;
        }
        if self.runtime != 0 {
            write!(f, ", {} of {} ns each {} ns", self.runtime, self.deadline, self.period)?;
        }
        Ok(())
    }
}

/// A set of small numbers: as the document writes it, and a bit each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
#[allow(missing_docs, reason = "said above")]
pub struct Numbers {
    pub text: String,
    pub words: Vec<u64>,
}

impl From<Numbers> for String {
    fn from(numbers: Numbers) -> String {
        numbers.text
    }
}

/// What set_mempolicy(2) wants: MPOL_* by number, the mode's flags included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "said above")]
pub struct MemoryPolicy {
    pub name: String,
    pub words: Vec<String>,
    #[serde(skip)]
    pub mode: u32,
    pub nodes: Numbers,
}

impl fmt::Display for MemoryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "take memory by {}", self.name)?;
        if !self.nodes.words.is_empty() {
            write!(f, " of nodes {}", self.nodes.text)?;
        }
        self.words.iter().try_for_each(|flag| write!(f, ", {flag}"))
    }
}
