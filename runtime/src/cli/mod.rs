//! runc's command line: one file a verb, each thin (parse → call → print).
//!
//! The global flags are read first, then only the invoked verb's: building all of them costs more than most verbs do.

mod check;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod plan;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::container::id::Id;
use crate::container::store::{Container, Store, default_root};
use crate::plan::Driver;
use crate::report::{Level, Log};
use crate::sys;

/// Run OCI containers
#[derive(Parser)]
#[command(name = "ampoule", disable_version_flag = true, disable_help_subcommand = true)]
struct Global {
    /// Log all that is done
    #[arg(long, global = false)]
    debug: bool,
    /// Write log lines to this file instead of stderr
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: String,
    /// debug, info, warning or error
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// Where the state of containers is kept [default: /run/ampoule]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Have systemd make the container's cgroup; linux.cgroupsPath is then slice:prefix:name
    #[arg(long)]
    systemd_cgroup: bool,
    /// true, false or auto: whether to do without root's rights
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    rootless: String,
    /// cgroupfs or systemd: crun's spelling of the choice above
    #[arg(long, value_name = "MANAGER", default_value = "cgroupfs")]
    cgroup_manager: String,
    /// Print the version
    #[arg(short, long)]
    version: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    #[command(external_subcommand)]
    Given(Vec<OsString>),
}

/// What every verb works with.
struct Context {
    log: Log,
    store: Store,
    /// The user's word; None: as his rights are.
    rootless: Option<bool>,
    driver: Driver,
}

impl Context {
    fn open(&self, id: &str) -> Result<Container> {
        self.store.open(&Id::new(id)?)
    }
}

/// For `--help`, in the order of a container's life.
const VERBS: [(&str, &str); 17] = [
    ("run", "Create a container, start it and wait for its end"),
    ("create", "Create a container that waits for start"),
    ("start", "Start a created container"),
    ("exec", "Run another program in a container"),
    ("state", "Print a container's state as JSON"),
    ("pause", "Stop a container's processes for a while"),
    ("resume", "Let them go on"),
    ("update", "Change a container's limits"),
    ("events", "Print what a container uses, again and again"),
    ("kill", "Send a container a signal"),
    ("delete", "Remove a container"),
    ("list", "List containers"),
    ("ps", "List a container's processes"),
    ("spec", "Write a config.json to begin with"),
    ("plan", "Show what create would do, and do nothing"),
    ("features", "Print what works here, as engines read it"),
    ("check", "Show what this host can and can't do"),
];

/// Verbs whose process enters a container.
const ENTERING: [&str; 3] = ["run", "create", "exec"];

/// Runs the command line; the exit code is the payload's for `run`, else 0 or 1.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    // Before the words are understood, for that would be done twice. One too many does no harm.
    if args.iter().any(|word| ENTERING.iter().any(|verb| word == verb))
        && let Err(e) = sys::exe::protect().context("protect the runtime's own program from the container")
    {
        return fail(&e);
    }
    let global = match Global::try_parse_from(args) {
        Ok(global) => global,
        Err(e) => return usage(e),
    };
    let (level, json_errors, rootless, driver) = match settle(&global) {
        Ok(settled) => settled,
        Err(e) => return fail(&e),
    };
    let Some(Verb::Given(words)) = &global.verb else {
        return if global.version { version() } else { help() };
    };
    let log = match Log::open(global.log.as_deref(), json_errors, level) {
        Ok(log) => log,
        Err(e) => return fail(&e),
    };
    let store = Store::new(global.root.unwrap_or_else(|| default_root(rootless)));
    let context = Context { log, store, rootless, driver };
    match dispatch(&context, words) {
        Ok(code) => code,
        Err(e) => {
            context.log.failure(&format!("{e:#}"));
            // 1 could be the program's own.
            if words.first().is_some_and(|verb| verb == "exec") {
                ExitCode::from(255)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Refuses what only a later version does, rather than pretending.
fn settle(global: &Global) -> Result<(Level, &str, Option<bool>, Driver)> {
    let driver = match global.cgroup_manager.as_str() {
        "cgroupfs" if !global.systemd_cgroup => Driver::Cgroupfs,
        "cgroupfs" | "systemd" => Driver::Systemd,
        other => bail!("--cgroup-manager: {other:?}, expected cgroupfs or systemd"),
    };
    let rootless = match global.rootless.as_str() {
        "auto" => None,
        "true" => Some(true),
        "false" => Some(false),
        other => bail!("--rootless: {other:?}, expected true, false or auto"),
    };
    let level = if global.debug { Level::Debug } else { Level::parse(&global.log_level)? };
    Ok((level, &global.log_format, rootless, driver))
}

fn dispatch(context: &Context, words: &[OsString]) -> Result<ExitCode> {
    let name = words.first().and_then(|w| w.to_str()).unwrap_or_default();
    match name {
        "run" => verb(context, words, run::run),
        "create" => verb(context, words, create::run),
        "start" => verb(context, words, start::run),
        "exec" => verb(context, words, exec::run),
        "state" => verb(context, words, state::run),
        "pause" => verb(context, words, pause::run),
        "resume" => verb(context, words, pause::resume),
        "update" => verb(context, words, update::run),
        "events" => verb(context, words, events::run),
        "kill" => verb(context, words, kill::run),
        "delete" => verb(context, words, delete::run),
        "list" => verb(context, words, list::run),
        "ps" => verb(context, words, ps::run),
        "spec" => verb(context, words, spec::run),
        "plan" => verb(context, words, plan::run),
        "features" => verb(context, words, features::run),
        "check" => verb(context, words, check::run),
        "help" => Ok(help()),
        _ => bail!("no such command as {name:?}; see ampoule --help"),
    }
}

/// Parses one verb's arguments and runs it.
fn verb<A: Args + FromArgMatches>(
    context: &Context,
    words: &[OsString],
    run: fn(&Context, A) -> Result<ExitCode>,
) -> Result<ExitCode> {
    let name = words[0].to_str().unwrap_or_default();
    let Some((name, about)) = VERBS.iter().find(|(known, _)| *known == name) else {
        bail!("no such command")
    };
    // `ampoule create`, so that its usage reads as it is typed.
    let command = Command::new(*name).bin_name(format!("ampoule {name}")).about(*about);
    let matches = match A::augment_args(command).try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(e) => return Ok(usage(e)),
    };
    run(context, A::from_arg_matches(&matches)?)
}

/// Prints a verb's answer. A reader that went away wants no more of it.
fn print(text: &str) -> Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn usage(e: clap::Error) -> ExitCode {
    let _ = e.print();
    // runc's code for a bad command line, where clap's own is 2.
    if e.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn fail(e: &anyhow::Error) -> ExitCode {
    eprintln!("ampoule: {e:#}");
    ExitCode::FAILURE
}

fn version() -> ExitCode {
    println!(
        "ampoule version {}\nspec: {}",
        env!("CARGO_PKG_VERSION"),
        crate::container::record::OCI_VERSION
    );
    ExitCode::SUCCESS
}

fn help() -> ExitCode {
    let verbs = VERBS.iter().map(|(name, about)| Command::new(name).about(about));
    let _ = Global::command().subcommands(verbs).print_help();
    ExitCode::SUCCESS
}
