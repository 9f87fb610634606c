//! What takes CRIU: containers as files, and back.

mod checkpoint;
mod checkpoint_lazily;
mod checkpoint_refused;
