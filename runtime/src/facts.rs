//! What the host is: the planner's second input, beside config.json. The planner never looks anything up itself.

use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, FsType, statfs};

use crate::sys::kernfs;

/// Where the kernel has a place for the resctrl filesystem.
pub const RESCTRL: &str = "/sys/fs/resctrl";

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
    pub fn find() -> Self {
        let euid = nix::unistd::geteuid().as_raw();
        manager(euid, &read("/proc/self/uid_map"), &read("/proc/self/cgroup"))
    }
}

impl Facts {
    /// Whether it takes a user namespace to have any rights at all.
    pub fn powerless(&self) -> bool {
        const CAP_SYS_ADMIN: u64 = 1 << 21;
        self.rootless && !(self.in_user_namespace && self.capabilities & CAP_SYS_ADMIN != 0)
    }

    /// With the systemd that is ours to ask. It hands out cgroups that we could not make ourselves.
    #[must_use]
    pub fn with_manager(self) -> Self {
        let (cgroups, foreign) = (self.host_cgroups(), Layout::default());
        Facts { cgroups, foreign, manager: Manager::find(), ..self }
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

/// Looks at the host. What can't be read counts as absent: the planner then names what a wish lacks.
///
/// `rootless` is the user's word; without one, who may not mount on the host is rootless.
pub fn gather(rootless: Option<bool>) -> Facts {
    let mut facts = ourselves(rootless);
    facts.cgroups = layout(&read("/proc/self/cgroup"));
    if facts.rootless {
        (facts.cgroups.hierarchies, facts.foreign.hierarchies) =
            facts.cgroups.hierarchies.into_iter().partition(is_delegated);
    }
    facts
}

/// The facts about this process, without those about cgroups.
pub fn ourselves(rootless: Option<bool>) -> Facts {
    let held = caps::read(None, caps::CapSet::Permitted).unwrap_or_default();
    let may_mount = held.contains(&caps::Capability::CAP_SYS_ADMIN);
    let in_user_namespace = in_user_namespace();
    let mut facts = Facts {
        capabilities: held.iter().fold(0, |mask, cap| mask | cap.bitmask()),
        euid: nix::unistd::geteuid().as_raw(),
        egid: nix::unistd::getegid().as_raw(),
        resctrl: statfs(RESCTRL).is_ok_and(|s| s.filesystem_type() == RESCTRL_MAGIC),
        apparmor: read("/sys/module/apparmor/parameters/enabled").starts_with('Y'),
        selinux: statfs("/sys/fs/selinux").is_ok_and(|s| s.filesystem_type() == SELINUX_MAGIC),
        rootless: rootless.unwrap_or(!may_mount || in_user_namespace),
        in_user_namespace,
        ..Facts::default()
    };
    if facts.rootless {
        facts.oom_score_adj = read("/proc/self/oom_score_adj").trim_end().parse().unwrap_or_default();
    }
    facts
}

/// The host's has a number of its own (PROC_USER_INIT_INO of linux/proc_ns.h).
pub fn in_user_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/user").is_ok_and(|name| name != Path::new("user:[4026531837]"))
}

/// Whether this process may make a group where its container's would be, and move a process there: that takes the
/// right to write to both groups and to the one above them (cgroup-v2.rst, "Delegation Containment").
fn is_delegated(tree: &Hierarchy) -> bool {
    let own = tree.mount.join(tree.own.trim_start_matches('/'));
    let above = if tree.version == Version::V2 && tree.own != "/" { own.parent() } else { Some(&*own) };
    let writable = |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok();
    above.is_some_and(|above| writable(above) && writable(&above.join("cgroup.procs")))
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

/// The directories of a process's cgroups, but only those of that name: any other is not the container's alone.
pub fn cgroups_of(pid: i32, name: &str) -> Vec<PathBuf> {
    let found = layout(&read(format!("/proc/{pid}/cgroup")));
    let dirs = found.hierarchies.iter().map(|h| h.mount.join(h.own.trim_start_matches('/')));
    let scope = format!("ampoule-{name}.scope");
    dirs.filter(|dir| dir.file_name().is_some_and(|last| last == name || last == &*scope)).collect()
}

/// The directories of the cgroups of a container that any runtime made, by its init. One at the top of its hierarchy is
/// the host's, not the container's.
pub fn container_cgroups(pid: i32) -> Vec<PathBuf> {
    let found = layout(&read(format!("/proc/{pid}/cgroup")));
    let own = found.hierarchies.iter().filter(|h| h.own != "/");
    own.map(|h| h.mount.join(h.own.trim_start_matches('/'))).filter(|dir| dir.exists()).collect()
}

/// The directory of a process's v2 cgroup.
pub fn cgroup2_of(pid: i32) -> Option<PathBuf> {
    let found = layout(&read(format!("/proc/{pid}/cgroup")));
    let tree = found.hierarchies.into_iter().find(|h| h.version == Version::V2)?;
    Some(tree.mount.join(tree.own.trim_start_matches('/')))
}

/// The layout as seen from the process whose `/proc/PID/cgroup` reads `own`.
fn layout(own: &str) -> Layout {
    let top = Path::new("/sys/fs/cgroup");
    if statfs(top).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC) {
        let path = own_path(own, &[]).unwrap_or("/");
        // Only a mount that shows part of the tree needs mountinfo to translate, and there the path leads nowhere.
        if path == "/" || top.join(&path[1..]).exists() {
            let controllers = controllers_of(top);
            let tree = Hierarchy { version: Version::V2, mount: top.into(), controllers, own: path.into() };
            return Layout { hierarchies: vec![tree] };
        }
    }
    parse(&read("/proc/self/mountinfo"), own, controllers_of)
}

fn controllers_of(mount: &Path) -> Vec<String> {
    read(mount.join("cgroup.controllers")).split_whitespace().map(str::to_owned).collect()
}

/// The layout that `/proc/self/mountinfo` and `/proc/self/cgroup` tell (proc(5), cgroups(7)).
pub(crate) fn parse(mountinfo: &str, own: &str, v2_controllers: impl Fn(&Path) -> Vec<String>) -> Layout {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for (line, end) in mountinfo.lines().filter_map(|l| l.split_once(" - cgroup")) {
        let mut fields = line.split(' ').skip(3);
        let (Some(root), Some(mount)) = (fields.next(), fields.next()) else { continue };
        let mount = PathBuf::from(unescape(mount));
        let (version, controllers) = if end.starts_with("2 ") {
            (Version::V2, v2_controllers(&mount))
        } else {
            let options: Vec<&str> = end.rsplit(' ').next().unwrap_or_default().split(',').collect();
            (Version::V1, v1_controllers(own, &options))
        };
        let known = |h: &Hierarchy| h.version == version && h.controllers == controllers;
        let unusable = version == Version::V1 && controllers.is_empty();
        if unusable || hierarchies.iter().any(known) {
            continue; // a second mount of the same tree
        }
        let root = unescape(root);
        let inside = own_path(own, &controllers_or_v2(version, &controllers)).unwrap_or("/");
        let inside = match inside.strip_prefix(root.trim_end_matches('/')) {
            Some(rest) if rest.starts_with('/') => rest,
            _ => "/",
        };
        hierarchies.push(Hierarchy { version, mount, own: inside.to_owned(), controllers });
    }
    Layout { hierarchies }
}

/// `/proc/self/cgroup` writes v2's line with an empty list.
fn controllers_or_v2(version: Version, controllers: &[String]) -> Vec<&str> {
    match version {
        Version::V1 => controllers.iter().map(String::as_str).collect(),
        Version::V2 => Vec::new(),
    }
}

/// The `(controllers, path)` of each line `ID:CONTROLLERS:PATH`.
fn own_lines(own: &str) -> impl Iterator<Item = (&str, &str)> {
    own.lines().filter_map(|l| l.split_once(':')?.1.split_once(':'))
}

fn own_path<'o>(own: &'o str, controllers: &[&str]) -> Option<&'o str> {
    own_lines(own)
        .find(|(list, _)| list.split(',').filter(|c| !c.is_empty()).eq(controllers.iter().copied()))
        .map(|l| l.1)
}

/// A v1 mount's options name its controllers among others (`rw,cpu,cpuacct,xattr`); the process's own list tells which.
fn v1_controllers(own: &str, options: &[&str]) -> Vec<String> {
    own_lines(own)
        .map(|(list, _)| list)
        .find(|list| !list.is_empty() && list.split(',').all(|c| options.contains(&c)))
        .map(|list| list.split(',').map(str::to_owned).collect())
        .unwrap_or_default()
}

/// mountinfo writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|o| u8::from_str_radix(o, 8).ok()) {
            Some(byte) => {
                out.push(byte as char);
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

/// The text of a kernel file, empty when there is none.
fn read(path: impl AsRef<Path>) -> String {
    kernfs::read(path.as_ref()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
