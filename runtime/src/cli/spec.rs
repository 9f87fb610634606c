//! `ampoule spec`: a config.json to begin with, the one that runc writes.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use ::cgroup::layout::Version;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Context;
use crate::facts;

#[derive(clap::Args)]
pub(super) struct Spec {
    /// Directory to write config.json to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Write a config.json for a rootless container
    #[arg(long)]
    rootless: bool,
}

/// The default document, but for what depends on the host.
const DEFAULT: &str = include_str!("spec/config.json");

pub(super) fn run(context: &Context, args: Spec) -> Result<ExitCode> {
    let mut spec: Value = serde_json::from_str(DEFAULT)?;
    let hierarchies = facts::probe::gather(context.rootless)?.host_cgroups().hierarchies;
    // On v1 most programs expect to see the group's name from the host's root on; so does runc.
    if hierarchies.iter().all(|h| h.version == Version::V2) {
        push(&mut spec["linux"]["namespaces"], json!({"type": "cgroup"}));
    }
    if args.rootless {
        rootless(&mut spec);
    }
    let path = args.bundle.join("config.json");
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => bail!("{} exists; remove it first", path.display()),
        other => other.with_context(|| format!("create {}", path.display()))?,
    };
    writeln!(file, "{spec:#}").with_context(|| format!("write {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn push(list: &mut Value, item: Value) {
    if let Value::Array(list) = list {
        list.push(item);
    }
}

/// An ordinary user has one id to map, no network to make, no sysfs to mount, no groups but the own.
fn rootless(spec: &mut Value) {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let linux = &mut spec["linux"];
    linux["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
    linux["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
    linux["resources"] = json!({});
    if let Value::Array(namespaces) = &mut linux["namespaces"] {
        namespaces.retain(|n| n["type"] != "network");
        namespaces.push(json!({"type": "user"}));
    }
    let Value::Array(mounts) = &mut spec["mounts"] else { return };
    for mount in mounts {
        match mount["destination"].as_str() {
            Some("/sys") => {
                let options = json!(["rbind", "nosuid", "noexec", "nodev", "ro"]);
                *mount = json!({"destination": "/sys", "type": "none", "source": "/sys", "options": options});
            }
            _ => {
                if let Value::Array(options) = &mut mount["options"] {
                    options.retain(|o| {
                        !o.as_str().is_some_and(|o| o.starts_with("gid=") || o.starts_with("uid="))
                    });
                }
            }
        }
    }
}
