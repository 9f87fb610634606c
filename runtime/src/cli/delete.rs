//! `ampoule delete`

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use interface::id::Id;
use interface::message::DOES_NOT_EXIST;
use linux::regex::Regex;

use super::Context;
use crate::lifecycle;

#[derive(clap::Args)]
pub(super) struct Delete {
    /// Kill the container first if it runs; no error if it does not exist
    #[arg(short, long)]
    force: bool,
    /// Take ID as an extended regular expression, and delete every container whose ID it matches
    #[arg(short, long)]
    regex: bool,
    /// Container ID
    id: String,
}

pub(super) fn run(context: &Context, args: Delete) -> Result<ExitCode> {
    if args.regex {
        return matching(context, &args);
    }
    delete(context, &args.id, args.force)?;
    Ok(ExitCode::SUCCESS)
}

/// All that match, as crun does it: one that can't be deleted does not save the others.
fn matching(context: &Context, args: &Delete) -> Result<ExitCode> {
    let Some(expression) = Regex::new(&args.id) else {
        bail!("delete --regex: {:?} is no extended regular expression, see regex(7)", args.id);
    };
    let mut code = ExitCode::SUCCESS;
    for id in context.store.ids()?.iter().filter(|id| expression.matches(id.as_str())) {
        if let Err(e) = delete(context, id.as_str(), args.force) {
            context.log.failure(&format!("{e:#}"));
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn delete(context: &Context, id: &str, force: bool) -> Result<()> {
    let delete = || match context.store.take(&Id::new(id)?)? {
        Some(locked) => lifecycle::delete(locked, force, &context.log),
        // runc does so, and scripts rely on it.
        None if force => Ok(()),
        None => bail!(DOES_NOT_EXIST),
    };
    delete().with_context(|| format!("delete {id}"))
}
