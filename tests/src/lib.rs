//! The library that the integration tests are written with.
//!
//! A test describes a [`Bundle`], makes a [`Container`] of it, calls the [`Runtime`] under test, and looks at the [`Outcome`].
//! In the container the program `probe` (`bin/probe`) answers questions, so no image is downloaded. What the test has made is
//! removed on drop, and it is a failure if anything is left ([`leftovers`]). What a machine may lack is [`require!`]d.
//!
//! The tests know the built programs only ([`Runtime`] and the functions beside it), never the runtime's crate, and run
//! against any runtime with runc's command line: `sudo make test RUNTIME=runc`. They need root.
//!
//! For other tests there are
//! - the shim: [`Shim`], called as containerd calls it, with its [`EventServer`]; and [`HostContainerd`];
//! - container engines: [`engines`], each in a [`Sandbox`](engines::Sandbox), and [`cri`], the kubelet's side of a node;
//! - pause: [`Init`], any program that is to be PID 1; images: [`HandMadeImage`];
//! - what a container may need of its host: [`Terminal`], [`SeccompAgent`], [`Cgroups`], [`systemd`], [`criu`].
//!
//! Where tests run is [`places`]' business: this host, and the test machine's (`tests/vm`).

mod bundle;
mod call;
mod cgroup;
mod concurrent;
pub mod conformance;
mod console;
mod container;
pub mod cri;
pub mod criu;
mod disk;
pub mod engines;
mod event_server;
mod host_containerd;
mod image;
mod init;
mod layout;
pub mod leftovers;
mod outcome;
pub mod places;
mod proc;
mod programs;
mod requirements;
mod scratch;
mod seccomp_agent;
mod shim;
mod snapshot;
mod sys;
pub mod systemd;
mod wait;

pub use bundle::{Bundle, default_spec, id_outside, install};
pub use call::Call;
pub use cgroup::{Cgroups, HierarchyLock, cgroups_named, pids_in, remove_cgroup};
pub use concurrent::{while_exchanging, while_repeating};
pub use console::{ConsoleSocket, Terminal};
pub use container::{Container, ask};
pub use disk::{any_disk, disk_of, null_disk};
pub use event_server::{Event, EventServer};
pub use host_containerd::{HostContainerd, RUNTIME_TYPE, has_containerd};
pub use image::{HandMadeImage, LayerEntry};
pub use init::{Init, as_pid_1, child_of, wait_for_sigwait};
pub use layout::Layout;
pub use outcome::Outcome;
pub use places::place;
pub use proc::{Mount, command_line, descendants_of, field, mountinfo, pids_mentioning};
pub use programs::{Runtime, bundle_tool, on_path, pause, pause_image, probe, shim_program, workspace};
pub use requirements::{
    FOREIGN_NAMESPACES, NO_MOUNTS, NO_PROC, ON_V1, ON_V2, TESTED_ON_V2, can_raise_limits, has_cgroup_v1,
    has_cgroup_v1_file, has_cgroup_v2_controller, has_only_cgroup_v2, is_root, met,
};
pub use scratch::Scratch;
pub use seccomp_agent::SeccompAgent;
pub use shim::{Shim, call_timeout};
pub use snapshot::snapshot;
pub use sys::{deny_syscall, exchange, ignore_signal, queue_signal};
pub use wait::{patience, repeats, wait_for};
