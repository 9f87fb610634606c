//! Control groups (cgroups(7)): which hierarchies a host has, and a container's directories in them.
//!
//! `layout` is text and types, for a plan; everything else reads and writes what is there.

#![forbid(unsafe_code)]

pub mod layout;
pub mod probe;

mod group;
pub use group::Cgroup;

pub mod oom;
pub mod stats;
