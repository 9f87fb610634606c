//! `ampoule features`: what works, as the spec's document (features.md). It says only what does, on this build and host.

use std::path::Path;
use std::process::ExitCode;

use ::cgroup::layout::{Layout, Version};
use anyhow::{Context as _, Result};
use linux::absent::exists;
use linux::{probe, scheduling, seccomp};
use serde_json::{Value, json};

use super::Context;
use super::check::has_namespace;
use crate::container::criu::find;
use crate::container::record::OCI_VERSION;
use crate::facts;
use crate::plan::{CAPABILITIES, supported};

#[derive(clap::Args)]
pub(super) struct Features {}

const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
/// The spec's name, and the kernel's under /proc/self/ns.
const NAMESPACES: [(&str, &str); 8] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mount", "mnt"),
    ("network", "net"),
    ("pid", "pid"),
    ("time", "time"),
    ("user", "user"),
    ("uts", "uts"),
];

pub(super) fn run(context: &Context, _: Features) -> Result<ExitCode> {
    let facts = facts::probe::gather(context.rootless)?;
    let cgroups = facts.host_cgroups();
    let document = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": HOOKS,
        "mountOptions": supported::mount_options(),
        "linux": {
            "namespaces": namespaces()?,
            "capabilities": capabilities()?,
            "cgroup": cgroup(&cgroups)?,
            "seccomp": seccomp(),
            "apparmor": { "enabled": facts.apparmor },
            "selinux": { "enabled": facts.selinux },
            "intelRdt": { "enabled": facts.resctrl, "schemata": facts.resctrl, "monitoring": facts.resctrl },
            "memoryPolicy": memory_policy(),
            "mountExtensions": { "idmap": { "enabled": probe::can_map_mount_ids() == Some(true) } },
            "netDevices": { "enabled": !facts.rootless },
        },
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property.", "org.criu.config"],
        "annotations": {
            "io.ampoule.version": env!("CARGO_PKG_VERSION"),
            // As runc has it under its own name: a text.
            "io.ampoule.checkpoint.enabled": (!facts.rootless && find("criu").is_some()).to_string(),
        },
    });
    super::print(&format!("{document:#}\n"))
}

fn namespaces() -> Result<Vec<&'static str>> {
    let mut there = Vec::new();
    for (kind, name) in NAMESPACES {
        there.extend(has_namespace(name)?.then_some(kind));
    }
    Ok(there)
}

/// Those that this kernel knows.
fn capabilities() -> Result<Vec<String>> {
    const LAST: &str = "/proc/sys/kernel/cap_last_cap";
    let last = std::fs::read_to_string(LAST).with_context(|| format!("read {LAST}"))?;
    let last: usize = last.trim_end().parse().with_context(|| format!("{LAST}: {last:?}"))?;
    Ok(CAPABILITIES.iter().take(last + 1).map(|name| format!("CAP_{name}")).collect())
}

fn cgroup(layout: &Layout) -> Result<Value> {
    let has = |version| layout.hierarchies.iter().any(|tree| tree.version == version);
    let rdma = layout.hierarchies.iter().any(|tree| tree.controllers.iter().any(|c| c == "rdma"));
    // sd_booted(3); whether it also answers is for check to say, which may take its time.
    const BOOTED: &str = "/run/systemd/system";
    let booted = exists(Path::new(BOOTED)).with_context(|| format!("stat {BOOTED}"))?;
    let systemd = booted && has(Version::V2) && !has(Version::V1);
    Ok(json!({
        "v1": has(Version::V1),
        "v2": has(Version::V2),
        "systemd": systemd,
        "systemdUser": systemd,
        "rdma": rdma,
    }))
}

fn seccomp() -> Value {
    let known = supported::seccomp();
    let supported = known.flags.iter().filter(|(_, flag)| seccomp::knows(*flag));
    json!({
        "enabled": seccomp::available(),
        "actions": known.actions,
        "operators": known.operators,
        "archs": known.archs,
        "knownFlags": known.flags.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "supportedFlags": supported.map(|(name, _)| name).collect::<Vec<_>>(),
    })
}

fn memory_policy() -> Value {
    const MPOL_BIND: u32 = 2;
    let [modes, flags] = supported::memory_policy();
    let modes = modes.iter().filter(|(_, mode)| scheduling::takes_memory_policy(*mode as u32));
    let flags = flags.iter().filter(|(_, flag)| scheduling::takes_memory_policy(*flag as u32 | MPOL_BIND));
    json!({
        "modes": modes.map(|(name, _)| name).collect::<Vec<_>>(),
        "flags": flags.map(|(name, _)| name).collect::<Vec<_>>(),
    })
}
