//! What a container's cgroups hold it to, on either version, and what is told of them.

mod cgroup_deep;
mod cgroup_enforced;
mod cgroup_names;
mod cgroup_removed;
mod cgroup_shared;
mod cgroup_strangers;
mod cgroup_v1;
mod cgroup_v2;
mod events;
mod frozen;
mod update;
