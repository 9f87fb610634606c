//! The steps. Two enums, so that a host step cannot be run inside, and the reverse.
//!
//! A step's `Display` is its only text: errors, `ampoule plan`, `--debug` and the golden files all print it.

use std::path::PathBuf;

use serde::Serialize;

mod parts;

pub use parts::{
    Entry, Hook, HookKind, IdMap, IdRange, IfMissing, Mapper, Mark, MemoryPolicy, Node, NodeKind, Numbers,
    Parameter, Rlimit, Scheduler, Slot,
};

use super::attributes::Attributes;
use super::identity::Credentials;
use super::path::ContainerPath;
use super::seccomp::Filter;
use super::systemd::{Property, Scope};
use crate::spec::NamespaceKind;

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
    /// What is born into a frozen group never says a word. `file` tells whether it is.
    RefuseFrozen {
        dir: PathBuf,
        file: &'static str,
    },
    /// systemd makes `dir` and moves the new process into it.
    StartScope {
        scope: Scope,
        dir: PathBuf,
        properties: Vec<Property>,
    },
    SetProperties {
        scope: Scope,
        properties: Vec<Property>,
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
    /// Those who are in a user or pid namespace already may read and trace whoever joins it, and until its exec that is
    /// the runtime's program, with what it has of the host (CVE-2016-9962).
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
    /// A user namespace for its map only: nobody lives in it.
    MakeIdMap {
        uids: Vec<IdRange>,
        gids: Vec<IdRange>,
        slot: Slot,
    },
    /// A detached copy of a mount (or of a tree of them), to be attached inside.
    CloneTree {
        source: PathBuf,
        recursive: bool,
        attributes: Attributes,
        id_map: Option<IdMap>,
        slot: Slot,
        property: String,
    },
    /// Children born from here on, hooks among them, belong to the host's pid namespace again.
    LeavePidNamespace,
    OomScore {
        value: i32,
    },
    /// `shared`: a class of service, which other containers may be in.
    RdtGroup {
        dir: PathBuf,
        schemata: Vec<String>,
        shared: bool,
    },
    EnterRdtGroup {
        dir: PathBuf,
    },
    /// `namespace`: one that is joined; otherwise the new process's.
    MoveDevice {
        device: String,
        name: Option<String>,
        namespace: Option<Slot>,
    },
    /// In the network namespace of the process.
    LoopbackUp,
    /// The runtime itself, and who is born from it.
    RunOn {
        cpus: Numbers,
    },
    MapIds {
        uids: Vec<IdRange>,
        gids: Vec<IdRange>,
        by: Mapper,
    },
    Rlimit(Rlimit),
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
    /// config-linux.md#containerprocessstate. `init`: the container's, when the listener is another process's.
    PassListener {
        socket: PathBuf,
        metadata: String,
        init: Option<i32>,
    },
}

/// How the new process comes to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spawn {
    /// Namespaces that the clone itself makes.
    pub new: Vec<NamespaceKind>,
    /// The v2 cgroup that it is born into (clone3's CLONE_INTO_CGROUP, Linux 5.7).
    pub into: Option<PathBuf>,
    /// A process whose cgroup will do where that one takes no more.
    pub neighbor: Option<i32>,
    /// Namespaces that have to be joined before the birth: user, so that the new ones belong to it; pid, because no
    /// process can change its own. A user namespace can't be left again, so a process in the middle joins them.
    pub join: Vec<(NamespaceKind, Slot)>,
}

impl Spawn {
    /// Whether it takes a process in the middle.
    pub fn has_middle(&self) -> bool {
        self.join.iter().any(|(kind, _)| *kind == NamespaceKind::User)
    }
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
    /// All those of a process, by its pidfd (setns(2), Linux 5.8).
    JoinAll {
        kinds: Vec<NamespaceKind>,
        init: i32,
        slot: Slot,
    },
    NewCgroupNamespace,
    /// A time namespace, with each clock's offset: seconds, and nanoseconds to add to them.
    OffsetClocks {
        offsets: Vec<(String, i64, u32)>,
    },
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
    /// The root of the mount namespace that was joined.
    HoldRoot,
    /// The root as CRIU wants it: a mount on a directory of the host's (`man criu`, `--root`).
    Stage {
        slot: Slot,
        at: PathBuf,
    },
    /// CRIU binds the host's devices anew, and how they are mounted there is how the container has them.
    ReadonlyDevice {
        path: PathBuf,
    },
    /// With all that is mounted on it.
    ClearStage {
        at: PathBuf,
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
    /// `readonly`: the container's root could change the host's node.
    BindNode {
        path: ContainerPath,
        node: Node,
        readonly: bool,
        property: String,
    },
    Symlink {
        path: ContainerPath,
        to: String,
    },
    ReadonlyPath {
        path: ContainerPath,
    },
    /// `label`: how the tmpfs that hides a directory is labelled.
    MaskPath {
        path: ContainerPath,
        label: Option<Parameter>,
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
    Rlimit(Rlimit),
    /// From exec on.
    Apparmor {
        profile: String,
    },
    /// From exec on.
    Selinux {
        label: String,
    },
    /// Those that this process makes, up to exec.
    LabelKeys {
        label: String,
    },
    RunOn {
        cpus: Numbers,
    },
    Personality {
        domain: String,
        value: u64,
    },
    MemoryPolicy(MemoryPolicy),
    /// `value`: class and priority as ioprio_set(2) wants them.
    IoPriority {
        class: String,
        priority: u16,
        value: u16,
    },
    Scheduler(Scheduler),
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
    Seccomp(Filter),
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
    /// The program that brings a container's processes back. It inherits its end of the conversation, and the handles on
    /// namespaces.
    Criu {
        program: PathBuf,
        socket: Slot,
        namespaces: Vec<Slot>,
    },
}
