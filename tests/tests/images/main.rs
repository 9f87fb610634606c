//! From images to bundles and back.

mod pause_image;
mod unpack;
mod unpack_debian;
mod unpack_refused;
