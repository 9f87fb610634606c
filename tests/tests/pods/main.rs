//! What takes a node of a cluster: containerd with CRI and network plugins.

mod pods;
mod pods_many;
mod pods_restart;
mod pods_settings;
mod pods_streams;
