//! What a runtime and those who call it must agree on: the form of an id, where containers are kept, what a line may hold.

#![forbid(unsafe_code)]

pub mod id;
pub mod line;
pub mod root;
