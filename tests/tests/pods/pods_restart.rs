//! Pods while what is around them ends: containerd, their shim, pause.

use ampoule_tests::cri::messages::*;
use ampoule_tests::cri::{Pod, container_config, lines};
use ampoule_tests::engines::{NO_ENGINE, Node, can_be_node};
use ampoule_tests::{Runtime, require, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;

#[test]
fn pods_outlive_a_killed_containerd_which_learns_what_happened_meanwhile() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let mut node = Node::start();
    let pod = Pod::run(&node, "web");
    let lasting =
        pod.start(container_config("lasting", &["sh", "-c", "while :; do echo tick; sleep 0.1; done"]));
    // Ends when it is told: while nobody listens.
    let script = "until [ -e /tmp/end ]; do sleep 0.1; done; echo last words; exit 9";
    let ending = pod.start(container_config("ending", &["sh", "-c", script]));
    let made = pod.create(container_config("made", &["sh", "-c", "exit 6"])).unwrap();
    wait_for("the log", || lines(&pod.log("lasting")).len() > 3);
    let before = (node.shims(""), pod.pid(), pod.pid_of(&lasting), pod.address());
    let end = format!("/proc/{}/root/tmp/end", pod.pid_of(&ending));
    node.kill();
    let written = lines(&pod.log("lasting")).len();
    std::fs::write(end, "").unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    node.resume();

    assert_eq!(pod.status().state(), PodSandboxState::SandboxReady);
    assert_eq!((node.shims(""), pod.pid(), pod.pid_of(&lasting), pod.address()), before);
    assert_eq!(pod.container(&lasting).state(), ContainerState::ContainerRunning);
    assert_eq!(pod.wait(&ending), 9);
    let list = node.cri().list_containers(ListContainersRequest::default()).unwrap();
    assert_eq!(list.containers.len(), 3);
    // What was written meanwhile waited for a reader, and more comes.
    wait_for("more of the log", || lines(&pod.log("lasting")).len() > written + 15);
    if Runtime::get().is_ampoule() {
        // containerd's own shim loses them.
        wait_for("the last words", || lines(&pod.log("ending")).iter().any(|l| l.content == "last words"));
    }
    assert_eq!(pod.exec(&lasting, &["sh", "-c", "exit 4"]).0, 4);
    node.cri().start_container(StartContainerRequest { container_id: made.clone() }).unwrap();
    assert_eq!(pod.wait(&made), 6);
    pod.stop_container(&lasting, 0);
    assert_eq!(pod.container(&lasting).exit_code, 137);
    pod.remove();
    node.wait_until_empty();
}

#[test]
fn a_pod_whose_shim_was_killed_is_seen_as_ended_and_can_be_removed() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let pod = Pod::run(&node, "web");
    let id = pod.start(container_config("one", &["sleep", "1000"]));
    let shims = node.shims(&pod.id);
    assert_eq!(shims.len(), 1);
    kill(Pid::from_raw(shims[0]), Signal::SIGKILL).unwrap();
    wait_for("the pod to have ended", || pod.status().state() == PodSandboxState::SandboxNotready);
    // 255 is CRI's own word for an end that it lost sight of; it may also hear the shim's `delete` first.
    let code = pod.wait(&id);
    assert!(matches!(code, 137 | 255), "{code}");
    pod.remove();
    if Runtime::get().is_ampoule() {
        // runc's own shim leaves its socket.
        node.wait_until_empty();
    }
    // The kubelet makes it anew.
    let again = Pod::run(&node, "web");
    assert_eq!(again.exec(&again.start(container_config("one", &["sleep", "1000"])), &["true"]).0, 0);
}

#[test]
fn a_pod_whose_pause_ended_is_not_ready_and_a_container_killed_for_memory_says_so() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let pod = Pod::run(&node, "web");
    let mut config = container_config("greedy", &["sh", "-c", "busybox tail /dev/zero"]);
    config.linux.as_mut().unwrap().resources =
        Some(LinuxContainerResources { memory_limit_in_bytes: 16 << 20, ..Default::default() });
    let greedy = pod.start(config);
    assert_eq!(pod.wait(&greedy), 137);
    if Runtime::get().is_ampoule() {
        // With runc's shim the news may come too late, or not at all (containerd#12405).
        wait_for("why it ended", || pod.container(&greedy).reason == "OOMKilled");
    }
    kill(Pid::from_raw(pod.pid()), Signal::SIGKILL).unwrap();
    wait_for("the pod to have ended", || pod.status().state() == PodSandboxState::SandboxNotready);
    pod.remove();
    node.wait_until_empty();
}
