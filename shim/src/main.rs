//! `containerd-shim-ampoule-v2`: one small process per pod, which keeps containers running, their output flowing and
//! their exit codes safe whatever becomes of containerd.
//!
//! The rooms, in reading order:

#![forbid(unsafe_code)]

mod flags;

mod bootstrap;
mod start;

mod serve;

mod task;

mod lifecycle;

mod shim;

mod container;
mod process;
mod reaper;

mod delete;
mod runtime;

mod bundle;
mod socket;
mod stdout;

mod rootfs;

mod stdio;

mod events;
mod oom;
mod stats;

mod log;
mod rpc_error;

mod shell;

use std::process::ExitCode;

use flags::{Action, Flags};

fn main() -> ExitCode {
    let name = std::env::args_os().next().map(std::path::PathBuf::from);
    if name.is_some_and(|name| name.file_name().is_some_and(|name| name == shell::NAME)) {
        return shell::main();
    }
    let done = Flags::parse(std::env::args_os().skip(1)).and_then(|flags| match flags.action {
        Action::Version => start::version(),
        Action::Info => start::info(),
        Action::Start => start::start(&flags),
        Action::Delete => delete::delete(&flags),
        Action::Serve => serve::serve(&flags),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // containerd shows what a shim says on stderr when it fails.
            eprintln!("containerd-shim-ampoule-v2: {e:#}");
            ExitCode::FAILURE
        }
    }
}
