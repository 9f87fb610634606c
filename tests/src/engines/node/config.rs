//! How a node's containerd is configured: as `docs/kubernetes.md` says, and with what the test alone needs.

use super::super::Sandbox;
use super::super::documented::{documented_in, runtime, write};
use crate::{Runtime, can_raise_limits, on_path, systemd};
use serde_json::json;
use std::fs;
use std::process::Command;

/// How a containerd's file begins in `docs/kubernetes.md`, and what its CRI is called in there.
struct Language(&'static str, &'static str);

const OF_1: Language = Language("version = 2", "[plugins.\"io.containerd.grpc.v1.cri\"");
const OF_2: Language = Language("version = 3", "[plugins.'io.containerd.cri.v1.runtime'");

/// Where Debian has the network plugins.
pub(super) const PLUGINS: &str = "/usr/lib/cni";

/// Writes what the daemon reads.
pub(super) fn configure(sandbox: &Sandbox) {
    let at = |name: &str| sandbox.file(name).to_str().expect("a UTF-8 path").to_owned();
    let (root, state, socket) = (at("containerd.root"), at("containerd.state"), at("containerd.sock"));
    let (networks, options) = (at("networks"), at("ampoule.toml"));
    // What is written to the log of the whole machine, and what a container in CI may not do.
    let own = format!("  restrict_oom_score_adj = {}\n", !can_raise_limits());
    let (file, cri) = documented_file(&options);
    let file = with_lines(&file, &format!("{cri}]\n"), &own);
    let text = format!(
        "root = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"io.containerd.internal.v1.opt\"]\n{file}\n\
         {cri}.cni]\nbin_dir = {PLUGINS:?}\nconf_dir = {networks:?}\n[grpc]\naddress = {socket:?}\n"
    );
    write(&sandbox.file("containerd.toml"), &text);
    write(
        &sandbox.file("ampoule.toml"),
        &driver(&documented_in("kubernetes.md", "/etc/containerd/ampoule.toml")),
    );
    fs::create_dir(sandbox.file("networks")).expect("make a directory");
    write(&sandbox.file("networks/10-pods.conflist"), &network(&at("addresses")));
}

/// The documented file for this containerd and the runtime under test, and what its CRI is called in there.
fn documented_file(options: &str) -> (String, &'static str) {
    let version = version();
    let Language(first_line, cri) = if version.starts_with("1.") { OF_1 } else { OF_2 };
    let file = driver(&documented_in("kubernetes.md", first_line));
    let file = match Runtime::get().is_ampoule() {
        true if version.starts_with("1.6.") => with_options_in(options, &file),
        true => file,
        false => with_its_own_shim(&file, cri),
    };
    (file, cri)
}

/// Adds to a table, which may not be there yet.
fn with_lines(file: &str, table: &str, lines: &str) -> String {
    match file.contains(table) {
        true => file.replace(table, &format!("{table}{lines}")),
        false => format!("{file}{table}{lines}"),
    }
}

/// containerd's, such as `1.6.20~ds1`.
fn version() -> String {
    let output = Command::new("containerd").arg("--version").output().expect("run containerd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    number.unwrap_or_else(|| panic!("no version in {text:?}")).to_owned()
}

/// The runtime under test, when it isn't ours, has the shim that it came with.
fn with_its_own_shim(file: &str, cri: &str) -> String {
    let table = format!("{cri}.containerd.runtimes.ampoule.options]\n");
    let named = format!("{table}BinaryName = {:?}\n", runtime());
    file.replace("io.containerd.ampoule.v2", "io.containerd.runc.v2").replace(&format!("  {table}"), &named)
}

/// Which containerd 1.6 needs.
fn with_options_in(options: &str, file: &str) -> String {
    let lines = file.lines().map(|line| match line.trim_start().starts_with("SystemdCgroup") {
        true => format!("ConfigPath = {options:?}"),
        false => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// The documented driver is systemd's, which not every machine has.
fn driver(text: &str) -> String {
    text.replace("SystemdCgroup = true", &format!("SystemdCgroup = {}", systemd::runs_on_v2()))
}

/// A bridge with addresses from a range and, where packets can be rewritten, ports of the host's.
fn network(addresses: &str) -> String {
    let range = json!([[{ "subnet": "10.213.0.0/20" }]]);
    let ipam = json!({ "type": "host-local", "dataDir": addresses, "ranges": range, "routes": [{ "dst": "0.0.0.0/0" }] });
    let mut plugins = vec![json!({ "type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": ipam })];
    if has_ports() {
        plugins.push(json!({ "type": "portmap", "capabilities": { "portMappings": true } }));
    }
    json!({ "cniVersion": "0.4.0", "name": "pods", "plugins": plugins }).to_string()
}

/// Whether a port of the host's can lead into a pod.
pub(super) fn has_ports() -> bool {
    on_path("iptables").is_some()
}
