//! `ampoule list`

use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

use super::{Context, state};
use crate::container::record::owner_name;

#[derive(clap::Args)]
pub(super) struct List {
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Print only the names
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
    let all = context.store.all()?;
    if args.quiet {
        return super::print(&all.iter().map(|c| format!("{}\n", c.id)).collect::<String>());
    }
    // One that vanishes meanwhile, or that was never finished, has nothing to show.
    let states: Vec<Value> = all
        .iter()
        .filter_map(|container| {
            let (_, mut document) = state::document(container).ok()?;
            document["owner"] = owner_name(container.record().ok()?.owner).into();
            Some(document)
        })
        .collect();
    match args.format.as_str() {
        // What runc prints for none.
        "json" if states.is_empty() => super::print("null\n"),
        "json" => super::print(&format!("{}\n", Value::Array(states))),
        _ => super::print(&table(&states)),
    }
}

fn table(states: &[Value]) -> String {
    let mut rows = vec![COLUMNS.map(|(title, _)| title.to_owned())];
    rows.extend(states.iter().map(|state| {
        COLUMNS.map(|(_, key)| match &state[key] {
            Value::String(text) => text.clone(),
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
