//! The program: parse, dispatch, and one line of error.

#![forbid(unsafe_code)]

use std::process::ExitCode;

// Measured: reading config.json takes a third of the time that musl's malloc needs for it.
#[global_allocator]
static MEMORY: linux::alloc::Bump = linux::alloc::Bump::new();

fn main() -> ExitCode {
    ampoule::cli::main(std::env::args_os())
}
