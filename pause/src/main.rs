//! `pause`: the smallest honest PID 1. Without a command it holds a pod's namespaces, as Kubernetes' pause does;
//! with one it is an init, as tini is.
//!
//! Every signal is blocked before anything else and taken in one place. There are no signal handlers, so nothing
//! runs at a bad moment, and no child that ends between two signals is overlooked.

// A test build has nothing to test here: the library holds what can be tested without a kernel.
#![cfg(not(test))]
#![no_std]
#![no_main]

mod execute;
mod init;
mod message;
mod reap;
mod sys;

use ampoule_pause::options::{self, Options, Request};
use ampoule_pause::signals::{self, Set, Signal};
use ampoule_pause::text;
use message::{Level, Speaker};
use sys::Text;

/// A line with the version, put together by the compiler.
macro_rules! version {
    ($before:literal, $behind:literal) => {
        concat!($before, env!("CARGO_PKG_VERSION"), $behind, "\n")
    };
}

fn main(start: sys::Start) -> u8 {
    let blocked_before = sys::block(Set::ALL);
    let name = text::base_name(start.arguments().next().unwrap_or_default());
    let mut options = Options::default();
    let answer = match options::parse(start.arguments(), &mut options) {
        Request::Pause => {
            start.forget();
            return pause(blocked_before);
        }
        Request::Run => {
            options.read_environment(|name| start.variable(name));
            let speaker = Speaker { name, verbosity: options.verbosity };
            return init::run(start, &options, speaker, blocked_before);
        }
        // Docker looks for tini's words before its init's version.
        Request::Version if options::is_tini(name) => version!("tini version ", "_ampoule-pause"),
        Request::Version => version!("pause ", ""),
        Request::Help => options::HELP,
        Request::Mistake(mistake) => {
            let (text, word) = (Text::of(mistake.text()), start.argument(options.word).bytes());
            Speaker { name, verbosity: 0 }.say(Level::Fatal, text, word);
            return 1;
        }
    };
    sys::write(1, answer.as_bytes());
    0
}

/// What pause.c handles, and its exit codes for when it can't.
const HANDLED: [(Signal, u8); 3] = [(signals::INT, 1), (signals::TERM, 2), (signals::CHLD, 3)];
/// What the pause mode waits for.
const AWAITED: Set = Set::of(&[signals::INT, signals::TERM, signals::CHLD]);
/// What a last word to a closed pipe would bring.
const PIPE: Set = Set::of(&[signals::PIPE]);

/// Holds the namespaces until INT or TERM. Texts and exit codes are those of Kubernetes' pause.c.
fn pause(blocked_before: Set) -> u8 {
    if sys::pid() != 1 {
        sys::write(2, b"Warning: pause should be the first process\n");
    }
    for (signal, code) in &HANDLED {
        if sys::default_action(*signal).is_err() {
            return *code;
        }
    }
    // Other signals end it, unless it is PID 1: the kernel keeps them from one that doesn't handle them.
    sys::block(blocked_before.and(AWAITED).and(PIPE));
    sys::leave_directory();
    sys::close(3, usize::MAX);
    loop {
        reap::all(|_, _| {});
        let (text, code) = match sys::take_signal(AWAITED, true, None) {
            Ok(signals::INT) => ("Shutting down, got signal: Interrupt\n", 0),
            Ok(signals::TERM) => ("Shutting down, got signal: Terminated\n", 0),
            Ok(_) | Err(sys::EINTR) => continue,
            Err(_) => ("Error: infinite loop terminated\n", 42),
        };
        sys::write(2, text.as_bytes());
        return code;
    }
}
