//! Container engines that call the runtime under test, each in a [`Sandbox`] of its own: nothing of an engine that the
//! machine already runs is touched. They are configured as `docs/drop-in.md` says.

mod buildah;
mod client;
mod containerd;
mod docker;
pub mod docker_compat;
mod documented;
mod image;
mod node;
mod podman;
mod sandbox;

use std::time::Duration;

pub use buildah::Buildah;
pub use client::Client;
pub use containerd::Containerd;
pub use docker::Docker;
pub use documented::documented;
pub use image::{IMAGE, pack, pack_tree};
pub use node::{Node, RUNTIME_HANDLER, can_be_node, can_map_ports};
pub use podman::Podman;
pub use sandbox::Sandbox;

/// Why a machine may have no engine.
pub const NO_ENGINE: &str =
    "nobody needs an engine to use Ampoule; the test machine's place v2-engines has them all";

/// Waits as [`crate::wait_for`] does, for what takes an engine's client to see: it is not asked all the time.
#[track_caller]
pub fn wait_for_slowly(what: &str, mut condition: impl FnMut() -> bool) {
    crate::wait_for(what, || {
        let seen = condition();
        if !seen {
            std::thread::sleep(Duration::from_millis(500));
        }
        seen
    });
}
