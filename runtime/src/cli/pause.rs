//! `ampoule pause` and `ampoule resume`

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use linux::interrupt;

use super::Context;
use crate::lifecycle;

#[derive(clap::Args)]
pub(super) struct Pause {
    /// Container ID
    id: String,
}

pub(super) fn run(context: &Context, args: Pause) -> Result<ExitCode> {
    // Nobody may be left frozen.
    interrupt::arm().context("catch the signals that end a wait")?;
    let pause = || lifecycle::pause(&context.open(&args.id)?.lock()?);
    pause().with_context(|| format!("pause {}", args.id))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn resume(context: &Context, args: Pause) -> Result<ExitCode> {
    // Nobody may be left frozen.
    interrupt::arm().context("catch the signals that end a wait")?;
    let resume = || lifecycle::resume(&context.open(&args.id)?.lock()?);
    resume().with_context(|| format!("resume {}", args.id))?;
    Ok(ExitCode::SUCCESS)
}
