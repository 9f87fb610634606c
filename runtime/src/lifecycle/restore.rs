//! files → running.

use anyhow::{Context, Result};
use linux::absent::absent;

use super::checkpoint::{config_file, needs_root};
use super::create::{CreateArgs, NewContainer, facts, made, put_on_record, record};
use crate::bundle::Bundle;
use crate::container::store::Store;
use crate::launch::{self, Images, Launched, Restore};
use crate::plan::{self, Request};
use crate::report::{Level, Log};

/// Makes a container of the bundle, with the processes that were saved.
///
/// # Errors
/// One line; nothing is left behind, whatever step it was.
pub fn restore(store: &Store, log: &Log, args: CreateArgs<'_>, mut images: Images) -> Result<NewContainer> {
    needs_root(args.rootless)?;
    let bundle = Bundle::open(args.bundle)?;
    let spec = bundle.spec()?;
    let facts = facts(args.options.driver, Some(false))?;
    let id = args.id.as_str();
    let request = Request { id, bundle: &bundle.dir, spec: &spec, facts: &facts, options: &args.options };
    let whole = plan::create(&request).with_context(|| bundle.config())?;
    let outer = plan::outer(&whole).with_context(|| bundle.config())?;
    let record = record(&request, &whole).with_context(|| bundle.config())?;
    images.wishes.config_file = config_file(&record);
    let locked = put_on_record(store, args.id, &whole, &record)?;
    let launch = || {
        let stage = locked.container.real_path()?;
        let plan = plan::restore(whole, &images.program, &stage);
        plan.plan.warnings.iter().try_for_each(|warning| log.line(Level::Warning, warning))?;
        log.trace(&plan)?;
        let (console, signals) = (&args.options.console, args.signals);
        let restore =
            Restore { images: &images, plan: &plan, outer: &outer, stage: &stage, console, signals };
        let launched = launch::restore(&restore, &locked, &record)?;
        match has_own_clocks(&launched)? {
            true => locked.save_config(&with_time_namespace(bundle.bytes())?)?,
            false => locked.save_config(bundle.bytes())?,
        }
        args.pid_output.write(&launched).map(|()| launched)
    };
    let launched = launch();
    made(locked, record, launched, log)
}

/// CRIU brings processes back into a time namespace, if the kernel has them: their clocks go on where they were.
fn has_own_clocks(launched: &Launched) -> Result<bool> {
    let of = |whose: &str| {
        let path = format!("/proc/{whose}/ns/time");
        absent(std::fs::read_link(&path)).with_context(|| format!("read {path}"))
    };
    Ok(of(&launched.pid.to_string())? != of("self")?)
}

/// For `exec`, whose processes have to see the same time.
fn with_time_namespace(config: &[u8]) -> Result<Vec<u8>> {
    let mut config: serde_json::Value = serde_json::from_slice(config)?;
    if let Some(list) = config["linux"]["namespaces"].as_array_mut()
        && list.iter().all(|namespace| namespace["type"] != "time")
    {
        list.push(serde_json::json!({ "type": "time" }));
    }
    Ok(serde_json::to_vec(&config)?)
}
