//! The limits, devices and rights of docker's containers.

use ampoule_tests::engines::{Client, Docker, NO_ENGINE, docker_compat};
use ampoule_tests::{
    Cgroups, Runtime, can_raise_limits, field, has_cgroup_v1, on_path, place, require, systemd,
};
use std::fs;
use std::path::Path;

/// The limit on memory and on processes, on either version.
fn limits(cgroups: &Cgroups) -> (String, String) {
    let memory = if has_cgroup_v1("memory") { "memory.limit_in_bytes" } else { "memory.max" };
    (cgroups.read("memory", memory), cgroups.read("pids", "pids.max"))
}

#[test]
fn docker_limits_containers() {
    require!(on_path("dockerd").is_some(), "docker", named NO_ENGINE);
    let docker = Docker::start();
    docker.detached("web", &["--memory", "64m", "--pids-limit", "30", "--cpus", "0.5"], &["sleep", "1000"]);
    let cgroups = docker.cgroups("web");
    // On v2 systemd makes the cgroups, unless docker is told otherwise.
    let path = cgroups.dir("").to_string_lossy().into_owned();
    assert_eq!(path.contains("system.slice/docker-"), systemd::runs_on_v2(), "{path}");
    assert_eq!(limits(&cgroups), ("67108864".into(), "30".into()));
    if !has_cgroup_v1("cpu") {
        assert_eq!(cgroups.read("cpu", "cpu.max"), "50000 100000");
    }
    let forks = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i + 1)); done";
    let outcome = docker.call(&["exec", "web", "sh", "-c", forks]);
    assert!(outcome.stderr.contains("can't fork"), "{outcome}");
    let stats = docker.call(&["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "web"]).ok();
    assert!(stats.stdout.contains("/ 64MiB "), "{stats}");
    docker.call(&["update", "--memory", "96m", "--memory-swap", "-1", "--pids-limit", "40", "web"]).ok();
    assert_eq!(limits(&cgroups), ("100663296".into(), "40".into()));

    let eat = "exec dd if=/dev/zero of=/dev/null bs=64M";
    assert_eq!(docker.run(&["--memory", "16m"], &["sh", "-c", eat]).code, 137);
    docker_compat::reports_oom_kills(&docker, false);
}

#[test]
fn docker_narrows_what_a_container_may_do() {
    require!(on_path("dockerd").is_some(), "docker", named NO_ENGINE);
    let docker = Docker::start();
    leaves_the_default_rights(&docker);
    let status = docker_compat::narrows_rights(&docker, &[]);
    assert_eq!(field(&status, "CapEff"), "0000000000000000");
    gives_devices(&docker);
    puts_it_under_apparmor(&docker);
}

fn leaves_the_default_rights(docker: &Docker) {
    let outcome =
        docker.run(&[], &["sh", "-c", "cat /proc/self/status; umount /proc; touch /file && echo written"]);
    assert_eq!(field(&outcome.stdout, "CapEff"), "00000000a80425fb", "{outcome}");
    assert_eq!(field(&outcome.stdout, "Seccomp"), "2", "{outcome}");
    assert!(outcome.stdout.contains("written") && outcome.stderr.contains("not permitted"), "{outcome}");
    let outcome = docker.run(&["--security-opt", "seccomp=unconfined"], &["cat", "/proc/self/status"]).ok();
    assert_eq!(field(&outcome.stdout, "Seccomp"), "0");
}

#[test]
fn docker_gives_a_privileged_container_what_there_is() {
    require!(on_path("dockerd").is_some(), "docker", named NO_ENGINE);
    let enough = Runtime::get().is_ampoule() || can_raise_limits();
    require!(enough, "every capability", named "runc 1.1 fails where the host itself lacks one");
    let outcome = Docker::start()
        .run(&["--privileged"], &["sh", "-c", "cat /proc/self/status; mount -t tmpfs none /tmp"])
        .ok();
    assert_eq!(field(&outcome.stdout, "Seccomp"), "0");
}

/// Where the kernel has AppArmor, and its parser is there to load docker's profile.
fn puts_it_under_apparmor(docker: &Docker) {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() != "Y" || !Path::new("/sbin/apparmor_parser").exists() {
        assert!(place() == "host", "the test machine has AppArmor");
        return;
    }
    let profile = |flags: &[&str]| docker.run(flags, &["cat", "/proc/self/attr/current"]).ok().stdout;
    assert_eq!(profile(&["--security-opt", "apparmor=unconfined"]), "unconfined\n");
    docker.detached("web", &[], &["sleep", "1000"]);
    for process in ["1", "self"] {
        let exec = docker.call(&["exec", "web", "cat", &format!("/proc/{process}/attr/current")]).ok();
        assert_eq!(exec.stdout, "docker-default (enforce)\n");
    }
}

fn gives_devices(docker: &Docker) {
    let open = |access: &str| {
        let device = format!("/dev/kmsg:/dev/mine:{access}");
        docker.run(&["--device", &device], &["sh", "-c", ": >/dev/mine"])
    };
    open("w").ok();
    open("r").saying("can't create /dev/mine: Operation not permitted");
    let outcome = docker.run(&[], &["sh", "-c", "mknod /dev/disk b 7 0 && cat /dev/disk"]);
    outcome.saying("can't open '/dev/disk': Operation not permitted");
}
