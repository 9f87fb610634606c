//! `ampoule restore`: what `run` does, with processes that were saved.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use interface::id::Id;

use super::Context;
use super::checkpoint::Criu;
use super::run::stay;
use crate::launch::foreground::{self, Signals};
use crate::lifecycle::{self, CreateArgs, NewContainer, PidOutput};
use crate::plan::{Console, Options};

#[derive(clap::Args)]
pub(super) struct Restore {
    #[command(flatten)]
    criu: Criu,
    /// Bundle directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Unix socket to send the pty master of the container's terminal to
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Detach from the container's processes
    #[arg(short, long)]
    detach: bool,
    /// File to write the pid of the container's init to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Do not become the subreaper of the container's processes
    #[arg(long)]
    no_subreaper: bool,
    /// Ignored: CRIU enters the root in its own way
    #[arg(long, hide = true)]
    no_pivot: bool,
    /// LSM profile for its processes: apparmor:NAME or selinux:LABEL
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// SELinux context for its mounts
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
    /// Container ID
    id: String,
}

pub(super) fn run(context: &Context, args: Restore) -> Result<ExitCode> {
    let restore = || restore(context, &Id::new(&args.id)?, &args);
    restore().with_context(|| format!("restore {}", args.id))
}

fn restore(context: &Context, id: &Id, args: &Restore) -> Result<ExitCode> {
    if !args.detach && args.console_socket.is_some() {
        bail!("--console-socket goes with --detach: in the foreground the terminal is this one");
    }
    let mut images = args.criu.images(context)?;
    images.wishes.lsm_profile = args.lsm_profile.clone();
    images.wishes.lsm_mount_context = args.lsm_mount_context.clone();
    let console = match &args.console_socket {
        Some(socket) => Console::Socket(socket.clone()),
        None if args.detach || !foreground::has_terminal() => Console::None,
        None => Console::Foreground,
    };
    // Before there is anything that a signal could leave behind.
    let signals = Signals::block()?;
    if !args.detach && !args.no_subreaper {
        nix::sys::prctl::set_child_subreaper(true).context("PR_SET_CHILD_SUBREAPER")?;
    }
    let create_args = CreateArgs {
        id,
        bundle: &args.bundle,
        options: Options { console, driver: context.driver, ..Options::default() },
        rootless: context.rootless,
        pid_output: PidOutput { pid_file: args.pid_file.as_deref(), pidfd_socket: None },
        signals: signals.original,
    };
    let NewContainer { locked, launched, .. } =
        lifecycle::restore(&context.store, &context.log, create_args, images)?;
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    drop(locked);
    stay(context, id, launched, &signals, false)
}
