//! The cgroup layouts that a runtime may find on a host, shown to it in a mount namespace of the call's own.

use crate::has_only_cgroup_v2;
use std::path::Path;
use std::process::Command;

/// What the runtime finds at /sys/fs/cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The host's own.
    Host,
    /// A pure v2 hierarchy: the host's own, or else in a mount namespace of the call's own.
    PureV2,
    /// net_cls and net_prio on v1 at /sys/fs/cgroup/net and nothing else, in a mount namespace of the call's own.
    Network,
}

impl Layout {
    /// A call of any program that finds this layout.
    pub fn command(self, program: &Path) -> Command {
        let mounts = match self {
            Layout::Host => return Command::new(program),
            Layout::PureV2 => "mount -t cgroup2 none /sys/fs/cgroup",
            Layout::Network => {
                "umount -Rl /sys/fs/cgroup && mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/net && \
                 mount -t cgroup -o net_cls,net_prio none /sys/fs/cgroup/net"
            }
        };
        let script = format!("{mounts} && exec \"$0\" \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(program);
        command
    }

    /// Those that differ here.
    pub fn all() -> Vec<Self> {
        if has_only_cgroup_v2() { vec![Layout::Host] } else { vec![Layout::Host, Layout::PureV2] }
    }
}
