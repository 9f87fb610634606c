//! Networks, volumes, pods and the init of podman's containers.

use ampoule_tests::engines::{Client, NO_ENGINE, Podman, docker_compat, pack_tree, wait_for_slowly};
use ampoule_tests::{on_path, pause, require};

const FETCHED: &str = "root:x:0:\nguest:x:1000:\n";

#[test]
fn podman_publishes_ports() {
    require!(on_path("podman").is_some(), "podman", named NO_ENGINE);
    let podman = Podman::new();
    podman.detached("web", &["--publish", "127.0.0.1:8088:80"], &["httpd", "-f", "-p", "80", "-h", "/etc"]);
    let fetched =
        || podman.sandbox().call("busybox", &["wget", "-q", "-O", "-", "http://127.0.0.1:8088/group"]);
    wait_for_slowly("the published port", || fetched().stdout == FETCHED);
    let outcome =
        podman.run(&["--network", "container:web"], &["wget", "-q", "-O", "-", "http://127.0.0.1/group"]);
    assert_eq!(outcome.ok().stdout, FETCHED);
}

#[test]
fn podman_mounts_volumes_and_puts_our_init_before_a_program() {
    require!(on_path("podman").is_some(), "podman", named NO_ENGINE);
    let podman = Podman::new();
    docker_compat::mounts_volumes_and_directories(&podman);
    puts_our_init_before_a_program(&podman);
}

#[test]
fn podman_holds_a_pod_with_our_pause() {
    require!(on_path("podman").is_some(), "podman", named NO_ENGINE);
    let podman = Podman::new();
    let archive = podman.sandbox().file("pause.tar");
    pack_tree(&["--entrypoint", "/pause", "--ref", "localhost/pause:1"], &pause(), &archive);
    podman.call(&["load", "--quiet", "--input", archive.to_str().unwrap()]).ok();
    podman
        .call(&[
            "pod",
            "create",
            "--name",
            "pod",
            "--infra-image",
            "localhost/pause:1",
            "--infra-command",
            "/pause",
            "--network",
            "none",
            "--share",
            "ipc,net,pid,uts",
            "--hostname",
            "shared",
        ])
        .ok();
    podman
        .call(&[
            "run",
            "--detach",
            "--pod",
            "pod",
            "localhost/box:1",
            "httpd",
            "-f",
            "-p",
            "80",
            "-h",
            "/etc",
        ])
        .ok();
    let script = "cat /proc/1/cmdline; cat /proc/sys/kernel/hostname; wget -q -O - http://127.0.0.1/group";
    let outcome = podman.call(&["run", "--rm", "--pod", "pod", "localhost/box:1", "sh", "-c", script]).ok();
    assert_eq!(outcome.stdout, format!("/pause\0shared\n{FETCHED}"));
    podman.call(&["pod", "stop", "--time", "5", "pod"]).ok();
    let states = podman.call(&["ps", "--all", "--pod", "--format", "{{.Image}} {{.Status}}"]).ok();
    assert!(states.stdout.contains("localhost/pause:1 Exited (0)"), "{states}");
    podman.call(&["pod", "rm", "pod"]).ok();
}

fn puts_our_init_before_a_program(podman: &Podman) {
    let init = pause();
    let flags = ["--init", "--init-path", init.to_str().unwrap()];
    podman.detached_offline("web", &flags, &["sleep", "1000"]);
    let first = podman.call(&["exec", "web", "cat", "/proc/1/cmdline"]).ok();
    assert_eq!(first.stdout, "/run/podman-init\0--\0sleep\x001000\0");
    podman.call(&["stop", "web"]).ok();
    // sleep has no handler and, unlike PID 1, needs none.
    assert_eq!(podman.inspect("web")["State"]["ExitCode"], 143);
}
