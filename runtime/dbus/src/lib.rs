//! A small client of D-Bus, as far as systemd's manager needs one: method calls, their answers, signals.

#![forbid(unsafe_code)]

mod bus;
pub use bus::{Bus, Refusal};

pub mod gvariant;
pub mod wire;
