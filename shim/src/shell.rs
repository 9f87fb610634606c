//! `ampoule-shim`: the same program for a person at a shell. A container outlives the shell, with its output in a file, its
//! exit code kept and a terminal to attach to, without a daemon: a monitor, which is a shim for it alone, stays with it.

mod attach;
mod container_dir;
mod logs;
mod monitor;
mod run;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use container_dir::ContainerDir;

use crate::stdout;

/// The name that the program goes by here.
pub const NAME: &str = "ampoule-shim";

/// Run containers that outlive the shell, without a daemon
#[derive(Parser)]
#[command(name = NAME, version, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Create a container, start it and return
    Run(run::Run),
    /// Attach to a container's output, and to its terminal or stdin; ctrl-p ctrl-q detaches
    Attach {
        /// The container's ID
        id: String,
    },
    /// Wait until a container exits, and print its exit code
    Wait {
        /// The container's ID
        id: String,
    },
    /// Print a container's output
    Logs {
        /// Follow the output until the container exits
        #[arg(short, long)]
        follow: bool,
        /// The container's ID
        id: String,
    },
    /// List containers, exited ones too
    List,
    /// Remove an exited container; its log stays
    Rm {
        /// The container's ID
        id: String,
    },
    /// The process that `run` leaves in the background
    #[command(hide = true)]
    Monitor { id: String },
}

/// Runs the command line; the exit code of `attach` is the container's.
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    let done = match &line.verb {
        Verb::Run(args) => run::run(args).map(|()| 0),
        Verb::Attach { id } => ContainerDir::open(id).and_then(|dir| attach::attach(&dir)),
        Verb::Wait { id } => wait(id),
        Verb::Logs { follow, id } => {
            ContainerDir::open(id).and_then(|dir| logs::logs(&dir, *follow)).map(|()| 0)
        }
        Verb::List => list(),
        Verb::Rm { id } => ContainerDir::open(id).and_then(|dir| dir.remove()).map(|()| 0),
        Verb::Monitor { id } => monitor::monitor(id).map(|()| 0),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            // Nobody is left to tell.
            let _ = writeln!(std::io::stderr(), "{NAME}: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn wait(id: &str) -> Result<u8> {
    let code = ContainerDir::open(id)?.wait()?;
    stdout::print(format!("{code}\n").as_bytes()).map(|_| 0)
}

fn list() -> Result<u8> {
    let mut text = format!("{:<24} {:<14} BUNDLE\n", "ID", "STATUS");
    let mut code = 0;
    for dir in ContainerDir::all()? {
        // Whoever made it was killed at once.
        let bundle = dir.about().map_or_else(|_| "?".into(), |about| about.bundle.display().to_string());
        let status = dir.status().map(|status| status.to_string()).unwrap_or_else(|e| {
            code = 1;
            eprintln!("{NAME}: list {}: {e:#}", dir.id);
            "unreadable".to_owned()
        });
        text += &format!("{:<24} {status:<14} {bundle}\n", dir.id);
    }
    stdout::print(text.as_bytes()).map(|_| code)
}
