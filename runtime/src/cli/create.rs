//! `ampoule create`

use std::env::VarError;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use interface::id::Id;
use linux::absent::absent;
use linux::interrupt;

use super::Context;
use crate::lifecycle::{self, PidOutput};
use crate::plan::{Console, Driver, Gate, Options};

/// What create and run have in common.
#[derive(clap::Args)]
pub(super) struct Create {
    /// Bundle directory, with config.json and the root filesystem
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(super) bundle: PathBuf,
    /// Unix socket to send the pty master of the container's terminal to
    #[arg(long, value_name = "SOCKET")]
    pub(super) console_socket: Option<PathBuf>,
    /// Unix socket to send a pidfd of the container's init to
    #[arg(long, value_name = "SOCKET")]
    pub(super) pidfd_socket: Option<PathBuf>,
    /// File to write the pid of the container's init to
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// Do not use pivot_root(2), for a host that runs from an initramfs
    #[arg(long)]
    pub(super) no_pivot: bool,
    /// Do not create a session keyring for the container
    #[arg(long)]
    pub(super) no_new_keyring: bool,
    /// Pass N additional file descriptors (3, 4, ...) to the container
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) preserve_fds: u32,
    /// ID of the new container: letters, digits and _ + - .
    pub(super) id: String,
}

impl Create {
    /// The flags as the planner knows them; `console` says where a terminal would go without a console socket.
    pub(super) fn options(&self, console: Console, driver: Driver, gate: Gate) -> Result<Options> {
        let console = match &self.console_socket {
            Some(socket) => Console::Socket(socket.clone()),
            None => console,
        };
        let listen_fds = listen_fds()?;
        let preserve_fds = preserved(self.preserve_fds.saturating_add(listen_fds))? - listen_fds;
        let (no_pivot, no_new_keyring) = (self.no_pivot, self.no_new_keyring);
        Ok(Options { console, driver, gate, no_pivot, no_new_keyring, preserve_fds, listen_fds })
    }
}

/// Checks that the first `count` descriptors after stderr are there to be passed.
pub(super) fn preserved(count: u32) -> Result<u32> {
    for fd in 3..3u32.saturating_add(count) {
        if !is_open(fd)? {
            bail!("--preserve-fds: descriptor {fd} is not open");
        }
    }
    Ok(count)
}

/// sd_listen_fds(3): as runc, LISTEN_PID is not compared, since the caller may be a shell of the addressee.
fn listen_fds() -> Result<u32> {
    match std::env::var("LISTEN_FDS") {
        // What is no number was meant for somebody else (runc leaves it, too).
        Ok(text) => Ok(text.parse().unwrap_or(0)),
        Err(VarError::NotPresent) => Ok(0),
        Err(e) => Err(e).context("LISTEN_FDS"),
    }
}

fn is_open(fd: u32) -> Result<bool> {
    let path = format!("/proc/self/fd/{fd}");
    Ok(absent(std::fs::symlink_metadata(&path)).with_context(|| format!("stat {path}"))?.is_some())
}

pub(super) fn run(context: &Context, args: Create) -> Result<ExitCode> {
    create(context, &args).with_context(|| format!("create {}", args.id))
}

fn create(context: &Context, args: &Create) -> Result<ExitCode> {
    let id = Id::new(&args.id)?;
    let signals = interrupt::arm().context("catch the signals that end a wait")?;
    let create_args = lifecycle::CreateArgs {
        id: &id,
        bundle: &args.bundle,
        options: args.options(Console::None, context.driver, Gate::Published)?,
        rootless: context.rootless,
        pid_output: PidOutput {
            pid_file: args.pid_file.as_deref(),
            pidfd_socket: args.pidfd_socket.as_deref(),
        },
        signals,
    };
    lifecycle::create(&context.store, &context.log, create_args)?;
    Ok(ExitCode::SUCCESS)
}
