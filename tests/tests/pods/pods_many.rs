//! As many pods as a node has, and what one costs.

use ampoule_tests::cri::messages::*;
use ampoule_tests::cri::{Pod, container_config};
use ampoule_tests::engines::{NO_ENGINE, Node, can_be_node};
use ampoule_tests::{ampoule_only, repeats, require};
use std::fs;
use std::time::Instant;

/// A process's share of memory, in kB.
fn pss(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("read smaps_rollup");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a figure");
    line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
}

/// What a pod costs beyond its containers: its shim and its pause.
fn cost(node: &Node, pod: &Pod) -> u64 {
    let shims = node.shims(&pod.id);
    assert_eq!(shims.len(), 1, "{}", pod.id);
    pss(shims[0]) + pss(pod.pid())
}

#[test]
fn fifty_pods_at_once_come_and_go_and_leave_nothing() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let many = repeats(50);
    let begun = Instant::now();
    let pods: Vec<(Pod, String)> = std::thread::scope(|scope| {
        let make = |n: usize| {
            let node = &node;
            move || {
                let pod = Pod::run(node, &format!("pod-{n}"));
                let id = pod.start(container_config("one", &["sleep", "1000"]));
                (pod, id)
            }
        };
        let threads: Vec<_> = (0..many).map(|n| scope.spawn(make(n))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a pod")).collect()
    });
    let made = begun.elapsed();
    assert_eq!(node.shims("").len(), many);
    let addresses: std::collections::BTreeSet<_> = pods.iter().map(|(pod, _)| pod.address()).collect();
    assert_eq!(addresses.len(), many, "each has an address of its own");
    let list = node.cri().list_containers(ListContainersRequest::default()).unwrap().containers;
    assert!(list.len() == many && list.iter().all(|c| c.state() == ContainerState::ContainerRunning));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (n, (pod, id)) in pods.iter().enumerate() {
            scope.spawn(move || {
                let code = (n % 100).to_string();
                assert_eq!(pod.exec(id, &["sh", "-c", &format!("exit {code}")]).0.to_string(), code);
                pod.remove();
            });
        }
    });
    println!("{many} pods at once: made in {made:?}, probed and removed in {:?}", begun.elapsed());
    node.wait_until_empty();
}

#[test]
fn a_pod_costs_less_than_600_kb_beyond_its_payload() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    ampoule_only!("the cost is a promise of our shim's and our pause's");
    let node = Node::start();
    let mut pods = Vec::new();
    // Five share enough of their programs to show it.
    for n in 0..repeats(10).max(5) {
        let pod = Pod::run(&node, &format!("pod-{n}"));
        let id = pod.start(container_config("one", &["sleep", "1000"]));
        // As a pod is that has been up for a while.
        for _ in 0..repeats(10) {
            assert_eq!(pod.exec(&id, &["true"]).0, 0);
        }
        pods.push(pod);
        if n == 0 {
            println!("a pod alone: {} kB PSS", cost(&node, &pods[0]));
        }
    }
    let costs: Vec<u64> = pods.iter().map(|pod| cost(&node, pod)).collect();
    println!("a pod among {}: {costs:?} kB PSS", costs.len());
    assert!(costs.iter().all(|cost| *cost <= 600), "{costs:?}");
}
