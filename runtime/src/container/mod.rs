//! Containers that exist: their ids, their records, what they are doing, their cgroups.

pub mod criu;
pub mod gate;
mod neighbors;
pub mod record;
pub mod saved;
pub mod status;
pub mod store;
pub mod systemd;
