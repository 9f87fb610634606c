//! Answers questions from inside a container.
//!
//! `probe COMMAND ARG… , COMMAND ARG… , …` runs each command in turn and prints one JSON value per line for
//! each of them, so that one container can be asked many things. What a command was refused is an answer
//! too: `{"error":"EACCES"}`. The program is static and needs nothing in the root file system but itself.

mod alive;
mod attack;
mod consume;
mod files;
mod hook;
mod orphans;
mod process;
mod stream;
mod sys;

use nix::errno::Errno;
use serde_json::{Value, json};

/// The outcome of one question: a JSON value, or the errno that stood in the way.
type Answer = Result<Value, Errno>;

/// A command's name, how many arguments it takes (`usize::MAX`: any), and what answers it.
type Command = (&'static str, usize, fn(&[String]) -> Answer);

const COMMANDS: &[Command] = &[
    // files.rs
    ("cat", 1, files::cat),
    ("ls", 1, files::ls),
    ("stat", 1, files::stat),
    ("lstat", 1, files::lstat),
    ("readlink", 1, files::readlink),
    ("open", 2, files::open),
    ("write", 2, files::write),
    ("mkdir", 1, files::mkdir),
    ("mknod", 4, files::mknod),
    ("chmod", 2, files::chmod),
    ("exec", 1, files::exec),
    // process.rs
    ("args", usize::MAX, process::args),
    ("env", 0, process::env),
    ("cwd", 0, process::cwd),
    ("ns", 0, process::namespaces),
    ("uname", 0, process::uname),
    ("fds", 0, process::descriptors),
    ("tty", 0, process::terminal),
    ("time", 0, process::clocks),
    ("syscall", usize::MAX, process::system_call),
    ("syscall32", 1, process::system_call_32),
    // alive.rs
    ("exit", 1, alive::exit),
    ("raise", 1, alive::raise),
    ("sleep", 1, alive::sleep),
    ("signals", 1, alive::signals),
    ("winch", 0, alive::window_changes),
    ("line", 0, alive::line),
    ("count", 0, alive::count),
    ("echo", 0, alive::echo),
    ("talk", 0, alive::talk),
    ("lock", 1, alive::lock),
    ("swrk", 1, alive::old_criu),
    // consume.rs
    ("spawn", 1, consume::spawn),
    ("alloc", 1, consume::alloc),
    ("huge", 1, consume::huge),
    ("burn", 1, consume::burn),
    ("direct", 2, consume::direct),
    // stream.rs
    ("gush", 1, stream::gush),
    ("swallow", 0, stream::swallow),
    ("linger", 1, stream::linger),
    ("connect", 1, stream::connect),
    // orphans.rs
    ("orphans", 1, orphans::orphans),
    ("adopted", 0, orphans::adopted),
    ("breed", 1, orphans::breed),
    ("queued", 0, orphans::queued),
    // attack.rs
    ("overwrite", 1, attack::overwrite),
    ("unmasked", 1, attack::unmasked),
    // hook.rs
    ("hook", 2, hook::record),
    ("hook-fail", 1, hook::fail),
];

fn main() {
    let words: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    if words.is_empty() {
        eprintln!("probe: no question; one of: {}", names());
        std::process::exit(2);
    }
    for question in words.split(|w| w == ",") {
        let Some((name, args)) = question.split_first() else { continue };
        let Some((_, arity, answer)) = COMMANDS.iter().find(|(n, ..)| n == name) else {
            eprintln!("probe: unknown question {name:?}; one of: {}", names());
            std::process::exit(2);
        };
        if *arity != usize::MAX && args.len() != *arity {
            eprintln!("probe: {name} takes {arity} arguments, not {}", args.len());
            std::process::exit(2);
        }
        say(&answer(args).unwrap_or_else(|errno| json!({ "error": format!("{errno:?}") })));
    }
}

/// Prints one JSON line and flushes it: a test may be waiting for it while the probe lives on.
fn say(answer: &Value) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // A closed stdout is some tests' intention; dying of it would change their exit code.
    let _ = writeln!(out, "{answer}").and_then(|()| out.flush());
}

/// `std::io::Error` as the errno it came from.
fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn names() -> String {
    COMMANDS.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(" ")
}
