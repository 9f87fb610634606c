//! Who the process is: limits, umask, ids, capabilities (config.md#process).

use std::fmt;

use anyhow::{Result, bail};
use serde::Serialize;

use super::draft::Draft;
use super::namespaces::Namespaces;
use super::step::{HostStep, HostSync, InitSync, LifecycleStep, PayloadStep, Rlimit};
use crate::spec::{Capabilities, NamespaceKind, Process, Str};

/// The five sets of capabilities(7), a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct CapabilitySets {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

/// Everything that is given up or taken on in one go before exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the spec's own names")]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub capabilities: CapabilitySets,
}

/// Names by number, linux/capability.h up to Linux 5.9. (Those of the crate caps cost 12 KiB more than this table.)
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Names by number, bits/resource.h.
const RLIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

impl Serialize for CapabilitySets {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let sets = [
            ("bounding", self.bounding),
            ("effective", self.effective),
            ("permitted", self.permitted),
            ("inheritable", self.inheritable),
            ("ambient", self.ambient),
        ];
        s.collect_map(sets.iter().map(|(name, mask)| (name, names(*mask))))
    }
}

fn names(mask: u64) -> Vec<String> {
    CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(n, _)| mask & (1 << n) != 0)
        .map(|(_, name)| format!("CAP_{name}"))
        .collect()
}

/// `CAP_KILL,CAP_SYS_ADMIN`, `none` or `all`.
struct Named(u64);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALL: u64 = (1 << CAPABILITIES.len()) - 1;
        match self.0 {
            0 => f.write_str("none"),
            ALL => f.write_str("all"),
            mask => f.write_str(&names(mask).join(",")),
        }
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.capabilities;
        write!(f, "set uid {} gid {}", self.uid, self.gid)?;
        if !self.groups.is_empty() {
            write!(f, " groups {}", self.groups.iter().map(u32::to_string).collect::<Vec<_>>().join(","))?;
        }
        write!(f, " capabilities")?;
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

/// Reads the five sets. A capability that nobody here knows or holds is a warning, as config.md#linux-process says.
fn capabilities(draft: &mut Draft<'_>, given: &Capabilities<'_>) -> CapabilitySets {
    // A process that is cloned into a new user namespace has all of them.
    let held = if draft.namespaces.has_user() { u64::MAX } else { draft.facts.capabilities };
    let mut read = |name: &str, list: &[Str<'_>]| {
        let mut mask = 0;
        for cap in list {
            let upper = cap.to_ascii_uppercase();
            let number = CAPABILITIES.iter().position(|c| upper.strip_prefix("CAP_") == Some(c));
            match number {
                Some(n) if held & (1 << n) != 0 => mask |= 1 << n,
                Some(_) => draft.warn(format!(
                    "process.capabilities.{name}: the runtime does not hold {cap} itself: left out"
                )),
                None => draft
                    .warn(format!("process.capabilities.{name}: no such capability as {cap:?}: left out")),
            }
        }
        mask
    };
    CapabilitySets {
        bounding: read("bounding", &given.bounding),
        effective: read("effective", &given.effective),
        permitted: read("permitted", &given.permitted),
        inheritable: read("inheritable", &given.inheritable),
        ambient: read("ambient", &given.ambient),
    }
}

/// config.md#linux-process: how likely the kernel ends it when memory runs out.
pub(super) fn oom_score(draft: &mut Draft<'_>, process: &Process<'_>) -> Result<()> {
    match process.oom_score_adj {
        Some(value) if !(-1000..=1000).contains(&value) => {
            bail!("process.oomScoreAdj: {value}, expected -1000 to 1000")
        }
        // Engines that don't care write 0, and a user's own session often stands above it (runc lets it pass, too).
        Some(value) if draft.facts.rootless && value < draft.facts.oom_score_adj => draft.warn(format!(
            "process.oomScoreAdj: {value} is below our own {}, which takes root's rights: left at that",
            draft.facts.oom_score_adj
        )),
        value => draft.post_clone.extend(value.map(|value| HostStep::SetOomScoreAdj { value })),
    }
    Ok(())
}

/// Resource limits, and what the host does about them: raising one takes rights over the host, which nobody in a user
/// namespace has.
pub(super) fn limits(draft: &mut Draft<'_>, process: &Process<'_>) -> Result<Vec<HostStep>> {
    // One more than are open already: that of who starts the program.
    let least = 4 + draft.options.preserve_fds + draft.options.listen_fds;
    let limits = rlimits(process, least.into())?;
    if limits.is_empty() || draft.facts.rootless || !draft.namespaces.has(NamespaceKind::User) {
        draft.steps(limits.into_iter().map(PayloadStep::SetRlimit));
        return Ok(Vec::new());
    }
    draft.step(LifecycleStep::Send { point: InitSync::ReadyForRlimits });
    draft.step(LifecycleStep::Wait { point: HostSync::RlimitsSet });
    let mut steps = vec![HostStep::Expect { point: InitSync::ReadyForRlimits }];
    steps.extend(limits.into_iter().map(HostStep::SetRlimit));
    steps.push(HostStep::Send { point: HostSync::RlimitsSet });
    Ok(steps)
}

/// `least`: descriptors that the process needs up to its exec.
fn rlimits(process: &Process<'_>, least: u64) -> Result<Vec<Rlimit>> {
    let mut limits = Vec::new();
    let mut seen = 0u32;
    for (n, limit) in process.rlimits.iter().enumerate() {
        let at = format!("process.rlimits[{n}]");
        let number = RLIMITS.iter().position(|r| limit.kind.strip_prefix("RLIMIT_") == Some(r));
        let Some(number) = number else {
            bail!(
                "{at}.type: no such limit as {:?}; expected RLIMIT_NOFILE or another of getrlimit(2)",
                &*limit.kind
            )
        };
        if seen & (1 << number) != 0 {
            bail!("{at}.type: {} is there twice", limit.kind);
        }
        seen |= 1 << number;
        if limit.soft > limit.hard {
            bail!("{at}.soft: {} is above the hard limit, {}", limit.soft, limit.hard);
        }
        if RLIMITS[number] == "NOFILE" && limit.soft < least {
            bail!(
                "{at}.soft: {}, expected at least {least}: fewer descriptors can't start a program",
                limit.soft
            );
        }
        let (name, resource) = (limit.kind.to_string(), number as u32);
        limits.push(Rlimit { name, resource, soft: limit.soft, hard: limit.hard });
    }
    Ok(limits)
}

/// The payload's umask; 0022 is what runc gives where the document is silent.
pub(super) fn umask(process: &Process<'_>) -> Result<PayloadStep> {
    match process.user.umask.unwrap_or(0o022) {
        mask if mask > 0o777 => bail!("process.user.umask: {mask:#o}, expected at most 0777"),
        mask => Ok(PayloadStep::SetUmask { mask }),
    }
}

/// Ids, groups and capabilities.
pub(super) fn credentials(draft: &mut Draft<'_>, process: &Process<'_>) -> Result<()> {
    let user = &process.user;
    let (uid, gid) = (id("process.user.uid", user.uid)?, id("process.user.gid", user.gid)?);
    if draft.namespaces.makes(NamespaceKind::User) {
        for (name, id, ranges) in [("uid", uid, &draft.namespaces.uids), ("gid", gid, &draft.namespaces.gids)]
        {
            if Namespaces::outside(ranges, id).is_none() {
                bail!("process.user.{name}: {id} is not mapped by linux.{name}Mappings");
            }
        }
    }
    let capabilities = match &process.capabilities {
        Some(given) => capabilities(draft, given),
        None => CapabilitySets::default(),
    };
    let groups = user.additional_gids.iter().enumerate();
    let groups = groups.map(|(n, gid)| id(format_args!("process.user.additionalGids[{n}]"), *gid));
    let groups = groups.collect::<Result<_>>()?;
    draft.step(PayloadStep::SetCredentials(Credentials { uid, gid, groups, capabilities }));
    Ok(())
}

/// A user or a group. To the kernel -1 is none: setresuid(2) and chown(2) leave as it is what they are given that for
/// (CVE-2024-40635 is of that kind).
pub(super) fn id(property: impl fmt::Display, id: u32) -> Result<u32> {
    if id == u32::MAX {
        bail!("{property}: {id}, expected at most {}: -1 is no id", u32::MAX - 1);
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn the_names_are_those_of_the_crate_caps() {
        for (n, name) in CAPABILITIES.iter().enumerate() {
            let theirs = caps::Capability::from_str(&format!("CAP_{name}")).unwrap();
            assert_eq!(usize::from(theirs.index()), n, "{name}");
        }
        assert_eq!(CAPABILITIES.len(), caps::all().len());
    }
}
