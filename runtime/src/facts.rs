//! What the host is: the planner's second input, beside config.json. The planner never looks anything up itself.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::statfs::{FsType, statfs};

use crate::sys::absent::absent;
use crate::sys::kernfs;

pub(crate) mod cgroups;

pub use cgroups::{cgroup2_of, cgroups_of, container_cgroups};
use cgroups::{layout, own_path};

/// Where the kernel has a place for the resctrl filesystem.
pub const RESCTRL: &str = "/sys/fs/resctrl";

/// A kernel without cgroups has no such file.
const OWN: &str = "/proc/self/cgroup";

/// linux/magic.h
const RESCTRL_MAGIC: FsType = FsType(0x0765_5821);
const SELINUX_MAGIC: FsType = FsType(libc::SELINUX_MAGIC as _);

/// What a plan may depend on besides config.json.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Where which cgroup controller lives, of the hierarchies that the runtime may use.
    pub cgroups: Layout,
    /// The hierarchies that are there, too, but not for us: an ordinary user's without delegation.
    pub foreign: Layout,
    /// The runtime's permitted capabilities, bit N for capability number N (capabilities(7)).
    pub capabilities: u64,
    /// The runtime's effective user id.
    pub euid: u32,
    /// The runtime's effective group id.
    pub egid: u32,
    /// Without rights over the host: what root does there is done inside, by a helper, or left out.
    pub rootless: bool,
    /// In a user namespace that isn't the host's, as below an ordinary user's podman. root in there is rootless.
    pub in_user_namespace: bool,
    /// Whether [`RESCTRL`] is mounted.
    pub resctrl: bool,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether SELinux is on.
    pub selinux: bool,
    /// The runtime's own oom_score_adj, below which nobody may go without CAP_SYS_RESOURCE.
    pub oom_score_adj: i32,
    /// The systemd that would make a scope; looked for only where one is wanted.
    pub manager: Manager,
}

/// A systemd: the system's, or the user's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// Whether it is the user's.
    pub user: bool,
    /// The cgroup that its slices lie in, seen from the mount; begins with `/`.
    pub root: String,
}

impl Default for Manager {
    fn default() -> Self {
        Manager { user: false, root: "/".to_owned() }
    }
}

impl Manager {
    /// The one that is ours to ask.
    ///
    /// # Errors
    /// It can't be told.
    pub fn find() -> Result<Self> {
        let euid = nix::unistd::geteuid().as_raw();
        Ok(manager(euid, &text("/proc/self/uid_map")?, &text(OWN)?))
    }
}

impl Facts {
    /// Whether it takes a user namespace to have any rights at all.
    pub fn powerless(&self) -> bool {
        const CAP_SYS_ADMIN: u64 = 1 << 21;
        self.rootless && !(self.in_user_namespace && self.capabilities & CAP_SYS_ADMIN != 0)
    }

    /// With the systemd that is ours to ask. It hands out cgroups that we could not make ourselves.
    ///
    /// # Errors
    /// It can't be told which that is.
    pub fn with_manager(self) -> Result<Self> {
        let (cgroups, foreign) = (self.host_cgroups(), Layout::default());
        Ok(Facts { cgroups, foreign, manager: Manager::find()?, ..self })
    }
}

/// The mounted cgroup hierarchies. v1, v2 and the hybrid of both are the same thing here: each controller lives in
/// one of them, and that one's version says how it is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// In the order of their mounts.
    pub hierarchies: Vec<Hierarchy>,
}

/// One tree of cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// How its files are spelt.
    pub version: Version,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The controllers that live in it: `cpu`, `memory`, or a v1 name such as `name=systemd`.
    pub controllers: Vec<String>,
    /// This process's own cgroup, seen from `mount`; begins with `/`.
    pub own: String,
}

/// The two generations of the interface (cgroups(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub enum Version {
    V1,
    V2,
}

impl Layout {
    /// What a current distribution mounts.
    pub fn pure_v2() -> Self {
        let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];
        Layout { hierarchies: vec![Hierarchy::new(Version::V2, "/sys/fs/cgroup", &controllers)] }
    }

    /// What a distribution of the last decade mounts.
    pub fn pure_v1() -> Self {
        let trees: [&[&str]; 11] = [
            &["cpuset"],
            &["cpu", "cpuacct"],
            &["memory"],
            &["devices"],
            &["freezer"],
            &["net_cls", "net_prio"],
            &["blkio"],
            &["hugetlb"],
            &["pids"],
            &["rdma"],
            &["name=systemd"],
        ];
        let dir = |c: &[&str]| format!("/sys/fs/cgroup/{}", c.join(",").trim_start_matches("name="));
        Layout { hierarchies: trees.iter().map(|c| Hierarchy::new(Version::V1, &dir(c), c)).collect() }
    }

    /// v1 with a v2 tree beside it that holds no controller: systemd's hybrid mode.
    pub fn hybrid() -> Self {
        let mut layout = Layout::pure_v1();
        layout.hierarchies.push(Hierarchy::new(Version::V2, "/sys/fs/cgroup/unified", &[]));
        layout
    }
}

impl Hierarchy {
    fn new(version: Version, mount: &str, controllers: &[&str]) -> Self {
        let controllers = controllers.iter().map(|c| (*c).to_owned()).collect();
        Hierarchy { version, mount: mount.into(), controllers, own: "/".into() }
    }
}

impl Facts {
    /// All hierarchies of the host, ours or not.
    pub fn host_cgroups(&self) -> Layout {
        let hierarchies = [&self.cgroups.hierarchies[..], &self.foreign.hierarchies[..]].concat();
        Layout { hierarchies }
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
    let all = layout(&text(OWN)?)?;
    if !facts.rootless {
        facts.cgroups = all;
        return Ok(facts);
    }
    for tree in all.hierarchies {
        let ours = is_delegated(&tree)?;
        let list = if ours { &mut facts.cgroups } else { &mut facts.foreign };
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
    let in_user_namespace = in_user_namespace()?;
    let mut facts = Facts {
        capabilities: held.iter().fold(0, |mask, cap| mask | cap.bitmask()),
        euid: nix::unistd::geteuid().as_raw(),
        egid: nix::unistd::getegid().as_raw(),
        resctrl: holds(Path::new(RESCTRL), RESCTRL_MAGIC)?,
        apparmor: text("/sys/module/apparmor/parameters/enabled")?.starts_with('Y'),
        selinux: holds(Path::new("/sys/fs/selinux"), SELINUX_MAGIC)?,
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

/// The host's has a number of its own (PROC_USER_INIT_INO of linux/proc_ns.h).
///
/// # Errors
/// The link can't be read. A kernel without user namespaces has none.
pub fn in_user_namespace() -> Result<bool> {
    let link = absent(std::fs::read_link("/proc/self/ns/user")).context("read /proc/self/ns/user")?;
    Ok(link.is_some_and(|name| name != Path::new("user:[4026531837]")))
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
pub(crate) fn manager(euid: u32, uid_map: &str, own: &str) -> Manager {
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

/// Whether a directory is the top of such a file system, or lies in one.
fn holds(dir: &Path, kind: FsType) -> Result<bool> {
    let found = absent(statfs(dir)).with_context(|| format!("statfs {}", dir.display()))?;
    Ok(found.is_some_and(|found| found.filesystem_type() == kind))
}

#[cfg(test)]
mod tests;
