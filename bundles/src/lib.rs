//! Between images and bundles. The program is `main.rs`; this is a library so that what reads images of others can be
//! fuzzed.
//!
//! - [`source`]: where an image is kept; [`image`]: what it consists of; [`digest`]: that it is undamaged;
//! - [`unpack`]: from an image to a bundle: [`stream`] is a layer's bytes, [`apply`] its changes to a [`tree`],
//!   [`conversion`] its config.json, with [`users`]; [`store`] keeps layers that bundles share;
//! - [`inspect`]: what an image is; [`progress`]: how far unpacking is.
//!
//! The other direction is the program's own.

#![forbid(unsafe_code)]

pub mod apply;
pub mod conversion;
pub mod digest;
pub mod image;
pub mod inspect;
pub mod progress;
pub mod source;
pub mod store;
pub mod stream;
pub mod tree;
pub mod unpack;
pub mod users;
