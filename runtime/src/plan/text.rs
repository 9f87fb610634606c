//! What each step says: its `Display`, and the JSON path that asked for it.

use std::fmt::{self, Display, Formatter};
use std::path::Path;

use super::attributes::Attributes;
use super::identity::{Credentials, Named};
use super::namespaces::name;
use super::seccomp::Filter;
use super::step::{Entry, Hook, IdMap, IdRange, Inside, Mapper, Node, NodeKind, Outside, Spawn};

fn plural(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn hooks(hooks: &[Hook]) -> String {
    hooks.iter().map(|h| h.path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn ids(ranges: &[IdRange]) -> String {
    ranges.iter().map(|r| format!("{}→{}×{}", r.inside, r.outside, r.size)).collect::<Vec<_>>().join(",")
}

fn copy(f: &mut Formatter<'_>, source: &Path, recursive: bool, attributes: &Attributes) -> fmt::Result {
    let what = if recursive { "mounts at" } else { "mount of" };
    write!(f, "copy the {what} {}{attributes}", source.display())
}

impl Display for Outside {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Outside::MakeCgroup { dir } => write!(f, "make cgroup {}", dir.display()),
            Outside::EnableControllers { dir, controllers, .. } => {
                write!(f, "enable {} below {}", controllers.join(","), dir.display())
            }
            Outside::InheritCpuset { dir } => write!(f, "fill the empty cpuset of {}", dir.display()),
            Outside::WriteCgroup { dir, file, values, .. } => {
                write!(f, "write {} to {}/{file}", values.join("; "), dir.display())
            }
            Outside::LimitDevices { dir, rules, .. } => {
                write!(f, "limit devices of {} by {}", dir.display(), plural(*rules, "rule"))
            }
            Outside::RefuseFrozen { dir, .. } => write!(f, "see that {} is not frozen", dir.display()),
            Outside::StartScope { scope, properties, .. } => {
                write!(f, "start {}scope {} with", if scope.user { "user " } else { "" }, scope.unit)?;
                properties.iter().try_for_each(|p| write!(f, " {}={}", p.name, p.value))
            }
            Outside::SetProperties { scope, properties } => {
                write!(f, "set properties of {}:", scope.unit)?;
                properties.iter().try_for_each(|p| write!(f, " {}={}", p.name, p.value))
            }
            Outside::OwnCgroup { dir, uid, gid } => write!(f, "give cgroup {} to {uid}:{gid}", dir.display()),
            Outside::OpenCgroup { dir, .. } => write!(f, "open cgroup {}", dir.display()),
            Outside::ForbidTracing => f.write_str("let nobody trace it"),
            Outside::OpenRoot { path, .. } => write!(f, "open {}", path.display()),
            Outside::OpenNamespace { kind, path, .. } => {
                write!(f, "open {} namespace {}", name(*kind), path.display())
            }
            Outside::MakeIdMap { uids, gids, .. } => {
                write!(f, "make a map of users {}, groups {}", ids(uids), ids(gids))
            }
            Outside::CloneTree { source, recursive, attributes, id_map, .. } => {
                copy(f, source, *recursive, attributes)?;
                match id_map {
                    Some(IdMap { recursive: true, .. }) => f.write_str(" with mapped ids, all of them"),
                    Some(_) => f.write_str(" with mapped ids"),
                    None => Ok(()),
                }
            }
            Outside::LeavePidNamespace => f.write_str("have no one else born into the pid namespace"),
            Outside::MoveDevice { device, name, .. } => {
                write!(f, "move the network device {device} into the container")?;
                name.iter().try_for_each(|name| write!(f, " as {name}"))
            }
            Outside::RdtGroup { dir, schemata, shared } => {
                let what = if *shared { "use" } else { "make" };
                write!(f, "{what} resctrl group {}", dir.display())?;
                if schemata.is_empty() { Ok(()) } else { write!(f, " with {}", schemata.join("; ")) }
            }
            Outside::EnterRdtGroup { dir } => write!(f, "move it into resctrl group {}", dir.display()),
            Outside::LoopbackUp => f.write_str("bring its lo up"),
            Outside::RunOn { cpus } => write!(f, "run on processors {}", cpus.text),
            Outside::OomScore { value } => write!(f, "set its oom_score_adj {value}"),
            Outside::Rlimit(limit) => write!(f, "limit its {limit}"),
            Outside::MapIds { uids, gids, by } => {
                write!(f, "map users {}, groups {}", ids(uids), ids(gids))?;
                f.write_str(match by {
                    Mapper::Ourselves => "",
                    Mapper::WithoutGroups => ", without setgroups",
                    Mapper::Helpers => ", by newuidmap and newgidmap",
                })
            }
            Outside::RunHooks { kind, hooks: all } => write!(f, "run {kind} hooks {}", hooks(all)),
            Outside::Tell { mark } => write!(f, "tell it: {mark}"),
            Outside::Hear { mark } => write!(f, "wait for {mark}"),
            Outside::PassConsole { socket } => write!(f, "send the terminal to {}", socket.display()),
            Outside::PassListener { socket, .. } => {
                write!(f, "send the seccomp listener to {}", socket.display())
            }
        }
    }
}

impl Display for Spawn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.new.iter().map(|k| name(*k)).collect();
        f.write_str("clone")?;
        if !kinds.is_empty() {
            write!(f, " with new {}", kinds.join(","))?;
        }
        if let Some(dir) = &self.into {
            write!(f, " into {}", dir.display())?;
        }
        if !self.join.is_empty() {
            let kinds: Vec<_> = self.join.iter().map(|(kind, _)| name(*kind)).collect();
            write!(f, " in the joined {} namespace", kinds.join(" and "))?;
        }
        Ok(())
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.kind {
            NodeKind::Fifo => f.write_str("fifo")?,
            NodeKind::Character => write!(f, "device c {}:{}", self.major, self.minor)?,
            NodeKind::Block => write!(f, "device b {}:{}", self.major, self.minor)?,
        }
        write!(f, " {:04o} {}:{}", self.mode, self.uid, self.gid)
    }
}

impl Display for Credentials {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let c = &self.capabilities;
        write!(f, "become {}:{}", self.uid, self.gid)?;
        if !self.groups.is_empty() {
            write!(f, " groups {}", self.groups.iter().map(u32::to_string).collect::<Vec<_>>().join(","))?;
        }
        write!(f, " with capabilities")?;
        let sets = [
            ("bounding", c.bounding),
            ("effective", c.effective),
            ("permitted", c.permitted),
            ("inheritable", c.inheritable),
            ("ambient", c.ambient),
        ];
        sets.iter().try_for_each(|(name, mask)| write!(f, " {name}={}", Named(*mask)))
    }
}

impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "install the seccomp filter ({}", plural(self.program.len(), "instruction"))?;
        if self.notify {
            f.write_str(", with a listener")?;
        }
        if !self.unknown.is_empty() {
            write!(f, ", without the unknown {}", self.unknown.join(", "))?;
        }
        f.write_str(")")
    }
}

impl Display for Inside {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Inside::Await { mark } => write!(f, "wait for {mark}"),
            Inside::Tell { mark } => write!(f, "tell the runtime: {mark}"),
            Inside::EnterCgroup { dir, .. } => write!(f, "enter cgroup {}", dir.display()),
            Inside::BecomeRoot => f.write_str("become root of the user namespace"),
            Inside::Join { kind, .. } => write!(f, "join the {} namespace", name(*kind)),
            Inside::JoinAll { kinds, init, .. } => {
                let kinds: Vec<_> = kinds.iter().map(|kind| name(*kind)).collect();
                write!(f, "join the {} namespaces of process {init}", kinds.join(","))
            }
            Inside::NewCgroupNamespace => f.write_str("make a cgroup namespace"),
            Inside::OffsetClocks { offsets } => {
                f.write_str("make a time namespace")?;
                offsets.iter().try_for_each(|(clock, s, ns)| write!(f, ", {clock} {s:+} s {ns:+} ns"))
            }
            Inside::NewSession => f.write_str("make a session"),
            Inside::SessionKeyring { name } => write!(f, "join session keyring {name}"),
            Inside::Hostname { name } => write!(f, "set hostname {name}"),
            Inside::Domainname { name } => write!(f, "set domainname {name}"),
            Inside::LoopbackUp => f.write_str("bring lo up"),
            Inside::Sysctl { key, value } => write!(f, "write {value} to /proc/sys/{key}"),
            Inside::Isolate => f.write_str("cut mount propagation to the host"),
            Inside::CloneTree { source, recursive, attributes, .. } => {
                copy(f, source, *recursive, attributes)
            }
            Inside::HoldRoot => f.write_str("take hold of the root"),
            Inside::Stage { at, .. } => write!(f, "show the root at {}", at.display()),
            Inside::ReadonlyDevice { path } => write!(f, "make {} read-only for criu", path.display()),
            Inside::ClearStage { at } => write!(f, "unmount all at {}", at.display()),
            Inside::UseRoot { .. } => f.write_str("stay in the mount namespace as it is"),
            Inside::AttachRoot { source, .. } => write!(f, "attach {} as the root", source.display()),
            Inside::Mount { kind, parameters, attributes, target, copy_up, .. } => {
                write!(f, "mount {kind} on {target}{attributes}")?;
                parameters.iter().try_for_each(|p| write!(f, " {p}"))?;
                if *copy_up { f.write_str(" with what is there") } else { Ok(()) }
            }
            Inside::Bind { source, target, .. } => write!(f, "bind {} on {target}", source.display()),
            Inside::SetAttributes { target, attributes, .. } => write!(f, "remount {target}{attributes}"),
            Inside::MakeNode { path, node, .. } => write!(f, "make {path} {node}"),
            Inside::BindNode { path, node, readonly, .. } => {
                write!(f, "bind the host's {path}, {node}{}", if *readonly { " (ro)" } else { "" })
            }
            Inside::Symlink { path, to } => write!(f, "link {path} to {to}"),
            Inside::ReadonlyPath { path } => write!(f, "make {path} read-only"),
            Inside::MaskPath { path, .. } => write!(f, "mask {path}"),
            Inside::RunHooks { kind, hooks: all } => write!(f, "run {kind} hooks {}", hooks(all)),
            Inside::Console { size, .. } => match size {
                Some((h, w)) => write!(f, "open a terminal of {w}x{h}"),
                None => f.write_str("open a terminal"),
            },
            Inside::Enter { how } => f.write_str(match how {
                Entry::Pivot => "pivot into the root",
                Entry::Move => "chroot into the root, without pivot",
                Entry::Chroot => "chroot into the root",
            }),
            Inside::RootPropagation { attributes } => write!(f, "set propagation of /{attributes}"),
            Inside::ReadonlyRoot => f.write_str("make / read-only"),
            Inside::Rlimit(limit) => write!(f, "limit {limit}"),
            Inside::Apparmor { profile } => write!(f, "be confined by the AppArmor profile {profile}"),
            Inside::Selinux { label } => write!(f, "be labelled {label}"),
            Inside::LabelKeys { label } => write!(f, "label keys {label}"),
            Inside::RunOn { cpus } => write!(f, "run on processors {}", cpus.text),
            Inside::Personality { domain, .. } => write!(f, "take on the personality {domain}"),
            Inside::MemoryPolicy(policy) => policy.fmt(f),
            Inside::IoPriority { class, priority, .. } => {
                write!(f, "do I/O as {class}, priority {priority}")
            }
            Inside::Scheduler(scheduler) => scheduler.fmt(f),
            Inside::Umask { mask } => write!(f, "set umask {mask:04o}"),
            Inside::MakeDirectory { path, .. } => write!(f, "make directory {path}"),
            Inside::WorkingDirectory { path } => write!(f, "change directory to {path}"),
            Inside::Credentials(c) => c.fmt(f),
            Inside::NoNewPrivileges => f.write_str("give up new privileges"),
            Inside::Home { uid } => write!(f, "set HOME from /etc/passwd for user {uid}"),
            Inside::Seccomp(filter) => write!(f, "{filter}"),
            Inside::CloseOnExec { from } => write!(f, "close descriptors from {from} on at exec"),
            Inside::FindProgram { name } => write!(f, "find {name}"),
            Inside::Gate => f.write_str("wait at the gate for start"),
            Inside::Exec { args, .. } => write!(f, "exec {}", args.join(" ")),
            Inside::Criu { program, .. } => write!(f, "exec {}", program.display()),
        }
    }
}

impl Display for super::step::Parameter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            super::step::Parameter::Flag(name) => f.write_str(name),
            super::step::Parameter::Value(name, value) => write!(f, "{name}={value}"),
        }
    }
}

/// The whole plan, a line a step. Without numbers: a step more would change every line below it.
impl Display for super::Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let list = |f: &mut Formatter<'_>, title: &str, steps: &mut dyn Iterator<Item = &dyn Display>| {
            writeln!(f, "{title}")?;
            for step in steps {
                writeln!(f, "  {step}")?;
            }
            Ok(())
        };
        list(f, "on the host, before", &mut self.before.iter().map(|s| s as &dyn Display))?;
        list(f, "birth", &mut [&self.spawn].into_iter().map(|s| s as &dyn Display))?;
        list(f, "on the host, meanwhile", &mut self.after.iter().map(|s| s as &dyn Display))?;
        list(f, "inside", &mut self.inside.iter().map(|s| s as &dyn Display))?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

impl Outside {
    /// The JSON path that asked for the step; empty when none did.
    pub fn property(&self) -> &str {
        match self {
            Outside::WriteCgroup { property, .. } | Outside::CloneTree { property, .. } => property,
            Outside::OpenRoot { .. } => "root.path",
            Outside::LimitDevices { .. } => "linux.resources.devices",
            Outside::OpenNamespace { .. } => "linux.namespaces",
            Outside::MoveDevice { .. } => "linux.netDevices",
            Outside::RdtGroup { .. } | Outside::EnterRdtGroup { .. } => "linux.intelRdt",
            Outside::RunOn { .. } => "process.execCPUAffinity.initial",
            Outside::OomScore { .. } => "process.oomScoreAdj",
            Outside::Rlimit(_) => "process.rlimits",
            Outside::MapIds { .. } => "linux.uidMappings",
            Outside::MakeCgroup { .. } | Outside::RefuseFrozen { .. } | Outside::StartScope { .. } => {
                "linux.cgroupsPath"
            }
            Outside::PassListener { .. } => "linux.seccomp.listenerPath",
            _ => "",
        }
    }
}

impl Inside {
    /// The JSON path that asked for the step; empty when none did.
    pub fn property(&self) -> &str {
        match self {
            Inside::Mount { property, .. }
            | Inside::CloneTree { property, .. }
            | Inside::Bind { property, .. }
            | Inside::SetAttributes { property, .. }
            | Inside::MakeNode { property, .. }
            | Inside::BindNode { property, .. }
            | Inside::MakeDirectory { property, .. } => property,
            Inside::Join { .. } => "linux.namespaces",
            Inside::Hostname { .. } => "hostname",
            Inside::Domainname { .. } => "domainname",
            Inside::Sysctl { .. } => "linux.sysctl",
            Inside::AttachRoot { .. } | Inside::Stage { .. } => "root.path",
            Inside::ReadonlyPath { .. } => "linux.readonlyPaths",
            Inside::MaskPath { .. } => "linux.maskedPaths",
            Inside::Rlimit(_) => "process.rlimits",
            Inside::Apparmor { .. } => "process.apparmorProfile",
            Inside::Selinux { .. } | Inside::LabelKeys { .. } => "process.selinuxLabel",
            Inside::RunOn { .. } => "process.execCPUAffinity.final",
            Inside::Personality { .. } => "linux.personality",
            Inside::MemoryPolicy(_) => "linux.memoryPolicy",
            Inside::IoPriority { .. } => "process.ioPriority",
            Inside::Scheduler(_) => "process.scheduler",
            Inside::Seccomp(_) => "linux.seccomp",
            Inside::WorkingDirectory { .. } => "process.cwd",
            Inside::Credentials(_) => "process.user",
            Inside::FindProgram { .. } | Inside::Exec { .. } => "process.args",
            _ => "",
        }
    }
}
