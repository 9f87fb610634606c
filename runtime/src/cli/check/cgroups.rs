//! The cgroup layout, its controllers, and what hangs on them.

use std::path::{Path, PathBuf};

use ::cgroup::layout::{Hierarchy, Layout, Version};
use anyhow::{Context, Result};
use linux::absent::entries;
use linux::{bpf, probe};
use nix::unistd::{AccessFlags, access};

use super::{Finding, is_there, text};
use crate::container::systemd;
use crate::facts::Manager;

const UNIFY: &str = "boot with systemd.unified_cgroup_hierarchy=1, or: mount -t cgroup2 none /sys/fs/cgroup";

pub(super) fn findings(layout: &Layout) -> Result<Vec<Finding>> {
    let v2 = layout.hierarchies.iter().find(|t| t.version == Version::V2);
    let mut findings = vec![shape(layout, v2)];
    findings.extend(controllers(layout)?);
    if let Some(first) = layout.hierarchies.first() {
        findings.push(writable(first));
    }
    findings.push(born_inside(v2));
    findings.push(devices(layout, v2));
    findings.push(kill(v2)?);
    findings.push(swap(layout)?);
    findings.push(systemd_driver(layout)?);
    findings.push(Finding::either(
        is_there("/proc/pressure")?,
        "pressure (PSI)",
        "cpu, io and memory pressure are measured",
        "statistics hold no pressure",
        "boot with psi=1 (Linux 4.20, CONFIG_PSI)",
    ));
    Ok(findings)
}

fn shape(layout: &Layout, v2: Option<&Hierarchy>) -> Finding {
    let v1 = layout.hierarchies.iter().filter(|t| t.version == Version::V1).count();
    match (v1, v2) {
        (0, Some(tree)) => Finding::ok("layout", format!("v2 at {}", tree.mount.display())),
        (0, None) => {
            Finding::missing("layout", "no cgroup filesystem is mounted: nothing can be limited", UNIFY)
        }
        (n, Some(tree)) => Finding::limited(
            "layout",
            format!("hybrid: {n} v1 trees, and v2 at {}", tree.mount.display()),
            UNIFY,
        ),
        (n, None) => Finding::limited("layout", format!("v1: {n} trees"), UNIFY),
    }
}

/// Who holds which controller, and why those that limits need are absent.
fn controllers(layout: &Layout) -> Result<Vec<Finding>> {
    let held = |name: &str| layout.hierarchies.iter().any(|t| t.controllers.iter().any(|c| c == name));
    // What each is called in either version, and the file of the kernel's configuration.
    const WANTED: [(&str, &str, &str); 7] = [
        ("cpu", "cpu", "CONFIG_CGROUP_SCHED"),
        ("cpuset", "cpuset", "CONFIG_CPUSETS"),
        ("memory", "memory", "CONFIG_MEMCG"),
        ("pids", "pids", "CONFIG_CGROUP_PIDS"),
        ("io", "blkio", "CONFIG_BLK_CGROUP"),
        ("hugetlb", "hugetlb", "CONFIG_CGROUP_HUGETLB"),
        ("rdma", "rdma", "CONFIG_CGROUP_RDMA"),
    ];
    let (there, lacking): (Vec<_>, Vec<_>) = WANTED.into_iter().partition(|(v2, v1, _)| held(v2) || held(v1));
    let list: Vec<&str> = there.iter().map(|(name, ..)| *name).collect();
    let mut findings = Vec::new();
    if !list.is_empty() {
        findings.push(Finding::ok("controllers", list.join(", ")));
    }
    let known = text("/proc/cgroups")?;
    for (name, v1, option) in lacking {
        let row = known
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>())
            .find(|row| row.first() == Some(&v1));
        let how = match row.as_deref().and_then(|row| row.last()) {
            Some(&"0") => format!("take cgroup_disable={v1} off the kernel's command line"),
            Some(_) => {
                "mount it, or give it to the v2 tree: no hierarchy has it, though the kernel does".to_owned()
            }
            None => format!("use a kernel with {option}"),
        };
        findings.push(Finding::missing(name, "limits of this kind are refused", how));
    }
    Ok(findings)
}

fn writable(tree: &Hierarchy) -> Finding {
    let dir = tree.mount.display();
    match access(&tree.mount, AccessFlags::W_OK) {
        Ok(()) => Finding::ok("right to make groups", format!("{dir} is ours to write")),
        Err(e) => Finding::limited(
            "right to make groups",
            format!("{dir}: {e}"),
            "run as root, or have systemd delegate a group (Delegate=yes)",
        ),
    }
}

fn born_inside(v2: Option<&Hierarchy>) -> Finding {
    match (probe::can_clone_into_cgroup(), v2) {
        (true, Some(_)) => Finding::ok("clone into the cgroup", "CLONE_INTO_CGROUP: no move after the clone"),
        (true, None) => {
            Finding::limited("clone into the cgroup", "only v2 has it: the process is moved later", UNIFY)
        }
        (false, _) => Finding::missing(
            "clone into the cgroup",
            "the process is moved after the clone",
            "use Linux 5.7 or newer",
        ),
    }
}

fn devices(layout: &Layout, v2: Option<&Hierarchy>) -> Finding {
    const NAME: &str = "device rules";
    if layout.hierarchies.iter().any(|t| t.controllers.iter().any(|c| c == "devices")) {
        return Finding::ok(NAME, "the v1 devices controller");
    }
    if v2.is_none() {
        return Finding::missing(NAME, "no devices controller and no v2 tree", UNIFY);
    }
    // r0 = 1; exit
    match bpf::load_device_program(&[0x1_0000_00b7, 0x95]) {
        Ok(_) => Finding::ok(NAME, "BPF programs on v2 groups"),
        Err(refused) if refused.errno == nix::errno::Errno::EPERM => Finding::limited(
            NAME,
            "BPF programs are refused to this user",
            "run as root, or with CAP_BPF and CAP_NET_ADMIN",
        ),
        Err(refused) => Finding::missing(
            NAME,
            format!("bpf(BPF_PROG_LOAD): {}", refused.errno),
            "use Linux 4.15 or newer with CONFIG_CGROUP_BPF",
        ),
    }
}

fn kill(v2: Option<&Hierarchy>) -> Result<Finding> {
    const NAME: &str = "kill of a whole group";
    let Some(tree) = v2 else {
        return Ok(Finding::limited(NAME, "v1: freeze, signal one by one, thaw", UNIFY));
    };
    let (there, how) = match some_group(&tree.mount)? {
        Some(group) => (is_there(group.join("cgroup.kill"))?, "cgroup.kill"),
        // The root has no such file, so with no group to look at the kernel's age decides.
        None => (kernel_is(5, 14)?, "cgroup.kill, going by the kernel's version"),
    };
    Ok(match there {
        true => Finding::ok(NAME, how),
        false => Finding::limited(NAME, "freeze, signal one by one, thaw", "use Linux 5.14 or newer"),
    })
}

/// Any group below the root.
fn some_group(mount: &Path) -> Result<Option<PathBuf>> {
    for entry in entries(mount).with_context(|| format!("read {}", mount.display()))? {
        let kind = entry.file_type().with_context(|| format!("read {}", mount.display()))?;
        if kind.is_dir() {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn kernel_is(major: u32, minor: u32) -> Result<bool> {
    let release = text("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    Ok((numbers.next(), numbers.next()) >= (Some(major), Some(minor)))
}

/// Asked for real, over the bus that create would use.
fn systemd_driver(layout: &Layout) -> Result<Finding> {
    const NAME: &str = "systemd driver";
    const LOST: &str = "--systemd-cgroup is refused; the cgroupfs driver works";
    if !is_there("/run/systemd/system")? {
        return Ok(Finding::missing(NAME, LOST, "boot with systemd as init"));
    }
    if layout.hierarchies.iter().any(|t| t.version == Version::V1) {
        return Ok(Finding::missing(NAME, LOST, UNIFY));
    }
    let version = Manager::find().and_then(|manager| Ok((manager.user, systemd::version(manager.user)?)));
    Ok(match version {
        Ok((true, version)) => Finding::ok(NAME, format!("this user's systemd {version} makes scopes")),
        Ok((false, version)) => Finding::ok(NAME, format!("systemd {version} makes scopes")),
        Err(reason) => Finding::missing(NAME, LOST, format!("{reason:#}")),
    })
}

fn swap(layout: &Layout) -> Result<Finding> {
    const NAME: &str = "swap accounting";
    const TURN_ON: &str = "boot with swapaccount=1 (CONFIG_MEMCG_SWAP; always there since Linux 6.1)";
    let home = layout.hierarchies.iter().find(|t| t.controllers.iter().any(|c| c == "memory"));
    let Some(tree) = home else {
        return Ok(Finding::missing(NAME, "needs the memory controller", "see memory"));
    };
    let there = match tree.version {
        Version::V1 => is_there(tree.mount.join("memory.memsw.limit_in_bytes"))?,
        Version::V2 => match some_group(&tree.mount)? {
            Some(group) => is_there(group.join("memory.swap.max"))? || kernel_is(6, 1)?,
            None => true,
        },
    };
    Ok(Finding::either(
        there,
        NAME,
        "memory.swap can be limited",
        "linux.resources.memory.swap is refused",
        TURN_ON,
    ))
}
