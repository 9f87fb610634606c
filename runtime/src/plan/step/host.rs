//! Steps on the host, before or after the clone.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use serde::Serialize;

use super::sync::{HostSync, InitSync};
use super::text::{clone_mount, ids, plural, run_hooks};
use super::types::{CpuSet, FdSlot, Hook, HookKind, IdMap, IdMapper, IdRange, IfMissing, Rlimit};
use crate::plan::attributes::Attributes;
use crate::plan::namespaces::name;
use crate::plan::systemd::{Property, Scope};
use crate::spec::NamespaceKind;

/// On the host.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "fields are named for what they are")]
pub enum HostStep {
    /// Makes a directory of a hierarchy, and those above it.
    MakeCgroup { dir: PathBuf },
    /// `dir` is the parent whose children get the controllers.
    EnableControllers { dir: PathBuf, controllers: Vec<String>, required: Vec<String> },
    /// v1's cpuset starts empty and refuses processes until it is filled (cgroup-v1/cpusets.rst).
    InheritCpuset { dir: PathBuf },
    /// `property` is the JSON path that asked for it. Several values are several writes, in order.
    WriteCgroup { dir: PathBuf, file: String, values: Vec<String>, property: String, missing: IfMissing },
    /// The BPF program of a v2 cgroup's device rules, one `u64` an instruction.
    AttachDeviceFilter {
        dir: PathBuf,
        #[serde(skip)]
        program: Vec<u64>,
        rules: usize,
    },
    /// A process that is cloned into a frozen group never says a word. `file` tells whether it is.
    RefuseFrozen { dir: PathBuf, file: &'static str },
    /// systemd makes `dir` and moves the new process into it.
    StartScope { scope: Scope, dir: PathBuf, properties: Vec<Property> },
    /// Has systemd know of other limits.
    SetScopeProperties { scope: Scope, properties: Vec<Property> },
    /// config-linux.md#cgroup-ownership.
    ChownCgroup { dir: PathBuf, uid: u32, gid: u32 },
    /// For the new process to join: it can't reach the path once it is in namespaces of its own.
    OpenCgroup { dir: PathBuf, slot: FdSlot },
    /// Those who are in a user or pid namespace already may read and trace whoever joins it, and until its exec that is
    /// the runtime's program, with what it has of the host (CVE-2016-9962).
    ClearDumpable,
    /// The root directory itself, where there is no mount namespace to attach a copy in.
    OpenRoot { path: PathBuf, slot: FdSlot },
    /// A namespace of others' that is joined, while its path still means what the caller meant.
    OpenNamespace { kind: NamespaceKind, path: PathBuf, slot: FdSlot },
    /// For its map only: nobody lives in it.
    CreateUserNamespace { uids: Vec<IdRange>, gids: Vec<IdRange>, slot: FdSlot },
    /// A detached copy of a mount (or of a tree of them), to be attached inside.
    CloneMount {
        source: PathBuf,
        recursive: bool,
        attributes: Attributes,
        id_map: Option<IdMap>,
        slot: FdSlot,
        property: String,
    },
    /// Of a container that is to wait for `start`.
    ListenAtGate,
    /// Of a container that does not wait, and has no gate that others could find.
    MarkCreating,
    /// For whoever comes after a crash of the runtime.
    SavePid,
    /// Children that are cloned from here on, hooks among them, belong to the host's pid namespace again.
    RestorePidNamespaceForChildren,
    /// Of the new process (proc_pid_oom_score_adj(5)).
    SetOomScoreAdj { value: i32 },
    /// `shared`: a class of service, which other containers may be in.
    MakeRdtGroup { dir: PathBuf, schemata: Vec<String>, shared: bool },
    /// Moves the new process into it.
    JoinRdtGroup { dir: PathBuf },
    /// `namespace`: one that is joined; otherwise the new process's.
    MoveNetDevice { device: String, name: Option<String>, namespace: Option<FdSlot> },
    /// In the network namespace of the process.
    LoopbackUp,
    /// Of the runtime itself, which its children inherit.
    SetAffinity { cpus: CpuSet },
    /// Writes the maps of the new user namespace.
    MapIds { uids: Vec<IdRange>, gids: Vec<IdRange>, by: IdMapper },
    /// Of the new process: raising one takes rights over the host.
    SetRlimit(Rlimit),
    /// The host's hooks: prestart and createRuntime.
    RunHooks { kind: HookKind, hooks: Vec<Hook> },
    /// Tells the new process that a point is reached.
    Send { point: HostSync },
    /// Waits for the new process to reach a point.
    Expect { point: InitSync },
    /// `--console-socket`.
    SendConsole { socket: PathBuf },
    /// config-linux.md#containerprocessstate. `init`: the container's, when the listener is another process's.
    SendSeccompListener { socket: PathBuf, metadata: String, init: Option<i32> },
    /// Before readiness: nothing is left to do by then, so the gate need not be shut.
    OpenGate,
    /// For exec, which must not see what becomes of the bundle.
    SaveConfig,
    /// From here on `start` finds it, and the container is created.
    PublishGate,
}

impl Display for HostStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            HostStep::MakeCgroup { dir } => write!(f, "make cgroup {}", dir.display()),
            HostStep::EnableControllers { dir, controllers, .. } => {
                write!(f, "enable controllers {} below {}", controllers.join(","), dir.display())
            }
            HostStep::InheritCpuset { dir } => write!(f, "copy the parent's cpuset to {}", dir.display()),
            HostStep::WriteCgroup { dir, file, values, .. } => {
                write!(f, "write {} to {}/{file}", values.join("; "), dir.display())
            }
            HostStep::AttachDeviceFilter { dir, rules, .. } => {
                write!(f, "attach the device filter ({}) to {}", plural(*rules, "rule"), dir.display())
            }
            HostStep::RefuseFrozen { dir, .. } => write!(f, "check that {} is not frozen", dir.display()),
            HostStep::StartScope { scope, properties, .. } => {
                write!(f, "start {}scope {} with", if scope.user { "user " } else { "" }, scope.unit)?;
                properties.iter().try_for_each(|p| write!(f, " {}={}", p.name, p.value))
            }
            HostStep::SetScopeProperties { scope, properties } => {
                write!(f, "set properties of {}:", scope.unit)?;
                properties.iter().try_for_each(|p| write!(f, " {}={}", p.name, p.value))
            }
            HostStep::ChownCgroup { dir, uid, gid } => {
                write!(f, "chown cgroup {} to {uid}:{gid}", dir.display())
            }
            HostStep::OpenCgroup { dir, .. } => write!(f, "open cgroup {}", dir.display()),
            HostStep::ClearDumpable => f.write_str("set PR_SET_DUMPABLE 0"),
            HostStep::OpenRoot { path, .. } => write!(f, "open {}", path.display()),
            HostStep::OpenNamespace { kind, path, .. } => {
                write!(f, "open {} namespace {}", name(*kind), path.display())
            }
            HostStep::CreateUserNamespace { uids, gids, .. } => {
                write!(f, "create a user namespace with uids {}, gids {}", ids(uids), ids(gids))
            }
            HostStep::CloneMount { source, recursive, attributes, id_map, .. } => {
                clone_mount(f, source, *recursive, attributes)?;
                match id_map {
                    Some(IdMap { recursive: true, .. }) => f.write_str(", idmapped recursively"),
                    Some(_) => f.write_str(", idmapped"),
                    None => Ok(()),
                }
            }
            HostStep::ListenAtGate => f.write_str("listen at the start gate"),
            HostStep::MarkCreating => f.write_str("mark the container as being created"),
            HostStep::SavePid => f.write_str("save its pid"),
            HostStep::RestorePidNamespaceForChildren => {
                f.write_str("restore the pid namespace for children (pid_for_children)")
            }
            HostStep::MoveNetDevice { device, name, .. } => {
                write!(f, "move network device {device} into the container")?;
                name.iter().try_for_each(|name| write!(f, " as {name}"))
            }
            HostStep::MakeRdtGroup { dir, schemata, shared } => {
                let what = if *shared { "use" } else { "make" };
                write!(f, "{what} resctrl group {}", dir.display())?;
                if schemata.is_empty() { Ok(()) } else { write!(f, " with {}", schemata.join("; ")) }
            }
            HostStep::JoinRdtGroup { dir } => write!(f, "move it into resctrl group {}", dir.display()),
            HostStep::LoopbackUp => f.write_str("bring up its lo"),
            HostStep::SetAffinity { cpus } => write!(f, "set CPU affinity {}", cpus.text),
            HostStep::SetOomScoreAdj { value } => write!(f, "set its oom_score_adj {value}"),
            HostStep::SetRlimit(limit) => write!(f, "set its {limit}"),
            HostStep::MapIds { uids, gids, by } => {
                write!(f, "map uids {}, gids {}", ids(uids), ids(gids))?;
                f.write_str(match by {
                    IdMapper::Runtime => "",
                    IdMapper::WithoutSetgroups => ", deny setgroups",
                    IdMapper::Helpers => ", by newuidmap and newgidmap",
                })
            }
            HostStep::RunHooks { kind, hooks } => run_hooks(f, *kind, hooks),
            HostStep::Send { point } => write!(f, "send: {point}"),
            HostStep::Expect { point } => write!(f, "expect: {point}"),
            HostStep::SendConsole { socket } => write!(f, "send the pty master to {}", socket.display()),
            HostStep::SendSeccompListener { socket, .. } => {
                write!(f, "send the seccomp listener to {}", socket.display())
            }
            HostStep::OpenGate => f.write_str("open the start gate"),
            HostStep::SaveConfig => f.write_str("save config.json"),
            HostStep::PublishGate => f.write_str("publish the start gate"),
        }
    }
}

impl HostStep {
    /// The JSON path that asked for the step; empty when none did.
    pub fn json_path(&self) -> &str {
        match self {
            HostStep::WriteCgroup { property, .. } | HostStep::CloneMount { property, .. } => property,
            HostStep::OpenRoot { .. } => "root.path",
            HostStep::AttachDeviceFilter { .. } => "linux.resources.devices",
            HostStep::OpenNamespace { .. } => "linux.namespaces",
            HostStep::MoveNetDevice { .. } => "linux.netDevices",
            HostStep::MakeRdtGroup { .. } | HostStep::JoinRdtGroup { .. } => "linux.intelRdt",
            HostStep::SetAffinity { .. } => "process.execCPUAffinity.initial",
            HostStep::SetOomScoreAdj { .. } => "process.oomScoreAdj",
            HostStep::SetRlimit(_) => "process.rlimits",
            HostStep::MapIds { .. } => "linux.uidMappings",
            HostStep::MakeCgroup { .. } | HostStep::RefuseFrozen { .. } | HostStep::StartScope { .. } => {
                "linux.cgroupsPath"
            }
            HostStep::SendSeccompListener { .. } => "linux.seccomp.listenerPath",
            HostStep::EnableControllers { .. }
            | HostStep::InheritCpuset { .. }
            | HostStep::SetScopeProperties { .. }
            | HostStep::ChownCgroup { .. }
            | HostStep::OpenCgroup { .. }
            | HostStep::ClearDumpable
            | HostStep::CreateUserNamespace { .. }
            | HostStep::ListenAtGate
            | HostStep::MarkCreating
            | HostStep::SavePid
            | HostStep::RestorePidNamespaceForChildren
            | HostStep::LoopbackUp
            | HostStep::RunHooks { .. }
            | HostStep::Send { .. }
            | HostStep::Expect { .. }
            | HostStep::SendConsole { .. }
            | HostStep::OpenGate
            | HostStep::SaveConfig
            | HostStep::PublishGate => "",
        }
    }
}
