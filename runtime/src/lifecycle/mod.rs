//! The verbs that change a container, put together from planning, launching and what is on record.

mod checkpoint;
mod create;
mod delete;
mod exec;
mod kill;
mod pause;
mod pid_file;
mod restore;
mod start;
mod update;

pub use checkpoint::{CheckpointArgs, checkpoint};
pub use create::{CreateArgs, NewContainer, create};
pub use delete::delete;
pub use exec::{ExecArgs, exec};
pub use kill::kill;
pub use pause::{pause, resume};
pub use pid_file::PidOutput;
pub use restore::restore;
pub use start::{start, started};
pub use update::update;
