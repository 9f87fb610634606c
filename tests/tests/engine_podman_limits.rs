//! The limits and rights of podman's containers.

use ampoule_tests::engines::{IMAGE, NO_ENGINE, Podman, look_for};
use ampoule_tests::{Cgroups, field, has_cgroup_v1, on_path, require, systemd};
use serde_json::json;
use std::fs;

fn cgroups(podman: &Podman, name: &str) -> Cgroups {
    let pid = podman.inspect(name)["State"]["Pid"].as_i64().expect("a pid");
    Cgroups::of(pid as i32)
}

#[test]
fn podman_limits_containers() {
    require!(on_path("podman").is_some(), "podman", named NO_ENGINE);
    let podman = Podman::new();
    let flags = ["--network", "none", "--memory", "64m", "--pids-limit", "30", "--cpus", "0.5"];
    podman.detached("web", &flags, &["sleep", "1000"]);
    let cgroups = cgroups(&podman, "web");
    let memory = if has_cgroup_v1("memory") { "memory.limit_in_bytes" } else { "memory.max" };
    assert_eq!(cgroups.read("memory", memory), "67108864");
    assert_eq!(cgroups.read("pids", "pids.max"), "30");
    let path = cgroups.dir("").to_string_lossy().into_owned();
    // On v2 systemd makes the cgroups, unless podman is told otherwise.
    assert_eq!(path.contains(".scope"), systemd::runs_on_v2(), "{path}");
    let stats = podman.call(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "web"]).ok();
    assert!(stats.stdout.contains("/ 67.11MB"), "{stats}");
    let flags = ["run", "--name", "fat", "--network", "none", "--memory", "16m", IMAGE, "sh", "-c"];
    // conmon reads of the kill in the cgroup, unless that is gone before: so the container stays for a while.
    let script = "dd if=/dev/zero of=/dev/null bs=64M; code=$?; sleep 2; exit $code";
    look_for("podman to know what was killed for its memory", || {
        podman.call(&[&flags[..], &[script]].concat());
        let state = podman.inspect("fat")["State"].take();
        podman.call(&["rm", "fat"]).ok();
        assert_eq!(state["ExitCode"], 137, "{state}");
        // conmon overlooks it on a hybrid host's v1, below every runtime.
        has_cgroup_v1("memory") || state["OOMKilled"] == true
    });
}

#[test]
fn podman_narrows_what_a_container_may_do_and_maps_users() {
    require!(on_path("podman").is_some(), "podman", named NO_ENGINE);
    let podman = Podman::new();
    narrows_rights(&podman);
    maps_users(&podman);
}

fn narrows_rights(podman: &Podman) {
    let profile = podman.realm().beside("seccomp.json");
    // An error that nothing else gives: EXDEV.
    let rule = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18 });
    let text = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    fs::write(&profile, text.to_string()).unwrap();
    let profile = format!("seccomp={}", profile.display());
    let flags = [
        "--read-only",
        "--read-only-tmpfs=false",
        "--tmpfs",
        "/tmp",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "CHOWN",
        "--security-opt",
        "no-new-privileges",
        "--user",
        "1000:1000",
        "--group-add",
        "7",
        "--ulimit",
        "nofile=64:64",
        "--ulimit",
        "nproc=1000:1000",
        // No limit, says podman.
        "--pids-limit",
        "0",
        "--security-opt",
        &profile,
    ];
    let script = "cat /proc/self/status; touch /file; touch /tmp/file && echo tmp is writable; mkdir /tmp/dir; ulimit -n";
    let outcome = podman.run(&flags, &["sh", "-c", script]);
    assert!(outcome.stdout.contains("CapBnd"), "{outcome}");
    let status = &outcome.stdout;
    assert_eq!(field(status, "CapBnd"), "0000000000000001", "{outcome}");
    assert_eq!(
        (field(status, "NoNewPrivs"), field(status, "Seccomp")),
        ("1".into(), "2".into()),
        "{outcome}"
    );
    assert_eq!(field(status, "Uid"), "1000 1000 1000 1000");
    assert!(field(status, "Groups").split(' ').any(|group| group == "7"), "{outcome}");
    assert!(status.contains("tmp is writable") && status.ends_with("\n64\n"), "{outcome}");
    for words in ["/file: Read-only file system", "'/tmp/dir': Invalid cross-device link"] {
        assert!(outcome.stderr.contains(words), "{outcome}");
    }
    let outcome =
        podman.run(&["--privileged"], &["sh", "-c", "cat /proc/self/status; mount -t tmpfs none /tmp"]);
    assert_eq!(field(&outcome.ok().stdout, "Seccomp"), "0");
}

fn maps_users(podman: &Podman) {
    let script = "id -u; cat /proc/self/uid_map; touch /file; ls -n /file";
    let root = nix::unistd::geteuid().is_root();
    let outcome = if root {
        podman.run(&["--uidmap", "0:200000:5000", "--gidmap", "0:200000:5000"], &["sh", "-c", script]).ok()
    } else {
        podman.run(&["--userns", "keep-id"], &["sh", "-c", "id -u; touch /tmp/file; ls -n /tmp/file"]).ok()
    };
    let words: Vec<_> = outcome.stdout.split_whitespace().collect();
    let id = if root { "0" } else { "1000" };
    assert_eq!(words[0], id, "{outcome}");
    assert!(!root || words[1..4] == ["0", "200000", "5000"], "{outcome}");
    assert!(outcome.stdout.contains(&format!(" {id} ")), "{outcome}");
}
