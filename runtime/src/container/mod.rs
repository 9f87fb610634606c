//! Containers that exist: their ids, their records, what they are doing, their cgroups.

pub mod cgroup;
pub mod criu;
pub mod gate;
pub mod id;
pub mod oom;
pub mod record;
pub mod stats;
pub mod status;
pub mod store;
pub mod systemd;
