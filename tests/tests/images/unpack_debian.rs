//! A real distribution, through real tools: a Debian of mmdebstrap's with a server, as an image of umoci's and as what
//! docker would save, unpacks to what umoci unpacks, and serves a page.

use crate::run;
use ampoule_tests::{Outcome, Runtime, Scratch, bundle_tool, require, snapshot};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

const TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Whether images can be made of Debian's packages.
fn has_debian() -> bool {
    let tools = ["mmdebstrap", "umoci", "skopeo"];
    let mirror = Path::new(TREE).join("tests/vm/mirror");
    let suite = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = suite.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or("none");
    tools.iter().all(|tool| Command::new(tool).arg("--version").output().is_ok())
        && Command::new(mirror).arg(suite).output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_debian_server_unpacks_from_what_docker_saves_and_serves_its_page() {
    require!(has_debian(), "a Debian with mmdebstrap, umoci, skopeo and a mirror");
    let scratch = Scratch::new();
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    run(&format!("{TREE}/bundles/make-debian"), &[&at("debian"), "nginx-light"]);
    let image = format!("{}:web", at("layout"));
    run("umoci", &["init", "--layout", &at("layout")]);
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["insert", "--image", &image, &at("debian"), "/"]);
    run(
        "umoci",
        &["config", "--image", &image, "--config.cmd", "nginx", "--config.volume", "/var/log/nginx"],
    );
    let saved = format!("docker-archive:{}:web:latest", at("saved.tar"));
    run("skopeo", &["copy", "--insecure-policy", "-q", &format!("oci:{image}"), &saved]);
    run("umoci", &["unpack", "--image", &image, &at("umoci")]);
    let expected = snapshot(&scratch.path().join("umoci/rootfs"));
    assert!(expected.len() > 3000, "that is no Debian: {}", expected.len());
    for (source, bundle) in [("layout", "a"), ("saved.tar", "b")] {
        let args = ["unpack", &at(source), &at(bundle), "--", "nginx", "-g", "daemon off;"];
        Outcome::of(Command::new(bundle_tool()).args(args)).ok();
        let found = snapshot(&scratch.path().join(bundle).join("rootfs"));
        let other = expected.iter().find(|(name, line)| found.get(*name) != Some(line));
        assert!(other.is_none(), "{other:?}, not {:?}", other.map(|(name, _)| found.get(name)));
        assert_eq!(found.len(), expected.len());
    }
    serve(&scratch);
}

/// Runs the unpacked server and asks it for its page, from within its network.
fn serve(scratch: &Scratch) {
    let id = scratch.path().file_name().unwrap().to_str().unwrap();
    let call = |args: &[&str]| {
        let mut command = Command::new(Runtime::get().program());
        command
            .arg("--root")
            .arg(scratch.path().join("state"))
            .args(args)
            .current_dir(scratch.path().join("b"));
        command.stdin(std::process::Stdio::null());
        command
    };
    let log = fs::File::create(scratch.path().join("log")).unwrap();
    let mut start = call(&["run", "--detach", id]);
    let started = start.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap().success();
    let page = started.then(|| {
        let state: Value = serde_json::from_str(&Outcome::of(&mut call(&["state", id])).ok().stdout).unwrap();
        assert_ne!(state["pid"], json!(0));
        let script = format!(
            "for n in $(seq 100); do nsenter --net=/proc/{}/ns/net busybox wget -qO- http://127.0.0.1:80/ && exit; \
             sleep 0.1; done; exit 1",
            state["pid"]
        );
        Outcome::of(Command::new("sh").args(["-c", &script]))
    });
    Outcome::of(&mut call(&["delete", "--force", id])).ok();
    let said = fs::read_to_string(scratch.path().join("log")).unwrap();
    let page = page.unwrap_or_else(|| panic!("it did not start: {said}")).ok();
    assert!(page.stdout.contains("Welcome to nginx!"), "{page}");
}
