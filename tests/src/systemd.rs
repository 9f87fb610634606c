//! Containers of the systemd cgroup driver: how to make one, its scope, and what systemd knows of it.

use crate::{Bundle, Container, Outcome, Runtime, is_root, wait_for};
use std::collections::BTreeMap;
use std::process::Command;

/// Why a test of the driver can't say anything.
pub const WHY: &str = "this host has no systemd on cgroup v2";

/// Whether systemd runs here, can be reached, and has nothing but cgroup v2 under it.
pub fn runs_on_v2() -> bool {
    let there = |path: &str| std::path::Path::new(path).exists();
    there("/run/systemd/system")
        && there("/run/dbus/system_bus_socket")
        && there("/sys/fs/cgroup/cgroup.controllers")
}

/// Arguments that make a container with the driver.
pub fn args_for<'a>(container: &'a Container, verb: &'a str) -> Vec<&'a str> {
    let mut args = container.args_for(verb, &[]);
    if Runtime::get().flags().is_empty() {
        args.insert(0, "--systemd-cgroup");
    }
    args
}

/// `create` with the driver.
pub fn create(container: &Container) -> Outcome {
    container.call(&args_for(container, "create"))
}

/// A container that the driver made.
#[track_caller]
pub fn created(bundle: Bundle) -> Container {
    let container = Container::of(bundle);
    create(&container).ok();
    container
}

/// The name of its scope, when the document gives none.
pub fn unit(container: &Container) -> String {
    format!("ampoule-{}.scope", container.id)
}

/// The slice of its scope, when the document gives none.
pub fn slice() -> &'static str {
    if is_root() { "system.slice" } else { "user.slice" }
}

/// `systemctl` or `systemd-run`, to talk to the manager that the driver talks to: an ordinary user's is their own.
pub fn manager(program: &str) -> Command {
    let mut command = Command::new(program);
    command.args((!is_root()).then_some("--user"));
    command
}

/// What `systemctl show` says of a unit.
pub fn shown(unit: &str) -> BTreeMap<String, String> {
    let output = manager("systemctl").args(["show", unit]).output().expect("run systemctl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Waits until systemd has forgotten the unit. It removes one in its own time once nothing is in it.
#[track_caller]
pub fn forgotten(unit: &str) {
    wait_for(&format!("systemd to forget {unit}"), || shown(unit)["LoadState"] == "not-found");
}
