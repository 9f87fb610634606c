//! The limits and rights of podman's containers.

use ampoule_tests::engines::{Client, NO_ENGINE, Podman, docker_compat};
use ampoule_tests::{field, has_cgroup_v1, on_path, require, systemd};

#[test]
fn podman_limits_containers() {
    require!(on_path("podman").is_some(), "podman", named NO_ENGINE);
    let podman = Podman::new();
    let flags = ["--memory", "64m", "--pids-limit", "30", "--cpus", "0.5"];
    podman.detached_offline("web", &flags, &["sleep", "1000"]);
    let cgroups = podman.cgroups("web");
    let memory = if has_cgroup_v1("memory") { "memory.limit_in_bytes" } else { "memory.max" };
    assert_eq!(cgroups.read("memory", memory), "67108864");
    assert_eq!(cgroups.read("pids", "pids.max"), "30");
    let path = cgroups.dir("").to_string_lossy().into_owned();
    // On v2 systemd makes the cgroups, unless podman is told otherwise.
    assert_eq!(path.contains(".scope"), systemd::runs_on_v2(), "{path}");
    let stats = podman.call(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "web"]).ok();
    assert!(stats.stdout.contains("/ 67.11MB"), "{stats}");
    // conmon overlooks it on a hybrid host's v1, below every runtime.
    docker_compat::reports_oom_kills(&podman, has_cgroup_v1("memory"));
}

#[test]
fn podman_narrows_what_a_container_may_do_and_maps_users() {
    require!(on_path("podman").is_some(), "podman", named NO_ENGINE);
    let podman = Podman::new();
    // No limit of processes, says podman; and /tmp is to be ours.
    let own = ["--read-only-tmpfs=false", "--ulimit", "nproc=1000:1000", "--pids-limit", "0"];
    docker_compat::narrows_rights(&podman, &own);
    gives_every_right(&podman);
    maps_users(&podman);
}

fn gives_every_right(podman: &Podman) {
    let script = "cat /proc/self/status; mount -t tmpfs none /tmp";
    let outcome = podman.run_offline(&["--privileged"], &["sh", "-c", script]);
    assert_eq!(field(&outcome.ok().stdout, "Seccomp"), "0");
}

fn maps_users(podman: &Podman) {
    let script = "id -u; cat /proc/self/uid_map; touch /file; ls -n /file";
    let root = nix::unistd::geteuid().is_root();
    let outcome = if root {
        podman
            .run_offline(&["--uidmap", "0:200000:5000", "--gidmap", "0:200000:5000"], &["sh", "-c", script])
            .ok()
    } else {
        podman
            .run_offline(&["--userns", "keep-id"], &["sh", "-c", "id -u; touch /tmp/file; ls -n /tmp/file"])
            .ok()
    };
    let words: Vec<_> = outcome.stdout.split_whitespace().collect();
    let id = if root { "0" } else { "1000" };
    assert_eq!(words[0], id, "{outcome}");
    assert!(!root || words[1..4] == ["0", "200000", "5000"], "{outcome}");
    assert!(outcome.stdout.contains(&format!(" {id} ")), "{outcome}");
}
