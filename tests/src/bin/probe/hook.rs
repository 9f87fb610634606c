//! Commands of OCI hooks: record what a hook is given, or fail.

use crate::{Answer, errno};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::{Read, Write};

/// `hook NAME FILE`: appends to FILE, as one JSON line, everything that a hook is given.
pub(crate) fn record(args: &[String]) -> Answer {
    let mut state = String::new();
    std::io::stdin().take(1 << 20).read_to_string(&mut state).map_err(errno)?;
    let told = json!({
        "hook": args[0],
        "state": serde_json::from_str::<Value>(&state).unwrap_or(json!({ "not json": state })),
        "args": crate::process::args(&[])?,
        "env": crate::process::env(&[]).unwrap_or(Value::Null),
        "fds": crate::process::descriptors(&[]).unwrap_or(Value::Null),
        "ns": crate::process::namespaces(&[]).unwrap_or(Value::Null),
    });
    // One write of one line, so that hooks that run at the same time cannot mix theirs.
    let mut file = OpenOptions::new().create(true).append(true).open(&args[1]).map_err(errno)?;
    file.write_all(format!("{told}\n").as_bytes()).map_err(errno)?;
    Ok(json!("recorded"))
}

/// `hook-fail CODE`: says why on stderr, as a hook should, and fails.
pub(crate) fn fail(args: &[String]) -> Answer {
    eprintln!("the hook is not pleased");
    std::process::exit(args[0].parse().unwrap_or(1))
}
