//! The steps. Two enums, so that a host step cannot be run inside, and the reverse.
//!
//! A step's `Display` is its only text: errors, `ampoule plan`, `--debug` and the golden files all print it.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::attributes::Attributes;
use super::identity::Credentials;
use super::path::ContainerPath;
use crate::spec::NamespaceKind;

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
    /// Child to parent: the namespaces and mounts stand, the root is not yet pivoted.
    HooksDue,
    /// Parent to child: every limit holds, and the host's hooks ran.
    HooksRan,
    /// Child to parent: carries the master end of the terminal.
    Console,
    /// Child to parent: everything is done but the gate.
    Ready,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mark::Born => "its birth",
            Mark::IdsMapped => "the id maps",
            Mark::HooksDue => "the moment for hooks",
            Mark::HooksRan => "the host's hooks",
            Mark::Console => "the terminal",
            Mark::Ready => "readiness",
        })
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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

/// A step on the host, before or after the clone.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "Display says what each one is")]
pub enum Outside {
    MakeCgroup {
        dir: PathBuf,
    },
    /// `dir` is the parent whose children get the controllers.
    EnableControllers {
        dir: PathBuf,
        controllers: Vec<String>,
        required: Vec<String>,
    },
    /// v1's cpuset starts empty and refuses processes until it is filled (cgroup-v1/cpusets.rst).
    InheritCpuset {
        dir: PathBuf,
    },
    /// `property` is the JSON path that asked for it. Several values are several writes, in order.
    WriteCgroup {
        dir: PathBuf,
        file: String,
        values: Vec<String>,
        property: String,
        missing: IfMissing,
    },
    /// The BPF program of a v2 cgroup's device rules, one `u64` an instruction.
    LimitDevices {
        dir: PathBuf,
        #[serde(skip)]
        program: Vec<u64>,
        rules: usize,
    },
    OwnCgroup {
        dir: PathBuf,
        uid: u32,
        gid: u32,
    },
    /// For the new process to enter: it can't reach the path once it is in namespaces of its own.
    OpenCgroup {
        dir: PathBuf,
        slot: Slot,
    },
    /// Who is in a user namespace already is almighty over those who join it, until they exec (CVE-2016-9962).
    ForbidTracing,
    /// The root directory itself, where there is no mount namespace to attach a copy in.
    OpenRoot {
        path: PathBuf,
        slot: Slot,
    },
    OpenNamespace {
        kind: NamespaceKind,
        path: PathBuf,
        slot: Slot,
    },
    /// A detached copy of a mount (or of a tree of them), to be attached inside.
    CloneTree {
        source: PathBuf,
        recursive: bool,
        attributes: Attributes,
        slot: Slot,
        property: String,
    },
    /// Offsets can be written only while nobody is in the namespace, so the parent makes it for its next child.
    OffsetClocks {
        offsets: Vec<(String, i64, u32)>,
    },
    /// The next child is born into the pid namespace; a process cannot change its own.
    EnterPidNamespace {
        slot: Slot,
    },
    /// Children born from here on, hooks among them, belong to the host's namespaces again.
    LeaveNamespaces {
        kinds: Vec<NamespaceKind>,
    },
    OomScore {
        value: i32,
    },
    MapIds {
        uids: Vec<IdRange>,
        gids: Vec<IdRange>,
        by: Mapper,
    },
    RunHooks {
        kind: HookKind,
        hooks: Vec<Hook>,
    },
    Tell {
        mark: Mark,
    },
    Hear {
        mark: Mark,
    },
    PassConsole {
        socket: PathBuf,
    },
}

/// How the new process comes to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spawn {
    /// Namespaces that the clone itself makes.
    pub new: Vec<NamespaceKind>,
    /// The v2 cgroup that it is born into (clone3's CLONE_INTO_CGROUP, Linux 5.7).
    pub into: Option<PathBuf>,
    /// A middle process joins this user namespace first, so that the new namespaces belong to it.
    pub via: Option<Slot>,
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

/// A step in the new process.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "Display says what each one is")]
pub enum Inside {
    Await {
        mark: Mark,
    },
    Tell {
        mark: Mark,
    },
    EnterCgroup {
        dir: PathBuf,
        slot: Slot,
    },
    BecomeRoot,
    Join {
        kind: NamespaceKind,
        slot: Slot,
    },
    NewCgroupNamespace,
    NewSession,
    SessionKeyring {
        name: String,
    },
    Hostname {
        name: String,
    },
    Domainname {
        name: String,
    },
    LoopbackUp,
    Sysctl {
        key: String,
        value: String,
    },
    /// What happens to mounts inside stays inside.
    Isolate,
    /// As the host's step of that name, where only the new process may do it.
    CloneTree {
        source: PathBuf,
        recursive: bool,
        attributes: Attributes,
        slot: Slot,
        property: String,
    },
    UseRoot {
        slot: Slot,
    },
    AttachRoot {
        slot: Slot,
        source: PathBuf,
    },
    Mount {
        kind: String,
        source: String,
        parameters: Vec<Parameter>,
        attributes: Attributes,
        target: ContainerPath,
        copy_up: bool,
        property: String,
    },
    Bind {
        slot: Slot,
        source: PathBuf,
        target: ContainerPath,
        property: String,
    },
    SetAttributes {
        target: ContainerPath,
        attributes: Attributes,
        property: String,
    },
    MakeNode {
        path: ContainerPath,
        node: Node,
        property: String,
    },
    BindNode {
        path: ContainerPath,
        node: Node,
        property: String,
    },
    Symlink {
        path: ContainerPath,
        to: String,
    },
    ReadonlyPath {
        path: ContainerPath,
    },
    MaskPath {
        path: ContainerPath,
    },
    RunHooks {
        kind: HookKind,
        hooks: Vec<Hook>,
    },
    Console {
        size: Option<(u16, u16)>,
        node: bool,
    },
    Enter {
        how: Entry,
    },
    RootPropagation {
        attributes: Attributes,
    },
    ReadonlyRoot,
    Rlimit {
        name: String,
        resource: u32,
        soft: u64,
        hard: u64,
    },
    Umask {
        mask: u32,
    },
    MakeDirectory {
        path: ContainerPath,
        property: String,
    },
    WorkingDirectory {
        path: ContainerPath,
    },
    Credentials(Credentials),
    NoNewPrivileges,
    /// runc sets HOME from the container's /etc/passwd where the document does not.
    Home {
        uid: u32,
    },
    CloseOnExec {
        from: u32,
    },
    FindProgram {
        name: String,
    },
    Gate,
    Exec {
        args: Vec<String>,
        env: Vec<String>,
    },
}
