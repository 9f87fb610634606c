//! The points at which the host and the new process wait for each other: a type for each direction.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

/// A point that the host reaches, and the new process waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum HostSync {
    /// Whoever comes after a crash of the runtime finds the process.
    PidSaved,
    /// The id maps are written.
    IdsMapped,
    /// It is in its cgroup, and every limit holds.
    InCgroup,
    /// The host's network devices are in its namespace.
    NetDevicesMoved,
    /// Every limit holds, and the host's hooks have run.
    HooksRan,
    /// Its resource limits are set.
    RlimitsSet,
    /// The seccomp listener is with whoever answers: the new process closes its own.
    ListenerSent,
    /// `start` finds the gate: from here on the process waits for that, and no longer for the runtime that made it.
    GatePublished,
}

/// A point that the new process reaches, and the host waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum InitSync {
    /// First of all where there is an intermediate process: the message says who sends it.
    Cloned,
    /// The namespaces and mounts stand, the root is not yet pivoted.
    ReadyForHooks,
    /// Carries the pty master.
    Console,
    /// Nothing is left to do that a resource limit could be in the way of.
    ReadyForRlimits,
    /// Carries the number of the seccomp listener.
    SeccompListener,
    /// Everything is done but the gate.
    Ready,
}

impl HostSync {
    /// All of them, in their own order.
    pub const ALL: [HostSync; 8] = [
        HostSync::PidSaved,
        HostSync::IdsMapped,
        HostSync::InCgroup,
        HostSync::NetDevicesMoved,
        HostSync::HooksRan,
        HostSync::RlimitsSet,
        HostSync::ListenerSent,
        HostSync::GatePublished,
    ];
}

impl InitSync {
    /// All of them, in their own order.
    pub const ALL: [InitSync; 6] = [
        InitSync::Cloned,
        InitSync::ReadyForHooks,
        InitSync::Console,
        InitSync::ReadyForRlimits,
        InitSync::SeccompListener,
        InitSync::Ready,
    ];
}

impl Display for HostSync {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HostSync::PidSaved => "pid saved",
            HostSync::IdsMapped => "ids mapped",
            HostSync::InCgroup => "in its cgroup",
            HostSync::NetDevicesMoved => "network devices moved",
            HostSync::HooksRan => "host hooks ran",
            HostSync::RlimitsSet => "rlimits set",
            HostSync::ListenerSent => "seccomp listener sent",
            HostSync::GatePublished => "gate published",
        })
    }
}

impl Display for InitSync {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InitSync::Cloned => "cloned",
            InitSync::ReadyForHooks => "ready for host hooks",
            InitSync::Console => "pty master",
            InitSync::ReadyForRlimits => "ready for rlimits",
            InitSync::SeccompListener => "seccomp listener",
            InitSync::Ready => "ready",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_point_stands_in_the_list_at_its_number() {
        assert!(HostSync::ALL.iter().enumerate().all(|(n, point)| n == *point as usize));
        assert!(InitSync::ALL.iter().enumerate().all(|(n, point)| n == *point as usize));
    }
}
