//! `ampoule state`

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::Context;
use crate::container::status::{Status, observe};
use crate::container::store::Container;

#[derive(clap::Args)]
pub(super) struct State {
    /// The container's name
    id: String,
}

/// The state document, and the status in it.
pub(super) fn document(container: &Container) -> Result<(Status, serde_json::Value)> {
    let seen = observe(container)?;
    let record = container.record().context("its creation was cut short; remove it with delete --force")?;
    Ok((seen.status, record.state(seen.status.name(), seen.pid())))
}

pub(super) fn run(context: &Context, args: State) -> Result<ExitCode> {
    let (_, document) =
        context.open(&args.id).and_then(|c| document(&c)).with_context(|| format!("state {}", args.id))?;
    super::print(&format!("{document:#}\n"))
}
