//! The shim, spoken to as containerd does, and as a person at a shell.

mod shell;
mod shim;
mod shim_checkpoint;
mod shim_input;
mod shim_life;
mod shim_mounts;
mod shim_streams;
