//! What a runtime and those who call it must agree on: the form of an id, where containers are kept, what a line may hold,
//! the messages that are looked for, the options of mounts.

#![forbid(unsafe_code)]

pub mod id;
pub mod line;
pub mod message;
pub mod mount_options;
pub mod root;
