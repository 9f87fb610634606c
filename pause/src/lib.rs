//! What `pause` knows without asking the kernel. In reading order:
//!
//! - [`options`]: the command lines of tini, catatonit and Kubernetes' pause, as one table;
//! - [`signals`]: names and sets of signals;
//! - [`text`]: numbers as text, text as numbers.
//!
//! The program itself is `main.rs`.

#![cfg_attr(not(test), no_std)]

pub mod options;
pub mod signals;
pub mod text;
