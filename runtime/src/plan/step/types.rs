//! What the steps are made of.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::plan::attributes::Attributes;
use crate::plan::path::ContainerPath;

/// A descriptor that the host opens before the clone and the new process inherits: an index into their common table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FdSlot(pub usize);

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
        write!(f, "{} {}:{}", self.name, self.soft, self.hard)
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

impl HookKind {
    /// The container's status that hooks of this kind are told (runtime.md#lifecycle).
    pub fn status(self) -> &'static str {
        match self {
            // The namespaces stand, the program does not run yet.
            HookKind::Prestart | HookKind::CreateRuntime | HookKind::CreateContainer => "creating",
            HookKind::StartContainer => "created",
            HookKind::Poststart => "running",
            HookKind::Poststop => "stopped",
        }
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
    pub slot: FdSlot,
    pub recursive: bool,
}

/// Who writes the id maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdMapper {
    /// The runtime may map any id.
    Runtime,
    /// An ordinary user maps his own ids, and gives up setgroups(2) for it (Linux 3.19).
    WithoutSetgroups,
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

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Parameter::Flag(name) => f.write_str(name),
            Parameter::Value(name, value) => write!(f, "{name}={value}"),
        }
    }
}

/// A filesystem of the container's own.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "as in the document")]
pub struct Mount {
    pub kind: String,
    pub source: String,
    pub parameters: Vec<Parameter>,
    pub attributes: Attributes,
    pub target: ContainerPath,
    /// With a copy of what the root has there.
    pub copy_up: bool,
    /// The JSON path that asked for it.
    pub property: String,
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mount {} on {}{}", self.kind, self.target, self.attributes)?;
        self.parameters.iter().try_for_each(|p| write!(f, " {p}"))?;
        f.write_str(if self.copy_up { ", copying up what is there" } else { "" })
    }
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

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            NodeKind::Fifo => f.write_str("p")?,
            NodeKind::Character => write!(f, "c {}:{}", self.major, self.minor)?,
            NodeKind::Block => write!(f, "b {}:{}", self.major, self.minor)?,
        }
        write!(f, " {:04o} {}:{}", self.mode, self.uid, self.gid)
    }
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
#[serde(rename_all = "kebab-case")]
pub enum RootEntry {
    /// pivot_root(2): the host's tree is gone afterwards.
    PivotRoot,
    /// Without a mount namespace of its own there is nothing to pivot; with `--no-pivot`, for a host whose root is an
    /// initramfs, the root is mounted over `/` already.
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
        write!(f, "set scheduler {}, nice {}", self.name, self.nice)?;
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

/// CPUs or memory nodes: in cpuset(7)'s list format, as the document has them, and a bit each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
#[allow(missing_docs, reason = "said above")]
pub struct NumberList {
    pub text: String,
    pub words: Vec<u64>,
}

/// CPUs.
pub type CpuSet = NumberList;
/// Memory nodes (numa(7)).
pub type NodeSet = NumberList;

impl From<NumberList> for String {
    fn from(list: NumberList) -> String {
        list.text
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
    pub nodes: NodeSet,
}

impl fmt::Display for MemoryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set memory policy {}", self.name)?;
        if !self.nodes.words.is_empty() {
            write!(f, " of nodes {}", self.nodes.text)?;
        }
        self.words.iter().try_for_each(|flag| write!(f, ", {flag}"))
    }
}
