//! Networks, volumes and the init of docker's containers.

use ampoule_tests::engines::{Client, Docker, NO_ENGINE, docker_compat, wait_for_slowly};
use ampoule_tests::{on_path, pause, require};

#[test]
fn docker_connects_containers_to_networks_and_ports() {
    require!(on_path("dockerd").is_some(), "docker", named NO_ENGINE);
    let docker = Docker::start_with(&["--bip", "10.213.0.1/24"]);
    docker.detached("web", &["--publish", "127.0.0.1:8080:80"], &["httpd", "-f", "-p", "80", "-h", "/etc"]);
    let fetched =
        || docker.sandbox().call("busybox", &["wget", "-q", "-O", "-", "http://127.0.0.1:8080/group"]);
    wait_for_slowly("the published port", || fetched().stdout == "root:x:0:\nguest:x:1000:\n");
    docker.call(&["network", "create", "--subnet", "10.214.0.0/24", "lan"]).ok();
    docker.call(&["network", "connect", "lan", "web"]).ok();
    let outcome = docker.run(&["--network", "lan"], &["wget", "-q", "-O", "-", "http://web/group"]).ok();
    assert_eq!(outcome.stdout, "root:x:0:\nguest:x:1000:\n");
    let outcome =
        docker.run(&["--network", "container:web"], &["wget", "-q", "-O", "-", "http://127.0.0.1/group"]);
    assert_eq!(outcome.ok().stdout, "root:x:0:\nguest:x:1000:\n");
    let outcome = docker.run(
        &["--network", "none", "--hostname", "box", "--sysctl", "net.ipv4.ip_forward=1"],
        &["sh", "-c", "ls /sys/class/net; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/hostname"],
    );
    assert_eq!(outcome.ok().stdout, "lo\n1\nbox\n");
}

#[test]
fn docker_mounts_volumes_and_puts_our_init_before_a_program() {
    require!(on_path("dockerd").is_some(), "docker", named NO_ENGINE);
    let init = pause();
    let docker = Docker::start_with(&[
        "--bridge",
        "none",
        "--iptables=false",
        "--ip6tables=false",
        "--init-path",
        init.to_str().unwrap(),
    ]);
    docker_compat::mounts_volumes_and_directories(&docker);
    puts_our_init_before_a_program(&docker);
}

/// The daemon has it by --init-path.
fn puts_our_init_before_a_program(docker: &Docker) {
    // An orphan, which sh as PID 1 would leave as a zombie while it sleeps.
    docker.detached("web", &["--init"], &["sh", "-c", "(sleep 0 &); exec sleep 1000"]);
    let first = docker.call(&["exec", "web", "cat", "/proc/1/cmdline"]).ok();
    assert!(first.stdout.starts_with("/sbin/docker-init\0"), "{first}");
    wait_for_slowly("the orphan to be reaped", || {
        !docker
            .call(&["exec", "web", "cat", "/proc/2/status", "/proc/3/status", "/proc/4/status"])
            .stdout
            .contains("zombie")
    });
    docker.call(&["stop", "web"]).ok();
    // sleep has no handler and, unlike PID 1, needs none.
    assert_eq!(docker.inspect("web")["State"]["ExitCode"], 143);
}
