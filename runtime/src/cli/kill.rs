//! `ampoule kill`

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use linux::interrupt;
use nix::sys::signal::Signal;

use super::Context;
use crate::lifecycle;

#[derive(clap::Args)]
pub(super) struct Kill {
    /// Send the signal to all processes of the container
    #[arg(short, long)]
    all: bool,
    /// Container ID
    id: String,
    /// Signal: a name such as TERM or SIGTERM, or a number
    #[arg(default_value = "SIGTERM", allow_hyphen_values = true)]
    signal: String,
}

/// The kernel's highest signal, SIGRTMAX.
const LAST: i32 = 64;

fn signal(text: &str) -> Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return match number {
            0..=LAST => Ok(number),
            _ => bail!("unknown signal {text:?}: numbers go from 0 to {LAST}"),
        };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = |from: &str, base: i32, sign: i32| {
        let rest = name.strip_prefix(from)?;
        let offset = if rest.is_empty() { 0 } else { rest.parse::<i32>().ok()? };
        (offset.signum() * sign >= 0 && offset.abs() <= 30).then_some(base + offset)
    };
    if let Some(number) = real_time("RTMIN", 34, 1).or_else(|| real_time("RTMAX", LAST, -1)) {
        return Ok(number);
    }
    match Signal::from_str(&format!("SIG{name}")) {
        Ok(signal) => Ok(signal as i32),
        Err(_) => bail!("unknown signal {text:?}; expected a name such as TERM or SIGTERM, or a number"),
    }
}

pub(super) fn run(context: &Context, args: Kill) -> Result<ExitCode> {
    // Nobody may be left frozen.
    interrupt::arm().context("catch the signals that end a wait")?;
    let kill = || lifecycle::kill(&context.open(&args.id)?, signal(&args.signal)?, args.all);
    kill().with_context(|| format!("kill {}", args.id))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_by_name_and_by_number() {
        for (text, number) in
            [("KILL", 9), ("sigterm", 15), ("SIGRTMIN+2", 36), ("RTMAX-1", 63), ("9", 9), ("0", 0)]
        {
            assert_eq!(signal(text).unwrap(), number, "{text}");
        }
        for text in ["", "NOPE", "65", "-1", "RTMIN-1", "RTMAX+1", "SIG"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }
}
