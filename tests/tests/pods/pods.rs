//! A pod's life, as the kubelet has containerd lead it: by CRI, with our shim and our pause.

use ampoule_tests::cri::messages::*;
use ampoule_tests::cri::{Code, Pod, container_config, lines};
use ampoule_tests::engines::{NO_ENGINE, Node, can_be_node};
use ampoule_tests::{require, wait_for};
use std::fs;
use std::time::{Duration, Instant};

/// Waits for input that does not come, and ends on TERM.
const WAITS: [&str; 3] =
    ["sh", "-c", "trap 'echo farewell; exit 3' TERM; echo up; while :; do sleep 0.1; done"];

#[test]
fn a_pod_and_its_containers_live_and_leave_nothing() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let pod = Pod::run(&node, "web");
    assert_eq!(pod.status().state(), PodSandboxState::SandboxReady);
    assert!(pod.address().to_string().starts_with("10.213."), "{}", pod.address());
    let one = pod.start(container_config("one", &WAITS));
    let two = pod.create(container_config("two", &["sh", "-c", "exit 7"])).unwrap();
    assert_eq!(pod.container(&one).state(), ContainerState::ContainerRunning);
    assert_eq!(pod.container(&two).state(), ContainerState::ContainerCreated);
    assert_eq!(node.shims("").len(), 1, "a pod has one shim");
    node.cri().start_container(StartContainerRequest { container_id: two.clone() }).unwrap();
    assert_eq!(pod.wait(&two), 7);
    let list = node.cri().list_containers(ListContainersRequest::default()).unwrap();
    assert_eq!(list.containers.len(), 2);
    // They share the pod's host name and network.
    let (_, name, _) = pod.exec(&one, &["cat", "/proc/sys/kernel/hostname"]);
    assert_eq!(name, "web\n");
    let (_, devices, _) = pod.exec(&one, &["ls", "/sys/class/net"]);
    assert_eq!(devices, "eth0\nlo\n");
    pod.remove_container(&two);
    pod.remove();
    node.wait_until_empty();
}

#[test]
fn probes_have_their_output_their_codes_and_their_time() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let pod = Pod::run(&node, "web");
    let id = pod.start(container_config("one", &WAITS));
    let script = "echo out; echo err >&2; exit 3";
    assert_eq!(pod.exec(&id, &["sh", "-c", script]), (3, "out\n".into(), "err\n".into()));
    assert_eq!(pod.exec(&id, &["true"]).0, 0);
    let missing = pod.exec_within(&id, &["no-such-program"], 0).unwrap_err();
    assert!(missing.message().contains("executable file not found"), "{missing}");
    let begun = Instant::now();
    let late = pod.exec_within(&id, &["sleep", "1000"], 1).unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    // What was late is gone, and the next one runs.
    wait_for("the late one to be gone", || !pod.exec(&id, &["ps"]).1.contains("sleep 1000"));
    // As many as a node's probes may be at once.
    std::thread::scope(|scope| {
        for n in 0..20 {
            let (pod, id) = (&pod, &id);
            scope.spawn(move || {
                let script = format!("echo {n}; exit {n}");
                assert_eq!(pod.exec(id, &["sh", "-c", &script]), (n, format!("{n}\n"), String::new()));
            });
        }
    });
    assert_eq!(pod.container(&id).state(), ContainerState::ContainerRunning);
}

#[test]
fn a_container_has_its_grace_and_is_killed_after_it() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let pod = Pod::run(&node, "web");
    let polite = pod.start(container_config("polite", &WAITS));
    let deaf = pod
        .start(container_config("deaf", &["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]));
    for name in ["polite", "deaf"] {
        wait_for("both to be up", || lines(&pod.log(name)).iter().any(|line| line.content == "up"));
    }
    let begun = Instant::now();
    pod.stop_container(&polite, 60);
    assert!(begun.elapsed() < Duration::from_secs(30), "it was not waited for");
    let status = pod.container(&polite);
    assert_eq!((status.exit_code, &*status.reason), (3, "Error"));
    assert!(status.finished_at >= status.started_at && status.started_at > 0, "{status:?}");
    wait_for("its last words", || lines(&pod.log("polite")).iter().any(|line| line.content == "farewell"));

    let begun = Instant::now();
    pod.stop_container(&deaf, 1);
    assert!(begun.elapsed() >= Duration::from_secs(1), "it had less time than it was given");
    assert_eq!(pod.container(&deaf).exit_code, 137);
    // Once more is no error.
    pod.stop_container(&deaf, 1);
    pod.stop();
    assert_eq!(pod.status().state(), PodSandboxState::SandboxNotready);
    pod.stop();
    pod.remove();
    node.wait_until_empty();
}

#[test]
fn logs_are_the_kubelets_and_go_on_when_they_are_moved() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let pod = Pod::run(&node, "web");
    // One line longer than containerd takes in one, and one without an end.
    let script = "echo out; echo err >&2; busybox head -c 20000 /dev/zero | busybox tr '\\0' x; echo; \
        while [ ! -e /tmp/end ]; do echo tick; sleep 0.1; done; printf last";
    let id = pod.start(container_config("one", &["sh", "-c", script]));
    let log = pod.log("one");
    let has = |text: &str| lines(&log).iter().any(|line| line.content == text);
    wait_for("the log", || has("tick"));
    let begun = lines(&log);
    let whose = |text: &str| begun.iter().find(|line| line.content == text).map(|line| line.stream.clone());
    assert_eq!((whose("out").as_deref(), whose("err").as_deref()), (Some("stdout"), Some("stderr")));
    let long: Vec<_> = begun.iter().filter(|line| line.content.starts_with('x')).collect();
    assert_eq!(long.iter().map(|line| line.is_part).collect::<Vec<_>>(), [true, false]);
    assert_eq!(long.iter().map(|line| line.content.len()).sum::<usize>(), 20_000);

    let old = log.with_extension("old");
    fs::rename(&log, &old).unwrap();
    node.cri().reopen_container_log(ReopenContainerLogRequest { container_id: id.clone() }).unwrap();
    wait_for("the new log", || has("tick"));
    assert!(lines(&old).iter().any(|line| line.content == "tick"));
    pod.exec(&id, &["touch", "/tmp/end"]);
    assert_eq!(pod.wait(&id), 0);
    wait_for("the last words", || has("last"));
}

#[test]
fn what_containers_use_is_told_one_by_one_and_together() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let pod = Pod::run(&node, "web");
    let mut config = container_config("one", &["sh", "-c", "while :; do :; done"]);
    let limits = LinuxContainerResources {
        memory_limit_in_bytes: 64 << 20,
        cpu_period: 100_000,
        cpu_quota: 50_000,
        ..Default::default()
    };
    config.linux.as_mut().unwrap().resources = Some(limits);
    let id = pod.start(config);
    let stats = || {
        let request = ContainerStatsRequest { container_id: id.clone() };
        node.cri().container_stats(request).unwrap().stats.unwrap()
    };
    let cpu = || stats().cpu.and_then(|cpu| cpu.usage_core_nano_seconds).map_or(0, |usage| usage.value);
    wait_for("the container's time", || cpu() > 100_000_000);
    let before = cpu();
    wait_for("more of it", || cpu() > before);
    let memory = stats().memory.unwrap().working_set_bytes.unwrap().value;
    assert!((1..64 << 20).contains(&memory), "{memory}");
    let all = node.cri().list_container_stats(ListContainerStatsRequest::default()).unwrap().stats;
    let ids: Vec<&str> = all.iter().map(|s| &*s.attributes.as_ref().unwrap().id).collect();
    assert_eq!(ids, [&*id]);

    // New limits, as when a pod is resized in place.
    let linux = LinuxContainerResources { memory_limit_in_bytes: 32 << 20, ..Default::default() };
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(linux),
        ..Default::default()
    };
    node.cri().update_container_resources(request).unwrap();
    let cgroups = ampoule_tests::Cgroups::of(pod.pid_of(&id));
    let file = if ampoule_tests::has_cgroup_v1("memory") { "memory.limit_in_bytes" } else { "memory.max" };
    assert_eq!(cgroups.read("memory", file), (32 << 20).to_string());

    let of_pod = node.cri().pod_sandbox_stats(PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() });
    let of_pod = of_pod.unwrap().stats.unwrap().linux.unwrap();
    assert_eq!(of_pod.containers.len(), 1);
    assert!(of_pod.process.unwrap().process_count.unwrap().value >= 1);
    assert_eq!(of_pod.network.unwrap().default_interface.unwrap().name, "eth0");
}
