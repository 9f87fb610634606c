//! `ampoule plan`: what create would do. Needs no root and changes nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use ::cgroup::layout::Layout;
use anyhow::{Context as _, Result};
use interface::id::Id;

use super::Context;
use crate::bundle::Bundle;
use crate::facts::{self, Facts};
use crate::plan::{self, Console, Driver, Options, Request};
use crate::spec::{NamespaceKind, Spec};

#[derive(clap::Args)]
pub(super) struct Plan {
    /// Bundle directory, with config.json and the root filesystem
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Print JSON, with every field of every step
    #[arg(long)]
    json: bool,
    /// Plan for a host with these cgroups instead of this one's
    #[arg(long, value_name = "LAYOUT", value_parser = ["v1", "v2", "hybrid"])]
    host: Option<String>,
    /// Do not use pivot_root(2), for a host that runs from an initramfs
    #[arg(long)]
    no_pivot: bool,
    /// Do not create a session keyring for the container
    #[arg(long)]
    no_new_keyring: bool,
    /// Container ID, which names its cgroup
    #[arg(default_value = "container")]
    id: String,
}

fn facts(context: &Context, host: Option<&str>) -> Result<Facts> {
    let cgroups = match host {
        None if context.driver == Driver::Systemd => {
            return facts::probe::gather(context.rootless)?.with_manager();
        }
        None => return facts::probe::gather(context.rootless),
        Some("v1") => Layout::pure_v1(),
        Some("v2") => Layout::pure_v2(),
        Some(_) => Layout::hybrid(),
    };
    Ok(roots(cgroups))
}

/// A root whom nothing is held back from.
fn roots(cgroups: Layout) -> Facts {
    Facts { cgroups, capabilities: u64::MAX, ..Facts::default() }
}

pub(super) fn run(context: &Context, args: Plan) -> Result<ExitCode> {
    plan(context, &args).with_context(|| format!("plan {}", args.id))
}

fn plan(context: &Context, args: &Plan) -> Result<ExitCode> {
    let id = Id::new(&args.id)?;
    let bundle = Bundle::open(&args.bundle)?;
    let spec = bundle.spec()?;
    let mut facts = facts(context, args.host.as_deref())?;
    // What needs root can still be looked at without: then the plan is root's.
    let for_root =
        |spec: &Spec<'_>| !spec.linux.namespaces.iter().any(|n| n.kind == Some(NamespaceKind::User));
    if facts.needs_user_namespace() && context.rootless.is_none() && for_root(&spec) {
        facts = roots(facts.host_cgroups());
    }
    // Whichever way create would be told to hand the terminal out.
    let console =
        if spec.process.as_ref().is_some_and(|p| p.terminal) { Console::Foreground } else { Console::None };
    let (no_pivot, no_new_keyring) = (args.no_pivot, args.no_new_keyring);
    let options = Options { console, driver: context.driver, no_pivot, no_new_keyring, ..Options::default() };
    let request =
        Request { id: id.as_str(), bundle: &bundle.dir, spec: &spec, facts: &facts, options: &options };
    let plan = plan::create(&request).with_context(|| bundle.config())?;
    match args.json {
        true => super::print(&format!("{:#}\n", serde_json::to_value(&plan)?)),
        false => super::print(&plan.to_string()),
    }
}
