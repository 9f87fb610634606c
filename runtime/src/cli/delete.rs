//! `ampoule delete`

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::Context;
use crate::lifecycle;

#[derive(clap::Args)]
pub(super) struct Delete {
    /// Also when it runs: it is killed first. No error when it does not exist
    #[arg(short, long)]
    force: bool,
    /// The container's name
    id: String,
}

pub(super) fn run(context: &Context, args: Delete) -> Result<ExitCode> {
    let opened = context.open(&args.id).and_then(|container| container.lock());
    let done = match opened {
        // runc does so, and scripts rely on it.
        Err(e) if args.force && format!("{e}").contains("does not exist") => Ok(()),
        Err(e) => Err(e),
        Ok(locked) => lifecycle::delete(locked, args.force, &context.log),
    };
    done.with_context(|| format!("delete {}", args.id))?;
    Ok(ExitCode::SUCCESS)
}
