//! Namespaces: which are new, which are joined, how ids map (config-linux.md#namespaces).

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::draft::Draft;
use super::step::{FdSlot, HostStep, IdMapper, IdRange, SetupStep};
use crate::facts::Facts;
use crate::spec::{IdMapping, Linux, NamespaceKind, Spec, Str};

/// The container's namespaces after validation. A kind that is in neither list is the host's.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Namespaces {
    pub(super) new: Vec<NamespaceKind>,
    pub(super) joined: Vec<(NamespaceKind, PathBuf)>,
    pub(super) uids: Vec<IdRange>,
    pub(super) gids: Vec<IdRange>,
}

impl Namespaces {
    pub(super) fn makes(&self, kind: NamespaceKind) -> bool {
        self.new.contains(&kind)
    }

    /// Every kind that is not the runtime's own.
    pub(super) fn all(&self) -> Vec<NamespaceKind> {
        self.new.iter().copied().chain(self.joined.iter().map(|(kind, _)| *kind)).collect()
    }

    pub(super) fn makes_cgroup(&self) -> bool {
        self.makes(NamespaceKind::Cgroup)
    }

    /// New or joined: not the runtime's own.
    pub(super) fn has(&self, kind: NamespaceKind) -> bool {
        self.makes(kind) || self.joined.iter().any(|(k, _)| *k == kind)
    }

    pub(super) fn has_user(&self) -> bool {
        self.has(NamespaceKind::User)
    }

    /// Whether both ids 0 exist inside, so that the new process can become root there.
    pub(super) fn maps_root(&self) -> bool {
        let zero = |ranges: &[IdRange]| ranges.iter().any(|r| r.inside == 0 && r.size > 0);
        !self.makes(NamespaceKind::User) || (zero(&self.uids) && zero(&self.gids))
    }

    /// How the new user namespace's ids are mapped (user_namespaces(7)).
    pub(super) fn map(&self, facts: &Facts) -> HostStep {
        const CAP_SETGID: u64 = 1 << 6;
        const CAP_SETUID: u64 = 1 << 7;
        let is_own =
            |ranges: &[IdRange], id| matches!(ranges, [only] if only.outside == id && only.size == 1);
        let by = if facts.capabilities & CAP_SETGID != 0 && facts.capabilities & CAP_SETUID != 0 {
            IdMapper::Runtime
        } else if is_own(&self.uids, facts.euid) && is_own(&self.gids, facts.egid) {
            IdMapper::WithoutSetgroups
        } else {
            IdMapper::Helpers
        };
        HostStep::MapIds { uids: self.uids.clone(), gids: self.gids.clone(), by }
    }

    /// The host's id of an id inside; None when it has none.
    pub(super) fn outside(ranges: &[IdRange], id: u32) -> Option<u32> {
        ranges.iter().find_map(|r| {
            let offset = id.checked_sub(r.inside).filter(|offset| *offset < r.size)?;
            r.outside.checked_add(offset)
        })
    }
}

pub(super) fn ranges(mappings: &[IdMapping<'_>]) -> Vec<IdRange> {
    mappings.iter().map(|m| IdRange { inside: m.container_id, outside: m.host_id, size: m.size }).collect()
}

/// What no kernel takes as a map.
pub(super) fn check_ranges(ranges: &[IdRange], at: &str) -> Result<()> {
    // user_namespaces(7): at most 340 lines since Linux 4.15.
    if ranges.len() > 340 {
        bail!("{at}: {} ranges, and the kernel takes at most 340", ranges.len());
    }
    if let Some(n) = ranges.iter().position(|r| r.size == 0) {
        bail!("{at}[{n}].size: 0, expected at least 1");
    }
    let is_beyond = |r: &IdRange| r.inside.max(r.outside).checked_add(r.size).is_none();
    if let Some(n) = ranges.iter().position(is_beyond) {
        bail!("{at}[{n}]: it has ids beyond {}, which are none", u32::MAX - 1);
    }
    Ok(())
}

fn kinds(linux: &Linux<'_>) -> Result<Namespaces> {
    let mut found = Namespaces::default();
    for (n, namespace) in linux.namespaces.iter().enumerate() {
        let Some(kind) = namespace.kind else { bail!("linux.namespaces[{n}].type: missing") };
        if found.has(kind) {
            bail!("linux.namespaces[{n}].type: {kind:?} is there twice");
        }
        match &*namespace.path {
            "" => found.new.push(kind),
            path if path.starts_with('/') => found.joined.push((kind, PathBuf::from(path))),
            path => bail!("linux.namespaces[{n}].path: {path:?} must be absolute"),
        }
    }
    // Their order in the document means nothing; the user namespace owns the others, the mount namespace changes
    // what paths mean, so they go first and last.
    found.joined.sort_by_key(|(kind, _)| match kind {
        NamespaceKind::User => 0,
        NamespaceKind::Mount => 2,
        _ => 1,
    });
    Ok(found)
}

/// Reads the namespaces and checks what needs one of them.
///
/// # Errors
/// The JSON path and what is missing or contradicts.
pub(super) fn namespaces(spec: &Spec<'_>) -> Result<Namespaces> {
    use NamespaceKind::{Mount, Time, User, Uts};
    let linux = &spec.linux;
    let mut found = kinds(linux)?;
    found.uids = ranges(&linux.uid_mappings);
    found.gids = ranges(&linux.gid_mappings);
    for (name, ranges) in [("uidMappings", &found.uids), ("gidMappings", &found.gids)] {
        if !found.has_user() && !ranges.is_empty() {
            bail!("linux.{name}: given, but linux.namespaces has no user namespace");
        }
        if found.makes(User) && ranges.is_empty() {
            bail!("linux.{name}: missing; a new user namespace needs a mapping");
        }
        check_ranges(ranges, &format!("linux.{name}"))?;
    }
    if !found.has(Uts) {
        for (name, value) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
            if value.as_ref().is_some_and(|v| !v.is_empty()) {
                bail!("{name}: needs a uts namespace in linux.namespaces, or it would rename the host");
            }
        }
    }
    if !linux.time_offsets.0.is_empty() && !found.makes(Time) {
        bail!("linux.timeOffsets: needs a new time namespace in linux.namespaces");
    }
    if !found.has(Mount) {
        for (name, any) in [
            ("mounts", !spec.mounts.is_empty()),
            ("linux.maskedPaths", !linux.masked_paths.is_empty()),
            ("linux.readonlyPaths", !linux.readonly_paths.is_empty()),
            ("linux.devices", !linux.devices.is_empty()),
            ("linux.rootfsPropagation", !linux.rootfs_propagation.is_empty()),
            ("root.readonly", spec.root.as_ref().is_some_and(|r| r.readonly)),
        ] {
            if any {
                bail!(
                    "{name}: needs a mount namespace in linux.namespaces, or it would change the host's mounts"
                );
            }
        }
    }
    Ok(found)
}

/// How namespaces of others' are joined.
#[derive(Default)]
pub(super) struct Joined {
    /// After the clone; user and pid are joined before it.
    pub(super) steps: Vec<SetupStep>,
    /// Where the handle on the network namespace is, if that is joined.
    pub(super) network: Option<FdSlot>,
}

/// Opens those that are joined.
pub(super) fn open(draft: &mut Draft<'_>) -> Joined {
    let mut joined = Joined::default();
    for (kind, path) in draft.namespaces.joined.clone() {
        let slot = draft.slot();
        draft.pre_clone.push(HostStep::OpenNamespace { kind, path, slot });
        match kind {
            NamespaceKind::User | NamespaceKind::Pid => draft.spawn.join.push((kind, slot)),
            _ => joined.steps.push(SetupStep::JoinNamespace { kind, slot }),
        }
        if kind == NamespaceKind::Network {
            joined.network = Some(slot);
        }
    }
    joined
}

/// Whether there are processes of others' that could find the new one before its exec, in the pid namespace or in the
/// user namespace that it joins. Where there are none, it is left to be entered by the user who runs the runtime: hooks
/// and exec of an ordinary user, or of root without CAP_SYS_PTRACE, may enter the namespaces of those only that they may
/// trace. What such a user makes a user namespace for he could trace in any case.
pub(super) fn has_neighbors(draft: &Draft<'_>) -> bool {
    let namespaces = &draft.namespaces;
    let is_own = draft.facts.needs_user_namespace() && namespaces.makes(NamespaceKind::User);
    let joins_user = namespaces.has(NamespaceKind::User) && !namespaces.makes(NamespaceKind::User);
    !is_own && (joins_user || !namespaces.makes(NamespaceKind::Pid))
}

/// The names in its uts namespace.
pub(super) fn names(spec: &Spec<'_>) -> Vec<SetupStep> {
    let text = |name: &Option<Str<'_>>| name.as_ref().map(|n| n.to_string()).filter(|n| !n.is_empty());
    let host = text(&spec.hostname).map(|name| SetupStep::SetHostname { name });
    let domain = text(&spec.domainname).map(|name| SetupStep::SetDomainname { name });
    host.into_iter().chain(domain).collect()
}

/// The clocks' offsets: `monotonic` and `boottime`, seconds and nanoseconds (time_namespaces(7)).
pub(super) fn offsets(linux: &Linux<'_>) -> Result<Vec<(String, i64, u32)>> {
    let mut all = Vec::new();
    for (clock, offset) in &linux.time_offsets.0 {
        if !matches!(&**clock, "monotonic" | "boottime") {
            bail!("linux.timeOffsets.{clock}: no such clock; expected monotonic or boottime");
        }
        if offset.nanosecs > 999_999_999 {
            bail!("linux.timeOffsets.{clock}.nanosecs: {} is more than 999999999", offset.nanosecs);
        }
        all.push((clock.to_string(), offset.secs, offset.nanosecs));
    }
    Ok(all)
}

/// The kernel parameters, `a.b.c` or `a/b/c` (sysctl(8)), as paths below /proc/sys. Only those that belong to one
/// of the container's own namespaces: any other would change the host.
pub(super) fn sysctls(spec: &Spec<'_>, namespaces: &Namespaces) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (key, value) in &spec.linux.sysctl.0 {
        let separator = key.find(['.', '/']).map(|i| key.as_bytes()[i]);
        let path: String = key
            .chars()
            .map(|c| match (separator, c) {
                (Some(b'.'), '.') => '/',
                (Some(b'.'), '/') => '.',
                (_, c) => c,
            })
            .collect();
        let refuse = |why: &str| bail!("linux.sysctl[{:?}]: {why}", &**key);
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
            return refuse("not the name of a kernel parameter");
        }
        let needs = match &*path {
            "kernel/hostname" => return refuse("use the property hostname"),
            "kernel/domainname" => NamespaceKind::Uts,
            "kernel/msgmax"
            | "kernel/msgmnb"
            | "kernel/msgmni"
            | "kernel/sem"
            | "kernel/shmall"
            | "kernel/shmmax"
            | "kernel/shmmni"
            | "kernel/shm_rmid_forced" => NamespaceKind::Ipc,
            p if p.starts_with("fs/mqueue/") => NamespaceKind::Ipc,
            p if p.starts_with("net/") => NamespaceKind::Network,
            p if p.starts_with("user/") && namespaces.has_user() => NamespaceKind::User,
            _ => return refuse("belongs to no namespace: it would change the host"),
        };
        if !namespaces.has(needs) {
            return refuse(&format!("needs a {} namespace, or it would change the host", name(needs)));
        }
        all.push((path, value.to_string()));
    }
    Ok(all)
}

/// A namespace as config.json spells it.
pub(crate) fn name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::User => "user",
        NamespaceKind::Pid => "pid",
        NamespaceKind::Network => "network",
        NamespaceKind::Mount => "mount",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
    }
}

/// A namespace as /proc/PID/ns spells it.
pub(crate) fn proc_name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Network => "net",
        NamespaceKind::Mount => "mnt",
        other => name(other),
    }
}
