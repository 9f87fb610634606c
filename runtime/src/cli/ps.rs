//! `ampoule ps`

use std::process::{Command, ExitCode};

use ::cgroup::Cgroup;
use anyhow::{Context as _, Result, bail};

use super::Context;

#[derive(clap::Args)]
pub(super) struct Ps {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Container ID
    id: String,
    /// Options of ps(1) for the table [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

pub(super) fn run(context: &Context, args: Ps) -> Result<ExitCode> {
    list(context, &args).with_context(|| format!("ps {}", args.id))
}

fn list(context: &Context, args: &Ps) -> Result<ExitCode> {
    let record = context.open(&args.id)?.record()?;
    if record.cgroups.is_empty() {
        bail!("it was made without a cgroup, which is what tells its processes from others");
    }
    let pids = Cgroup::new(record.cgroups).processes()?;
    match args.format.as_str() {
        "json" => super::print(&format!("{}\n", serde_json::json!(pids))),
        _ => super::print(&table(&pids, &args.options)?),
    }
}

fn table(pids: &[i32], options: &[String]) -> Result<String> {
    let default = [String::from("-ef")];
    let options = if options.is_empty() { &default[..] } else { options };
    let out = Command::new("ps")
        .args(options)
        .output()
        .context("run ps (it is in the package procps; --format json needs none)")?;
    if !out.status.success() {
        bail!("ps {}: {}: {}", options.join(" "), out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    let text = String::from_utf8_lossy(&out.stdout);
    let mut lines = text.lines();
    let title = lines.next().unwrap_or_default();
    let Some(column) = title.split_whitespace().position(|name| name == "PID") else {
        bail!("ps {}: has no column PID to tell the container's processes by", options.join(" "));
    };
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|field| field.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    Ok([title].into_iter().chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect())
}
