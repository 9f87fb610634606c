//! `ampoule state`

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::Context;
use crate::container::status::observe;

#[derive(clap::Args)]
pub(super) struct State {
    /// Container ID
    id: String,
}

/// What is wrong with a container that has no record.
pub(super) const CUT_SHORT: &str =
    "its record is missing or cut short, as by a creation that was killed; remove it with delete --force";

pub(super) fn run(context: &Context, args: State) -> Result<ExitCode> {
    let document = || {
        let container = context.open(&args.id)?;
        let seen = observe(&container)?;
        let record = container.read_record()?.context(CUT_SHORT)?;
        Ok(record.state(seen.status.name(), seen.pid()))
    };
    let document: Result<_> = document();
    super::print(&format!("{:#}\n", document.with_context(|| format!("state {}", args.id))?))
}
