//! An image's configuration as a runtime's config.json (image-spec, conversion.md).

use anyhow::{Context, Result, ensure};
use oci_spec::image::ImageConfiguration;
use serde_json::{Value, json};

use crate::tree::Tree;
use crate::users::{self, User};

/// What a configuration says nothing about is as docker has it.
const DEFAULT: &str = include_str!("conversion/config.json");
/// Where programs are when the image doesn't say.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The document, for a root filesystem in `rootfs`. `args` replace the image's Cmd, as with `docker run`.
///
/// # Errors
/// A user that the image doesn't know; nothing to run.
pub fn convert(image: &ImageConfiguration, tree: &Tree, args: &[String], rootless: bool) -> Result<Value> {
    let config = image.config().clone().unwrap_or_default();
    let mut spec: Value = serde_json::from_str(DEFAULT)?;
    let process = &mut spec["process"];
    process["args"] = json!(command(image, args)?);
    let mut env = config.env().clone().unwrap_or_default();
    if !env.iter().any(|pair| pair.starts_with("PATH=")) {
        env.insert(0, PATH.to_owned());
    }
    process["env"] = json!(env);
    if let Some(cwd) = config.working_dir().as_ref().filter(|cwd| !cwd.is_empty()) {
        process["cwd"] = json!(cwd);
    }
    let text = config.user().as_deref().unwrap_or_default();
    let User { uid, gid, additional_gids } = users::of(tree, text).context("config.User")?;
    process["user"] = json!({ "uid": uid, "gid": gid });
    if !additional_gids.is_empty() {
        process["user"]["additionalGids"] = json!(additional_gids);
    }
    spec["annotations"] = annotations(image);
    for volume in config.volumes().iter().flatten() {
        // Not the root filesystem; what the image has there is copied in.
        push(
            &mut spec["mounts"],
            json!({
                "destination": volume,
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "nodev", "mode=0755", "tmpcopyup"],
            }),
        );
    }
    if rootless {
        without_rights(&mut spec);
    }
    Ok(spec)
}

/// Entrypoint and Cmd, or what is said in place of Cmd.
///
/// # Errors
/// Nothing is said at all.
pub fn command(image: &ImageConfiguration, args: &[String]) -> Result<Vec<String>> {
    let config = image.config().clone().unwrap_or_default();
    let cmd = if args.is_empty() { config.cmd().clone().unwrap_or_default() } else { args.to_vec() };
    let command: Vec<String> = config.entrypoint().iter().flatten().cloned().chain(cmd).collect();
    ensure!(!command.is_empty(), "the image has neither Entrypoint nor Cmd: say after -- what to run");
    Ok(command)
}

/// conversion.md#annotation-fields; a label of the same name wins.
fn annotations(image: &ImageConfiguration) -> Value {
    let config = image.config().clone().unwrap_or_default();
    let mut all = serde_json::Map::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            all.insert(format!("org.opencontainers.image.{name}"), value.into());
        }
    };
    add("os", Some(image.os().to_string()));
    add("architecture", Some(image.architecture().to_string()));
    add("variant", image.variant().clone());
    add("os.version", image.os_version().clone());
    add("os.features", image.os_features().as_ref().map(|all| all.join(",")));
    add("author", image.author().clone());
    add("created", image.created().clone());
    add("stopSignal", config.stop_signal().clone());
    add("exposedPorts", config.exposed_ports().as_ref().map(|all| all.join(",")));
    all.extend(config.labels().iter().flatten().map(|(key, value)| (key.clone(), json!(value))));
    Value::Object(all)
}

fn push(list: &mut Value, item: Value) {
    if let Value::Array(list) = list {
        list.push(item);
    }
}

/// An ordinary user has one id to map, no network to make, no sysfs to mount and no groups but the own.
fn without_rights(spec: &mut Value) {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let user = spec["process"]["user"].clone();
    spec["process"]["user"] = json!({ "uid": user["uid"], "gid": user["gid"] });
    let linux = &mut spec["linux"];
    linux["uidMappings"] = json!([{ "containerID": user["uid"], "hostID": uid, "size": 1 }]);
    linux["gidMappings"] = json!([{ "containerID": user["gid"], "hostID": gid, "size": 1 }]);
    linux["resources"] = json!({});
    if let Value::Array(namespaces) = &mut linux["namespaces"] {
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({ "type": "user" }));
    }
    for mount in spec["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == "/sys" {
            let options = json!(["rbind", "nosuid", "noexec", "nodev", "ro"]);
            *mount = json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": options });
        } else if let Value::Array(options) = &mut mount["options"] {
            options.retain(|option| !option.as_str().is_some_and(|option| option.starts_with("gid=")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is hidden, mounted and read-only is what `ampoule spec` has, so that neither is forgotten when it changes.
    #[test]
    fn the_default_hides_and_mounts_what_the_runtimes_own_does() {
        let own: Value = serde_json::from_str(DEFAULT).unwrap();
        let spec = include_str!("../../runtime/src/cli/spec/config.json");
        let spec: Value = serde_json::from_str(spec).unwrap();
        assert_eq!(own["mounts"], spec["mounts"]);
        for key in ["maskedPaths", "readonlyPaths", "resources"] {
            assert_eq!(own["linux"][key], spec["linux"][key], "{key}");
        }
    }
}
