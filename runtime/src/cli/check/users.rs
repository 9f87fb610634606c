//! Ids, capabilities, security modules, and the programs that others provide.

use anyhow::{Context, Result};
use nix::unistd::{User, getuid};

use super::{Finding, text};
use crate::container::criu::{self, Worker, dotted};

pub(super) fn findings() -> Result<Vec<Finding>> {
    Ok(vec![
        user_namespaces()?,
        unprivileged()?,
        id_ranges()?,
        capabilities()?,
        apparmor()?,
        selinux()?,
        checkpoints(),
    ])
}

fn checkpoints() -> Finding {
    const NAME: &str = "CRIU";
    let Some(path) = criu::find("criu") else {
        return Finding::missing(NAME, "nothing can be checkpointed", "install criu");
    };
    let version = Worker::start(&path).and_then(|worker| {
        let version = worker.session.require(&criu::Wishes::default());
        worker.end().and(version)
    });
    match version {
        Ok(version) => Finding::ok(
            NAME,
            format!("{} at {}; what it can do here, criu check tells", dotted(version), path.display()),
        ),
        Err(reason) => Finding::missing(NAME, format!("{reason:#}"), "install a newer criu"),
    }
}

fn user_namespaces() -> Result<Finding> {
    const NAME: &str = "user namespaces";
    let file = "/proc/sys/user/max_user_namespaces";
    Ok(match text(file)?.parse::<u64>() {
        Ok(0) => Finding::missing(NAME, "switched off", "sysctl user.max_user_namespaces=15000"),
        Ok(n) => Finding::ok(NAME, format!("up to {n} for each user")),
        Err(_) => Finding::missing(NAME, format!("no {file}"), "use a kernel with CONFIG_USER_NS"),
    })
}

/// Distributions have three switches against user namespaces of ordinary users.
fn unprivileged() -> Result<Finding> {
    const NAME: &str = "rootless user namespaces";
    let switches = [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "install an AppArmor profile that allows userns, or: sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
    ];
    for (file, off, how) in switches {
        if text(file)? == off {
            return Ok(Finding::limited(NAME, format!("{file} is {off}"), how));
        }
    }
    Ok(Finding::ok(NAME, "nothing forbids them"))
}

fn id_ranges() -> Result<Finding> {
    const NAME: &str = "id ranges";
    let (uidmap, gidmap) = (criu::find("newuidmap"), criu::find("newgidmap"));
    if uidmap.is_none() || gidmap.is_none() {
        return Ok(Finding::missing(
            NAME,
            "without newuidmap and newgidmap a rootless container has one user only",
            "install uidmap (Debian) or shadow-utils (Fedora)",
        ));
    }
    let uid = getuid();
    if uid.is_root() {
        return Ok(Finding::ok(NAME, "newuidmap and newgidmap are there; root maps what it likes"));
    }
    let user = User::from_uid(uid).context("look up our user's name")?;
    let name = user.map(|user| user.name).unwrap_or_default();
    let listed = |file| {
        let is_ours = |l: &str| l.split(':').next().is_some_and(|u| u == name || u == uid.to_string());
        Ok::<_, anyhow::Error>(text(file)?.lines().any(is_ours))
    };
    for file in ["/etc/subuid", "/etc/subgid"] {
        if !listed(file)? {
            let how = format!("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}");
            return Ok(Finding::missing(NAME, format!("{file} has no range for {name}"), how));
        }
    }
    Ok(Finding::ok(NAME, format!("{name} has ranges in /etc/subuid and /etc/subgid")))
}

fn capabilities() -> Result<Finding> {
    const NAME: &str = "capabilities";
    let bounding = caps::read(None, caps::CapSet::Bounding).context("read the bounding set")?;
    let mut lacking: Vec<String> =
        caps::runtime::thread_all_supported().difference(&bounding).map(ToString::to_string).collect();
    lacking.sort();
    if lacking.is_empty() {
        return Ok(Finding::ok(NAME, "the bounding set has all that the kernel knows"));
    }
    let how =
        "start ampoule where nothing dropped them (a container around us needs --privileged or --cap-add)";
    Ok(Finding::limited(NAME, format!("not in the bounding set: {}", lacking.join(", ")), how))
}

fn apparmor() -> Result<Finding> {
    Ok(Finding::either(
        text("/sys/module/apparmor/parameters/enabled")? == "Y",
        "AppArmor",
        "on",
        "process.apparmorProfile is refused",
        "boot with lsm=…,apparmor (CONFIG_SECURITY_APPARMOR)",
    ))
}

fn selinux() -> Result<Finding> {
    const NAME: &str = "SELinux";
    Ok(match &*text("/sys/fs/selinux/enforce")? {
        "1" => Finding::ok(NAME, "enforcing"),
        "0" => Finding::limited(NAME, "permissive: labels are set, nothing is refused", "setenforce 1"),
        _ => Finding::missing(
            NAME,
            "process.selinuxLabel and linux.mountLabel are refused",
            "boot with lsm=…,selinux (CONFIG_SECURITY_SELINUX) and a policy",
        ),
    })
}
