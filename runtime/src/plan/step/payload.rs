//! Steps by which the new process becomes the container's program.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use serde::Serialize;

use super::types::{CpuSet, FdSlot, MemoryPolicy, Rlimit, Scheduler};
use crate::plan::identity::Credentials;
use crate::plan::path::ContainerPath;
use crate::plan::seccomp::Filter;

/// Of the new process.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "fields are named for what they are")]
pub enum PayloadStep {
    /// getrlimit(2); where the host needn't do it.
    SetRlimit(Rlimit),
    /// From exec on.
    SetApparmorProfile { profile: String },
    /// From exec on.
    SetSelinuxLabel { label: String },
    /// sched_setaffinity(2), of an exec.
    SetAffinity { cpus: CpuSet },
    /// personality(2).
    SetPersonality { domain: String, value: u64 },
    /// set_mempolicy(2).
    SetMemoryPolicy(MemoryPolicy),
    /// `value`: class and priority as ioprio_set(2) wants them.
    SetIoPriority { class: String, priority: u16, value: u16 },
    /// sched_setattr(2).
    SetScheduler(Scheduler),
    /// Until here it is 0: what is made has exactly the mode that is asked for.
    SetUmask { mask: u32 },
    /// The last handle on anything but the container's own: from here on the kernel resolves paths that the container
    /// has made, and a magic link of its (/proc/self/fd/N) leads wherever something is open (CVE-2024-21626).
    CloseProcfs,
    /// To process.cwd, which must be inside the root.
    Chdir { path: ContainerPath },
    /// prctl(2).
    SetNoNewPrivs,
    /// Ids, groups and capabilities, in one go.
    SetCredentials(Credentials),
    /// seccomp(2).
    InstallSeccomp(Filter),
    /// Whoever has it answers for the container: a neighbour in there could take it from this process (pidfd_getfd(2)).
    CloseListener,
    /// As runc does where the document has no HOME.
    HomeFromPasswd { uid: u32 },
    /// sd_listen_fds(3).
    SetListenPid,
    /// What the payload may have stays open below.
    SetCloseOnExec { from: u32 },
    /// Looks for the program as the user who will run it. `path`: the value of PATH.
    FindProgram {
        name: String,
        #[serde(skip)]
        path: String,
    },
    /// Becomes the payload.
    Exec { args: Vec<String>, env: Vec<String> },
    /// The program that brings a container's processes back. It inherits its end of the conversation, and the handles on
    /// namespaces.
    ExecCriu { program: PathBuf, socket: FdSlot, namespaces: Vec<FdSlot> },
}

impl Display for PayloadStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            PayloadStep::SetRlimit(limit) => write!(f, "set {limit}"),
            PayloadStep::SetApparmorProfile { profile } => {
                write!(f, "set AppArmor profile {profile} at exec")
            }
            PayloadStep::SetSelinuxLabel { label } => write!(f, "set SELinux label {label} at exec"),
            PayloadStep::SetAffinity { cpus } => write!(f, "set CPU affinity {}", cpus.text),
            PayloadStep::SetPersonality { domain, .. } => write!(f, "set personality {domain}"),
            PayloadStep::SetMemoryPolicy(policy) => policy.fmt(f),
            PayloadStep::SetIoPriority { class, priority, .. } => {
                write!(f, "set I/O priority {class} {priority}")
            }
            PayloadStep::SetScheduler(scheduler) => scheduler.fmt(f),
            PayloadStep::SetUmask { mask } => write!(f, "set umask {mask:04o}"),
            PayloadStep::CloseProcfs => f.write_str("close procfs"),
            PayloadStep::Chdir { path } => write!(f, "chdir to {path}"),
            PayloadStep::SetNoNewPrivs => f.write_str("set no_new_privs"),
            PayloadStep::SetCredentials(credentials) => credentials.fmt(f),
            PayloadStep::InstallSeccomp(filter) => filter.fmt(f),
            PayloadStep::CloseListener => f.write_str("close the seccomp listener"),
            PayloadStep::HomeFromPasswd { uid } => write!(f, "set HOME of uid {uid} from /etc/passwd"),
            PayloadStep::SetListenPid => f.write_str("set LISTEN_PID"),
            PayloadStep::SetCloseOnExec { from } => write!(f, "set close-on-exec from descriptor {from}"),
            PayloadStep::FindProgram { name, .. } => write!(f, "find {name}"),
            PayloadStep::Exec { args, .. } => write!(f, "exec {}", args.join(" ")),
            PayloadStep::ExecCriu { program, .. } => write!(f, "exec {}", program.display()),
        }
    }
}

impl PayloadStep {
    /// The JSON path that asked for the step; empty when none did.
    pub fn json_path(&self) -> &str {
        match self {
            PayloadStep::SetRlimit(_) => "process.rlimits",
            PayloadStep::SetApparmorProfile { .. } => "process.apparmorProfile",
            PayloadStep::SetSelinuxLabel { .. } => "process.selinuxLabel",
            PayloadStep::SetAffinity { .. } => "process.execCPUAffinity.final",
            PayloadStep::SetPersonality { .. } => "linux.personality",
            PayloadStep::SetMemoryPolicy(_) => "linux.memoryPolicy",
            PayloadStep::SetIoPriority { .. } => "process.ioPriority",
            PayloadStep::SetScheduler(_) => "process.scheduler",
            PayloadStep::InstallSeccomp(_) => "linux.seccomp",
            PayloadStep::Chdir { .. } => "process.cwd",
            PayloadStep::SetCredentials(_) => "process.user",
            PayloadStep::FindProgram { .. } | PayloadStep::Exec { .. } => "process.args",
            PayloadStep::SetUmask { .. }
            | PayloadStep::CloseProcfs
            | PayloadStep::SetNoNewPrivs
            | PayloadStep::CloseListener
            | PayloadStep::HomeFromPasswd { .. }
            | PayloadStep::SetListenPid
            | PayloadStep::SetCloseOnExec { .. }
            | PayloadStep::ExecCriu { .. } => "",
        }
    }
}
