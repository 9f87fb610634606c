//! System calls, namespaces and filesystems.

use std::path::Path;

use anyhow::Result;
use linux::probe::{self, Call};

use super::{Finding, has_namespace, text};

pub(super) fn findings() -> Result<Vec<Finding>> {
    let mut findings = calls();
    findings.extend(namespaces()?);
    findings.push(mapped_mounts());
    findings.push(seccomp()?);
    findings.push(overlay()?);
    Ok(findings)
}

fn calls() -> Vec<Finding> {
    let call = |yes, name, there, lost, since: &str| {
        Finding::either(yes, name, there, lost, &format!("use {since}"))
    };
    let pidfd = probe::has_call(Call::PidfdOpen) && probe::has_call(Call::PidfdSendSignal);
    vec![
        call(
            probe::has_call(Call::Clone3),
            "clone3",
            "all namespaces in one call",
            "no container can be made (a seccomp filter may hide it)",
            "Linux 5.3 or newer, or a filter that lets clone3 pass",
        ),
        call(
            pidfd,
            "pidfd",
            "signals can't reach a stranger",
            "no process can be held on to",
            "Linux 5.3 or newer",
        ),
        call(
            probe::has_call(Call::OpenTree),
            "new mount API",
            "fsopen, fsmount, open_tree, move_mount",
            "nothing can be mounted",
            "Linux 5.2 or newer",
        ),
        call(
            probe::has_call(Call::MountSetattr),
            "mount_setattr",
            "recursive mount options",
            "mount options can't be set",
            "Linux 5.12 or newer",
        ),
        call(
            probe::has_call(Call::Openat2),
            "openat2",
            "paths inside the container can't lead out",
            "paths inside the container can't be resolved",
            "Linux 5.6 or newer",
        ),
        call(
            probe::has_call(Call::CloseRange),
            "close_range",
            "leaked descriptors are closed in one call",
            "leaked descriptors are closed one by one",
            "Linux 5.9 or newer",
        ),
    ]
}

fn namespaces() -> Result<Vec<Finding>> {
    const ALL: [(&str, &str, &str); 8] = [
        ("mnt", "mount", "CONFIG_NAMESPACES"),
        ("pid", "pid", "CONFIG_PID_NS"),
        ("net", "network", "CONFIG_NET_NS"),
        ("ipc", "ipc", "CONFIG_IPC_NS"),
        ("uts", "uts", "CONFIG_UTS_NS"),
        ("user", "user", "CONFIG_USER_NS"),
        ("cgroup", "cgroup", "CONFIG_CGROUPS, Linux 4.6"),
        ("time", "time", "CONFIG_TIME_NS, Linux 5.6"),
    ];
    let (mut list, mut lacking) = (Vec::new(), Vec::new());
    for (file, name, option) in ALL {
        if has_namespace(file)? { list.push(name) } else { lacking.push((name, option)) }
    }
    let mut findings = Vec::new();
    if !list.is_empty() {
        findings.push(Finding::ok("namespaces", list.join(", ")));
    }
    findings.extend(lacking.iter().map(|(name, option)| {
        Finding::missing(
            "namespaces",
            format!("this kernel has no {name} namespace"),
            format!("use a kernel with {option}"),
        )
    }));
    Ok(findings)
}

fn mapped_mounts() -> Finding {
    const NAME: &str = "idmapped mounts";
    match probe::can_map_mount_ids() {
        Some(true) => Finding::ok(NAME, "by the kernel; the mounted filesystem has to know them, too"),
        Some(false) => Finding::missing(NAME, "idmap and ridmap are refused", "use Linux 5.12 or newer"),
        None => Finding::limited(NAME, "not ours to ask for", "run as root"),
    }
}

fn seccomp() -> Result<Finding> {
    const NAME: &str = "seccomp";
    let actions = text("/proc/sys/kernel/seccomp/actions_avail")?;
    if actions.is_empty() {
        return Ok(Finding::missing(
            NAME,
            "system calls can't be filtered",
            "use a kernel with CONFIG_SECCOMP_FILTER",
        ));
    }
    let lacking: Vec<&str> = ["user_notif", "log", "kill_process"]
        .into_iter()
        .filter(|action| !actions.split_whitespace().any(|a| a == *action))
        .collect();
    Ok(if lacking.is_empty() {
        Finding::ok(NAME, actions)
    } else {
        Finding::limited(
            NAME,
            format!("without the actions {}", lacking.join(", ")),
            "use Linux 5.0 or newer",
        )
    })
}

fn overlay() -> Result<Finding> {
    const NAME: &str = "overlayfs";
    let listed =
        text("/proc/filesystems")?.lines().any(|l| l.split_whitespace().next_back() == Some("overlay"));
    if listed {
        return Ok(Finding::ok(NAME, "image layers can be stacked"));
    }
    let modules = format!("/lib/modules/{}", text("/proc/sys/kernel/osrelease")?);
    Ok(if text(Path::new(&modules).join("modules.dep"))?.contains("/overlay.ko") {
        Finding::limited(NAME, "the module is not loaded; the first mount loads it", "modprobe overlay")
    } else {
        Finding::missing(NAME, "image layers can't be stacked", "use a kernel with CONFIG_OVERLAY_FS")
    })
}
