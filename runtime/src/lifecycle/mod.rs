//! The verbs that change a container, put together from planning, launching and what is on record.

mod create;
mod delete;
mod start;

pub use create::{Made, Wanted, create};
pub use delete::{delete, kill};
pub use start::{start, started};
