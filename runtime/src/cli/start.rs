//! `ampoule start`

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::Context;
use crate::lifecycle;

#[derive(clap::Args)]
pub(super) struct Start {
    /// Container ID
    id: String,
}

pub(super) fn run(context: &Context, args: Start) -> Result<ExitCode> {
    let start = || lifecycle::start(&context.open(&args.id)?.lock()?);
    start().with_context(|| format!("start {}", args.id))?;
    Ok(ExitCode::SUCCESS)
}
