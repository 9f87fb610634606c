//! docker's containers through our own shim.

use ampoule_tests::engines::{Client, Docker, NO_ENGINE, wait_for_slowly};
use ampoule_tests::{ampoule_only, on_path, pids_mentioning, require};
use std::process::Command;

/// Docker knows a runtime's type since 23.0.
fn is_new_enough() -> bool {
    let Ok(output) = Command::new("dockerd").arg("--version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let major = text.split("version ").nth(1).and_then(|rest| rest.split('.').next()?.parse().ok());
    major.is_some_and(|major: u32| major >= 23)
}

/// What the documentation tells a user to write.
fn documented() -> String {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/shim.md")).unwrap();
    let line = text.lines().find(|line| line.contains("runtimeType")).expect("a line for docker");
    line.trim().to_owned()
}

#[test]
fn docker_runs_executes_shows_logs_and_stops_through_the_shim() {
    ampoule_only!("the shim that containerd finds runs ampoule, whatever is under test");
    require!(on_path("dockerd").is_some() && is_new_enough(), "docker 23", named NO_ENGINE);
    let docker =
        Docker::configured(&documented(), &["--bridge", "none", "--iptables=false", "--ip6tables=false"]);
    let ours = ["--runtime", "ampoule"];
    let outcome = docker.run(&ours, &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((outcome.code, &*outcome.stdout, &*outcome.stderr), (7, "out\n", "err\n"), "{outcome}");
    let outcome = docker.run(&ours, &["nosuch"]);
    assert_eq!(outcome.code, 127, "{outcome}");

    let script = "trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 0.1; done";
    docker.detached("web", &ours, &["sh", "-c", script]);
    let id = docker.inspect("web")["Id"].as_str().unwrap().to_owned();
    let is_ours = |pid: i32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains("containerd-shim-ampoule-v2"))
    };
    assert!(pids_mentioning(&id).into_iter().any(is_ours), "it runs on another shim");
    wait_for_slowly("its first words", || docker.call(&["logs", "web"]).stdout == "hello\n");
    let outcome = docker.call(&["exec", "web", "sh", "-c", "echo inside; exit 4"]);
    assert_eq!((outcome.code, &*outcome.stdout), (4, "inside\n"), "{outcome}");
    docker.call(&["pause", "web"]).ok();
    assert_eq!(docker.inspect("web")["State"]["Paused"], true);
    docker.call(&["unpause", "web"]).ok();
    docker.call(&["stop", "web"]).ok();
    assert_eq!(docker.inspect("web")["State"]["ExitCode"], 3);
    assert_eq!(docker.call(&["logs", "web"]).ok().stdout, "hello\nbye\n");
    docker.call(&["start", "web"]).ok();
    docker.call(&["rm", "--force", "web"]).ok();
}
