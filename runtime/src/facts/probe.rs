//! Looks at the host.

use std::path::Path;

use anyhow::{Context, Result};
use cgroup::layout::{Hierarchy, Layout, Version, own_path};
use linux::absent::absent;
use linux::credentials::in_user_namespace;
use linux::kernfs;
use nix::errno::Errno;
use nix::sys::statfs::FsType;

use super::{Facts, Manager, RESCTRL};

/// linux/magic.h
const RESCTRL_MAGIC: FsType = FsType(0x0765_5821);
const SELINUX_MAGIC: FsType = FsType(libc::SELINUX_MAGIC as _);

impl Manager {
    /// The one that is ours to ask.
    ///
    /// # Errors
    /// It can't be told.
    pub fn find() -> Result<Self> {
        let euid = nix::unistd::geteuid().as_raw();
        Ok(manager(euid, &text("/proc/self/uid_map")?, &cgroup::probe::own()?))
    }
}

impl Facts {
    /// With the systemd that is ours to ask. It makes cgroups that we could not make ourselves.
    ///
    /// # Errors
    /// It can't be told which that is.
    pub fn with_manager(self) -> Result<Self> {
        let (cgroups, undelegated) = (self.host_cgroups(), Layout::default());
        Ok(Facts { cgroups, undelegated, manager: Manager::find()?, ..self })
    }
}

/// Looks at the host. What is absent the planner names as what a wish lacks; what can't be read is an error here, or a
/// container would have less around it than was asked for.
///
/// `rootless` is the user's word; without one, who may not mount on the host is rootless.
///
/// # Errors
/// What can't be read.
pub fn gather(rootless: Option<bool>) -> Result<Facts> {
    let mut facts = ourselves(rootless)?;
    let all = cgroup::probe::layout()?;
    if !facts.rootless {
        facts.cgroups = all;
        return Ok(facts);
    }
    for tree in all.hierarchies {
        let ours = is_delegated(&tree)?;
        let list = if ours { &mut facts.cgroups } else { &mut facts.undelegated };
        list.hierarchies.push(tree);
    }
    Ok(facts)
}

/// The facts about this process, without those about cgroups.
///
/// # Errors
/// As those of [`gather`].
pub fn ourselves(rootless: Option<bool>) -> Result<Facts> {
    let held = caps::read(None, caps::CapSet::Permitted).context("read our capabilities")?;
    let may_mount = held.contains(&caps::Capability::CAP_SYS_ADMIN);
    let in_user_namespace = in_user_namespace().context("read /proc/self/ns/user")?;
    let mut facts = Facts {
        capabilities: held.iter().fold(0, |mask, cap| mask | cap.bitmask()),
        euid: nix::unistd::geteuid().as_raw(),
        egid: nix::unistd::getegid().as_raw(),
        resctrl: is_on(RESCTRL, RESCTRL_MAGIC)?,
        apparmor: text("/sys/module/apparmor/parameters/enabled")?.starts_with('Y'),
        selinux: is_on("/sys/fs/selinux", SELINUX_MAGIC)?,
        rootless: rootless.unwrap_or(!may_mount || in_user_namespace),
        in_user_namespace,
        ..Facts::default()
    };
    if facts.rootless {
        let own = text("/proc/self/oom_score_adj")?;
        facts.oom_score_adj = own.trim_end().parse().with_context(|| format!("oom_score_adj: {own:?}"))?;
    }
    Ok(facts)
}

/// Whether this process may make a group where its container's would be, and move a process there: that takes the
/// right to write to both groups and to the one above them (cgroup-v2.rst, "Delegation Containment").
fn is_delegated(tree: &Hierarchy) -> Result<bool> {
    let own = tree.mount.join(tree.own.trim_start_matches('/'));
    let above = if tree.version == Version::V2 && tree.own != "/" { own.parent() } else { Some(&*own) };
    let writable = |path: &Path| match nix::unistd::access(path, nix::unistd::AccessFlags::W_OK) {
        Ok(()) => Ok(true),
        Err(Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ENOENT) => Ok(false),
        Err(e) => Err(e).with_context(|| format!("access {}", path.display())),
    };
    let Some(above) = above else { return Ok(false) };
    Ok(writable(above)? && writable(&above.join("cgroup.procs"))?)
}

/// Root of a user namespace is an ordinary user to systemd. Who is not below their own manager (a login is beside it)
/// finds it at its usual place (systemd's pam_systemd(8), user@.service(5)).
pub fn manager(euid: u32, uid_map: &str, own: &str) -> Manager {
    let uid = outside(euid, uid_map);
    if uid == 0 {
        return Manager::default();
    }
    let service = format!("user@{uid}.service");
    let path = own_path(own, &[]).unwrap_or_default();
    let root = match path.split_inclusive('/').position(|part| part.trim_end_matches('/') == service) {
        Some(n) => path.split_inclusive('/').take(n + 1).collect::<String>(),
        None => format!("/user.slice/user-{uid}.slice/{service}"),
    };
    Manager { user: true, root: root.trim_end_matches('/').to_owned() }
}

/// An id of ours as the namespace above knows it (user_namespaces(7)).
fn outside(id: u32, map: &str) -> u32 {
    let mut rows = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    let found = rows.find(|(inside, _, size)| id >= *inside && id - inside < *size);
    found.map_or(id, |(inside, outside, _)| outside + (id - inside))
}

/// The text of a kernel file, empty when there is none.
fn text(path: &str) -> Result<String> {
    let text = absent(kernfs::read(Path::new(path))).with_context(|| format!("read {path}"))?;
    Ok(text.unwrap_or_default())
}

/// Whether a file system of that kind is mounted there.
fn is_on(dir: &str, kind: FsType) -> Result<bool> {
    linux::mount::is_on(Path::new(dir), kind).with_context(|| format!("statfs {dir}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_manager_is_found_above_us_or_at_its_usual_place() {
        let whole = "         0          0 4294967295\n";
        let manager = |euid, map, own: &str| {
            let found = super::manager(euid, map, &format!("0::{own}\n"));
            (found.user, found.root)
        };
        assert_eq!(manager(0, whole, "/user.slice/user-0.slice/session-1.scope"), (false, "/".into()));
        let usual = (true, "/user.slice/user-7.slice/user@7.service".to_owned());
        assert_eq!(manager(7, whole, "/user.slice/user-7.slice/session-1.scope"), usual);
        assert_eq!(manager(0, "0 7 1\n1 100000 65536\n", "/"), usual, "root of a user namespace");
        let odd = (true, "/c/user@7.service".to_owned());
        assert_eq!(manager(7, whole, "/c/user@7.service/app.slice/x.scope"), odd);
    }

    #[test]
    fn what_is_absent_is_empty_and_what_cannot_be_read_is_an_error() {
        assert_eq!(text("/no/such/file").unwrap(), "");
        assert!(text("/proc/self/mem").unwrap_err().to_string().contains("/proc/self/mem"));
    }

    #[test]
    fn this_host_has_its_facts() {
        let facts = gather(None).unwrap();
        assert_eq!(facts.euid, nix::unistd::geteuid().as_raw());
        for tree in &facts.cgroups.hierarchies {
            assert!(tree.own.starts_with('/'), "{tree:?}");
            assert!(tree.mount.is_dir(), "{tree:?}");
        }
    }
}
