//! What takes docker, podman, buildah or containerd.

mod engine_buildah;
mod engine_containerd;
mod engine_docker;
mod engine_docker_limits;
mod engine_docker_network;
mod engine_docker_shim;
mod engine_podman;
mod engine_podman_limits;
mod engine_podman_network;
mod engine_shim;
mod engine_shim_checkpoint;
