//! runc's command line: one file a verb, each thin (parse → call → print).
//!
//! The global flags are read first, then only the invoked verb's: building all of them costs more than most verbs do.

mod check;
mod checkpoint;
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
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod units;
mod update;

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use interface::id::Id;
use interface::line::one_line;
use interface::root::default_root;
use linux::interrupt;
use nix::errno::Errno;

use crate::container::store::{Container, Store};
use crate::plan::Driver;
use crate::report::{Level, Log, to_stderr};

/// Run OCI containers
#[derive(Parser)]
#[command(name = "ampoule", disable_version_flag = true, disable_help_subcommand = true)]
struct Global {
    /// Enable debug logging, which shows every step
    #[arg(long, global = false)]
    debug: bool,
    /// Log file [default: stderr]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Log format
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
    /// Log level
    #[arg(long, value_name = "LEVEL", default_value = "info", ignore_case = true, value_parser = LEVELS)]
    log_level: String,
    /// Root directory for container state [default: /run/ampoule; $XDG_RUNTIME_DIR/ampoule when rootless]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Use the systemd cgroup driver; linux.cgroupsPath is then slice:prefix:name
    #[arg(long)]
    systemd_cgroup: bool,
    /// Run without root privileges; auto: when the caller has none
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = ["auto", "true", "false", "1", "0"])]
    rootless: String,
    /// Cgroup driver, crun's form of --systemd-cgroup
    #[arg(long, value_name = "MANAGER", default_value = "cgroupfs", value_parser = ["cgroupfs", "systemd"])]
    cgroup_manager: String,
    /// Path of the criu program [default: criu]
    #[arg(long, value_name = "FILE")]
    criu: Option<PathBuf>,
    /// Print the version
    #[arg(short, long)]
    version: bool,
    #[command(subcommand)]
    verb: Option<Words>,
}

#[derive(Subcommand)]
enum Words {
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
    criu: Option<PathBuf>,
}

impl Context {
    fn open(&self, id: &str) -> Result<Container> {
        self.store.open(&Id::new(id)?)
    }
}

/// A verb: what it is called, what it does, which arguments it takes, and what carries it out.
struct Verb {
    name: &'static str,
    about: &'static str,
    arguments: fn(Command) -> Command,
    run: fn(&Context, &ArgMatches) -> Result<ExitCode>,
}

impl Verb {
    fn command(&self) -> Command {
        // `ampoule create`, so that its usage reads as it is typed.
        let command = Command::new(self.name).bin_name(format!("ampoule {}", self.name));
        // A struct's doc comment is for who reads the source, and no help.
        (self.arguments)(command).about(self.about).long_about(None)
    }
}

macro_rules! verb {
    ($name:literal, $about:literal, $arguments:ty, $run:path) => {
        Verb {
            name: $name,
            about: $about,
            arguments: <$arguments>::augment_args,
            run: |context, matches| $run(context, <$arguments>::from_arg_matches(matches)?),
        }
    };
}

/// In the order of a container's life.
const VERBS: [Verb; 19] = [
    verb!("run", "Create and start a container, and wait for its exit", run::Run, run::run),
    verb!("create", "Create a container that waits for start", create::Create, create::run),
    verb!("start", "Start a created container", start::Start, start::run),
    verb!("exec", "Run a process in a container", exec::Exec, exec::run),
    verb!("state", "Print the state of a container as JSON", state::State, state::run),
    verb!("pause", "Suspend all processes of a container", pause::Pause, pause::run),
    verb!("resume", "Resume all processes of a paused container", pause::Pause, pause::resume),
    verb!("update", "Update the resource limits of a container", update::Update, update::run),
    verb!(
        "events",
        "Print resource usage, at intervals, and OOM notifications of a container",
        events::Events,
        events::run
    ),
    verb!("checkpoint", "Checkpoint a running container", checkpoint::Checkpoint, checkpoint::run),
    verb!("restore", "Restore a container from a checkpoint", restore::Restore, restore::run),
    verb!("kill", "Send a signal to the init process of a container", kill::Kill, kill::run),
    verb!("delete", "Delete a stopped container and all that belongs to it", delete::Delete, delete::run),
    verb!("list", "List containers", list::List, list::run),
    verb!("ps", "List the processes of a container", ps::Ps, ps::run),
    verb!("spec", "Write a default config.json", spec::Spec, spec::run),
    verb!("plan", "Print the steps that create would take, and take none", plan::Plan, plan::run),
    verb!(
        "features",
        "Print what this build supports on this host, for engines",
        features::Features,
        features::run
    ),
    verb!(
        "check",
        "Print what this host offers to containers, and how to turn on what it lacks",
        check::Check,
        check::run
    ),
];

/// The words of `--log-level`: logrus' own, since that is what runc logs with.
const LEVELS: [&str; 8] = ["debug", "info", "warning", "error", "trace", "warn", "fatal", "panic"];

/// Verbs whose process enters a container.
const ENTERING: [&str; 3] = ["run", "create", "exec"];

/// Runs the command line; the exit code is the payload's for `run`, else 0 or 1.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    follow(args.collect()).unwrap_or_else(|e| {
        to_stderr(&format!("ampoule: {}\n", one_line(&format!("{e:#}"))));
        ExitCode::FAILURE
    })
}

/// Does what the words say. Errors are those for which there is no log yet.
fn follow(args: Vec<OsString>) -> Result<ExitCode> {
    // Before the words are understood, for that would be done twice. One too many does no harm.
    if args.iter().any(|word| ENTERING.iter().any(|verb| word == verb)) {
        linux::sealed_exe::protect().context("protect the runtime's own program from the container")?;
    }
    interrupt::outlive_file_limit().context("block SIGXFSZ")?;
    linux::process::default_sigchld();
    let global = match Global::try_parse_from(args) {
        Ok(global) => global,
        // clap knows nothing of the verbs.
        Err(e) if e.kind() == ErrorKind::DisplayHelp => return help(),
        Err(e) => return usage(&e),
    };
    let rootless = match &*global.rootless {
        "auto" => None,
        word => Some(word == "true" || word == "1"),
    };
    let systemd = global.systemd_cgroup || global.cgroup_manager == "systemd";
    let driver = if systemd { Driver::Systemd } else { Driver::Cgroupfs };
    let level = if global.debug { Level::Debug } else { Level::named(&global.log_level) };
    let Some(Words::Given(words)) = &global.verb else {
        return if global.version { version() } else { help() };
    };
    let log = Log::open(global.log.as_deref(), global.log_format == "json", level)?;
    let store = Store::new(global.root.map_or_else(|| default_root(rootless), Ok)?);
    let context = Context { log, store, rootless, driver, criu: global.criu };
    dispatch(&context, words).or_else(|e| {
        let by = interrupt::taken().map_or(String::new(), |signal| format!("ended by {signal}: "));
        context.log.failure(&format!("{by}{e:#}"));
        // 1 could be the program's own.
        let is_exec = words.first().is_some_and(|verb| verb == "exec");
        Ok(if is_exec { ExitCode::from(255) } else { ExitCode::FAILURE })
    })
}

/// Parses one verb's arguments and runs it.
fn dispatch(context: &Context, words: &[OsString]) -> Result<ExitCode> {
    let name = words.first().and_then(|w| w.to_str()).unwrap_or_default();
    if name == "help" {
        return match words.get(1).and_then(|w| w.to_str()) {
            Some(name) => print(&find(name)?.command().render_help().to_string()),
            None => help(),
        };
    }
    let verb = find(name)?;
    match verb.command().try_get_matches_from(words) {
        Ok(matches) => (verb.run)(context, &matches),
        Err(e) => usage(&e),
    }
}

fn find(name: &str) -> Result<&'static Verb> {
    let known = VERBS.iter().find(|verb| verb.name == name);
    known.with_context(|| format!("no such command as {name:?}; see ampoule --help"))
}

/// Prints an answer. A reader that went away wants no more of it.
fn print(text: &str) -> Result<ExitCode> {
    match interrupt::write(std::io::stdout().as_fd(), text.as_bytes()) {
        Err(e) if e != Errno::EPIPE => Err(e).context("write to stdout"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn usage(e: &clap::Error) -> Result<ExitCode> {
    let text = e.render().to_string();
    if !e.use_stderr() {
        return print(&text);
    }
    to_stderr(&text);
    // podman leaves out a flag's value to learn whether there is such a flag, and looks for runc's words.
    if e.get(ContextKind::InvalidValue) == Some(&ContextValue::String(String::new())) {
        to_stderr("flag needs an argument\n");
    }
    // runc's code for a bad command line, where clap's own is 2.
    Ok(ExitCode::FAILURE)
}

fn version() -> Result<ExitCode> {
    let (version, spec) = (env!("CARGO_PKG_VERSION"), crate::container::record::OCI_VERSION);
    print(&format!("ampoule version {version}\nspec: {spec}\n"))
}

fn help() -> Result<ExitCode> {
    let verbs = VERBS.iter().map(|verb| Command::new(verb.name).about(verb.about));
    print(&Global::command().subcommands(verbs).render_help().to_string())
}

/// The whole command line, for manual pages and completion. The program itself never builds all of it.
pub fn command() -> Command {
    Global::command().subcommands(VERBS.iter().map(Verb::command))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_does_not_contradict_itself() {
        super::command().debug_assert();
    }
}
