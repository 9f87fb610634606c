//! What the host is: the planner's second input, beside config.json. The planner never looks anything up itself.

use cgroup::layout::Layout;

pub mod probe;

/// Where the kernel has a place for the resctrl filesystem.
pub const RESCTRL: &str = "/sys/fs/resctrl";

/// What a plan may depend on besides config.json.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Where which cgroup controller lives, of the hierarchies that the runtime may use.
    pub cgroups: Layout,
    /// The hierarchies that are there, too, but not for us: an ordinary user's without delegation.
    pub undelegated: Layout,
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

impl Facts {
    /// Whether it takes a user namespace to have any rights at all.
    pub fn needs_user_namespace(&self) -> bool {
        const CAP_SYS_ADMIN: u64 = 1 << 21;
        self.rootless && !(self.in_user_namespace && self.capabilities & CAP_SYS_ADMIN != 0)
    }

    /// All hierarchies of the host, ours or not.
    pub fn host_cgroups(&self) -> Layout {
        let hierarchies = [&self.cgroups.hierarchies[..], &self.undelegated.hierarchies[..]].concat();
        Layout { hierarchies }
    }
}
