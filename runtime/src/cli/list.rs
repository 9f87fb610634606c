//! `ampoule list`

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use interface::id::Id;
use serde_json::{Value, json};

use super::{Context, state};
use crate::container::record::owner_name;
use crate::container::status::observe;

#[derive(clap::Args)]
pub(super) struct List {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Print only container IDs
    #[arg(short, long)]
    quiet: bool,
}

const COLUMNS: [(&str, &str); 6] = [
    ("ID", "id"),
    ("PID", "pid"),
    ("STATUS", "status"),
    ("BUNDLE", "bundle"),
    ("CREATED", "created"),
    ("OWNER", "owner"),
];

pub(super) fn run(context: &Context, args: List) -> Result<ExitCode> {
    let ids = context.store.ids()?;
    if args.quiet {
        return super::print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>());
    }
    let mut code = ExitCode::SUCCESS;
    let mut states = Vec::new();
    for id in &ids {
        match entry(context, id).with_context(|| format!("list {id}")) {
            Ok(state) => states.extend(state),
            Err(e) => {
                // Whoever reads the list must not take the container for gone.
                states.push(
                    json!({ "id": id.as_str(), "pid": 0, "status": "unreadable", "bundle": "", "owner": "" }),
                );
                context.log.failure(&format!("{e:#}"));
                code = ExitCode::FAILURE;
            }
        }
    }
    match args.format.as_str() {
        // What runc prints for none.
        "json" if states.is_empty() => super::print("null\n"),
        "json" => super::print(&format!("{}\n", Value::Array(states))),
        _ => super::print(&table(&states)),
    }?;
    Ok(code)
}

/// What there is to show of a container. One that vanishes meanwhile, or is only just being made, has nothing.
fn entry(context: &Context, id: &Id) -> Result<Option<Value>> {
    let Some(container) = context.store.find(id)? else { return Ok(None) };
    let look = || {
        let seen = observe(&container)?;
        if let Some(record) = container.read_record()? {
            let mut document = record.state(seen.status.name(), seen.pid());
            document["owner"] = owner_name(record.owner).into();
            return Ok(Some(document));
        }
        if container.is_locked()? { Ok(None) } else { bail!(state::CUT_SHORT) }
    };
    match look() {
        Err(_) if !container.has_files()? => Ok(None),
        other => other,
    }
}

fn table(states: &[Value]) -> String {
    let mut rows = vec![COLUMNS.map(|(title, _)| title.to_owned())];
    rows.extend(states.iter().map(|state| {
        COLUMNS.map(|(_, key)| match &state[key] {
            Value::String(text) if !text.is_empty() => text.clone(),
            Value::String(_) | Value::Null => "-".to_owned(),
            other => other.to_string(),
        })
    }));
    // runc's columns: at least 12 wide, 3 apart; scripts cut by them.
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|n| rows.iter().map(|row| row[n].len() + 3).max().unwrap_or_default().max(12))
        .collect();
    rows.iter()
        .map(|row| {
            let line: String =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            format!("{}\n", line.trim_end())
        })
        .collect()
}
