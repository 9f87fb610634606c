//! Ampoule runs OCI containers.
//!
//! **Plan reads the document and never touches the world; launch changes the world and never reads the document.**
//!
//! The rooms, in reading order:

#![forbid(unsafe_code)]

pub mod spec;

pub mod bundle;
pub mod facts;

pub mod plan;

pub mod launch;

pub mod container;

pub mod lifecycle;

pub mod cli;
pub mod report;
