//! The only room where `unsafe` is allowed: system calls that neither std nor nix offers, each behind a safe face.
//!
//! Every file covers one topic of the kernel's manual. Errors are the kernel's own numbers; saying what was being
//! done, and to what, is the caller's part. Everything opened here is close-on-exec.

#![allow(unsafe_code)]

pub mod absent;
pub mod alloc;
pub mod bpf;
pub mod clone;
pub mod credentials;
pub mod directory;
pub mod event_control;
pub mod interrupt;
pub mod kernfs;
pub mod keyring;
pub mod lock;
pub mod loop_device;
pub mod mount;
pub mod mountinfo;
pub mod net;
pub mod path;
pub mod pid_namespace;
pub mod pidfd;
pub mod probe;
pub mod process;
pub mod regex;
pub mod rtnetlink;
pub mod scheduling;
pub mod sealed_exe;
pub mod seccomp;
pub mod socket;
pub mod tty;
pub mod user_namespace;
pub mod wait;
#[cfg(feature = "tokio")]
pub mod watch;
