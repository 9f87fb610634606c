//! What a process does with its life: ends it, waits, answers signals.

use crate::consume::number;
use crate::{Answer, errno, say};
use nix::sys::signal::{SigSet, Signal};
use serde_json::json;
use std::io::BufRead;
use std::time::Duration;

pub(crate) fn exit(args: &[String]) -> Answer {
    std::process::exit(number(&args[0])?)
}

/// Sends itself a signal by name. (PID 1 of a namespace survives it: the kernel protects it from itself.)
pub(crate) fn raise(args: &[String]) -> Answer {
    nix::sys::signal::raise(number::<Signal>(&args[0])?)?;
    Ok(json!("survived"))
}

/// `sleep SECONDS`, after saying so.
pub(crate) fn sleep(args: &[String]) -> Answer {
    say(&json!("sleeping"));
    std::thread::sleep(Duration::from_secs(number(&args[0])?));
    Ok(json!("slept"))
}

/// `signals LAST`: says "ready", then the name of each signal that arrives, until LAST has.
///
/// They are blocked and waited for: a blocked signal reaches even PID 1, which the kernel otherwise shields
/// from signals that it has no handler for.
pub(crate) fn signals(args: &[String]) -> Answer {
    let last: Signal = number(&args[0])?;
    let set = SigSet::all();
    set.thread_block()?;
    say(&json!("ready"));
    loop {
        let signal = set.wait()?;
        if signal == last {
            return Ok(json!(signal.as_str()));
        }
        say(&json!(signal.as_str()));
    }
}

/// Says the window's size now, and again after each SIGWINCH, until SIGTERM.
pub(crate) fn window_changes(_: &[String]) -> Answer {
    let set = SigSet::from_iter([Signal::SIGWINCH, Signal::SIGTERM]);
    set.thread_block()?;
    loop {
        say(&json!(crate::sys::window_size()?));
        if set.wait()? == Signal::SIGTERM {
            return Ok(json!("SIGTERM"));
        }
    }
}

/// Says a higher number every 5 milliseconds, without end.
pub(crate) fn count(_: &[String]) -> Answer {
    let mut number = 0_u64;
    loop {
        say(&json!(number));
        number += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads one line of stdin and says it.
pub(crate) fn line(_: &[String]) -> Answer {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(errno)?;
    Ok(json!(line.trim_end_matches('\n')))
}
