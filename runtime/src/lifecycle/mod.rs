//! The verbs that change a container, put together from planning, launching and what is on record.

mod checkpoint;
mod create;
mod delete;
mod exec;
mod hand_out;
mod pause;
mod restore;
mod start;
mod update;

pub use checkpoint::{CheckpointWanted, checkpoint};
pub use create::{Made, Wanted, create};
pub use delete::{delete, kill};
pub use exec::{ExecWanted, exec};
pub use hand_out::HandOut;
pub use pause::{pause, resume};
pub use restore::restore;
pub use start::{start, started};
pub use update::update;
