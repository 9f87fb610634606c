//! `ampoule run`: create, start, stay in the foreground, delete.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use interface::id::Id;

use super::Context;
use super::create::Create;
use crate::launch::Launched;
use crate::launch::foreground::{self, Signals};
use crate::lifecycle::{self, NewContainer, PidOutput};
use crate::plan::{Console, Gate};

#[derive(clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    create: Create,
    /// Detach from the container's process
    #[arg(short, long)]
    detach: bool,
    /// Do not delete the container after its process exits
    #[arg(long)]
    keep: bool,
    /// Do not become the subreaper of the container's processes
    #[arg(long)]
    no_subreaper: bool,
}

pub(super) fn run(context: &Context, args: Run) -> Result<ExitCode> {
    let run = || execute(context, &Id::new(&args.create.id)?, &args);
    run().with_context(|| format!("run {}", args.create.id))
}

fn execute(context: &Context, id: &Id, args: &Run) -> Result<ExitCode> {
    if !args.detach && args.create.console_socket.is_some() {
        bail!("--console-socket goes with --detach: in the foreground the terminal is this one");
    }
    let console =
        if args.detach || !foreground::has_terminal() { Console::None } else { Console::Foreground };
    // While the descriptors that are open are the caller's.
    let options = args.create.options(console, context.driver, Gate::Passed)?;
    // Before there is anything that a signal could leave behind.
    let signals = Signals::block()?;
    if !args.detach && !args.no_subreaper {
        nix::sys::prctl::set_child_subreaper(true).context("PR_SET_CHILD_SUBREAPER")?;
    }
    let create_args = lifecycle::CreateArgs {
        id,
        bundle: &args.create.bundle,
        options,
        rootless: context.rootless,
        pid_output: PidOutput {
            pid_file: args.create.pid_file.as_deref(),
            pidfd_socket: args.create.pidfd_socket.as_deref(),
        },
        signals: signals.original,
    };
    let NewContainer { locked, record, launched } =
        lifecycle::create(&context.store, &context.log, create_args)?;
    if let Err(reason) = lifecycle::started(&locked, &record, &launched) {
        lifecycle::delete(locked, true, &context.log)?;
        return Err(reason);
    }
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    // Other verbs may work on it while it runs.
    drop(locked);
    stay(context, id, launched, &signals, args.keep)
}

/// Stays with a container that runs, and deletes it when it has ended unless it is to be kept.
pub(super) fn stay(
    context: &Context,
    id: &Id,
    launched: Launched,
    signals: &Signals,
    keep: bool,
) -> Result<ExitCode> {
    let ended = foreground::attend(launched, signals);
    let deleted = if keep && ended.is_ok() { Ok(()) } else { delete(context, id) };
    let code = ended?.finish()?;
    deleted.map(|()| ExitCode::from(code))
}

/// Somebody else may have done that already.
fn delete(context: &Context, id: &Id) -> Result<()> {
    match context.store.take(id)? {
        Some(locked) => lifecycle::delete(locked, true, &context.log),
        None => Ok(()),
    }
}
