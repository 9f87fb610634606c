//! `ampoule-shim`: the same program for a person at a shell. A container that outlives the shell, with its output in a
//! file, its exit code kept and its terminal within reach, and no daemon: its shim is its own.

mod attach;
mod home;
mod keep;
mod logs;
mod run;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use home::Home;

/// The name that the program goes by here.
pub const NAME: &str = "ampoule-shim";

/// Run containers that outlive the shell, without a daemon
#[derive(Parser)]
#[command(name = NAME, version, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Create a container, start it and return
    Run(run::Run),
    /// Join a container's output, and its terminal or input; ctrl-p ctrl-q leaves it
    Attach {
        /// The container's name
        id: String,
    },
    /// Wait for a container's end, and print its exit code
    Wait {
        /// The container's name
        id: String,
    },
    /// Print what a container has written
    Logs {
        /// Go on until its end
        #[arg(short, long)]
        follow: bool,
        /// The container's name
        id: String,
    },
    /// List containers, those that have ended too
    List,
    /// Forget a container that has ended
    Rm {
        /// The container's name
        id: String,
    },
    /// What `run` leaves in the background
    #[command(hide = true)]
    Keep { id: String },
}

/// Runs the command line; the exit code of `attach` is the container's.
pub fn main() -> ExitCode {
    let line = Line::parse();
    let done = match &line.verb {
        Verb::Run(args) => run::run(args).map(|()| 0),
        Verb::Attach { id } => Home::open(id).and_then(|home| attach::attach(&home)),
        Verb::Wait { id } => wait(id),
        Verb::Logs { follow, id } => Home::open(id).and_then(|home| logs::print(&home, *follow)).map(|()| 0),
        Verb::List => list(),
        Verb::Rm { id } => Home::open(id).and_then(|home| home.forget()).map(|()| 0),
        Verb::Keep { id } => keep::keep(id).map(|()| 0),
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

fn print(text: &str) -> Result<u8> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(0),
    }
}

fn wait(id: &str) -> Result<u8> {
    let code = Home::open(id)?.wait()?;
    print(&format!("{code}\n"))
}

fn list() -> Result<u8> {
    let mut text = format!("{:<24} {:<14} BUNDLE\n", "ID", "STATUS");
    let mut code = 0;
    for home in Home::all()? {
        // Whoever made it was killed at once.
        let bundle = home.about().map_or_else(|_| "?".into(), |about| about.bundle.display().to_string());
        let status = home.status().map(|status| status.to_string()).unwrap_or_else(|e| {
            code = 1;
            eprintln!("{NAME}: list {}: {e:#}", home.id);
            "unreadable".to_owned()
        });
        text += &format!("{:<24} {status:<14} {bundle}\n", home.id);
    }
    print(&text).map(|_| code)
}
