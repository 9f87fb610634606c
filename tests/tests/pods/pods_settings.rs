//! What a pod's spec asks for, in the words in which the kubelet passes it on.

use ampoule_tests::cri::messages::*;
use ampoule_tests::cri::{Pod, container_config, pod_config};
use ampoule_tests::engines::{NO_ENGINE, Node, can_be_node};
use ampoule_tests::{field, require, wait_for};
use std::fs;

const WAITS: [&str; 2] = ["sleep", "1000"];

fn pids(mode: NamespaceMode) -> Option<NamespaceOption> {
    Some(NamespaceOption { pid: mode.into(), ..Default::default() })
}

fn of_sandbox(config: &mut PodSandboxConfig) -> &mut LinuxSandboxSecurityContext {
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap()
}

fn of_container(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap()
}

#[test]
fn in_a_shared_process_namespace_pause_is_pid_1_and_reaps() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let mut config = pod_config(&node, "web");
    of_sandbox(&mut config).namespace_options = pids(NamespaceMode::Pod);
    let pod = Pod::of(&node, config);
    let start = |name: &str| {
        let mut config = container_config(name, &WAITS);
        of_container(&mut config).namespace_options = pids(NamespaceMode::Pod);
        pod.start(config)
    };
    let (one, two) = (start("one"), start("two"));
    assert_eq!(pod.exec(&one, &["cat", "/proc/1/comm"]).1, "pause\n");
    let processes = pod.exec(&one, &["ps", "-o", "args"]).1;
    assert_eq!(processes.lines().filter(|line| *line == "sleep 1000").count(), 2, "{processes}");
    // Orphans are pause's, and gone when they end.
    let script = "(sleep 0.3 & echo $! >/tmp/pid); cat /proc/$(cat /tmp/pid)/status; cat /tmp/pid";
    let told = pod.exec(&one, &["sh", "-c", script]).1;
    assert_eq!(field(&told, "PPid"), "1", "{told}");
    let orphan = format!("/proc/{}", told.lines().last().unwrap());
    wait_for("the orphan to be reaped", || pod.exec(&one, &["ls", "-d", &orphan]).0 != 0);
    // One container's end takes nothing of the other's along.
    pod.stop_container(&one, 0);
    assert_eq!(pod.container(&one).exit_code, 137);
    assert_eq!(pod.container(&two).state(), ContainerState::ContainerRunning);
    pod.remove();
    node.wait_until_empty();
}

#[test]
fn a_container_to_debug_another_sees_its_processes() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let pod = Pod::run(&node, "web");
    let target = pod.start(container_config("one", &WAITS));
    let mut config = container_config("debug", &["sleep", "2000"]);
    let mut options = pids(NamespaceMode::Target).unwrap();
    options.target_id = target.clone();
    of_container(&mut config).namespace_options = Some(options);
    let debug = pod.start(config);
    let processes = pod.exec(&debug, &["ps", "-o", "pid,args"]).1;
    let has = |text: &str| processes.lines().any(|line| line.trim() == text);
    assert!(has("1 sleep 1000") && processes.contains("sleep 2000"), "{processes}");
    // Its own end is that of the debugger's, too.
    pod.stop_container(&target, 0);
    assert_eq!((pod.wait(&target), pod.wait(&debug)), (137, 137));
    pod.remove();
    node.wait_until_empty();
}

#[test]
fn a_pod_may_have_the_nodes_own_network_and_processes() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    // One with a network of its own, so that the node has the bridge.
    let other = Pod::run(&node, "other");
    other.start(container_config("serves", &["httpd", "-f", "-p", "80", "-h", "/etc"]));
    let nodes = Some(NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Node.into(),
        ipc: NamespaceMode::Node.into(),
        ..Default::default()
    });
    let mut config = pod_config(&node, "agent");
    // The kubelet names no host name then.
    config.hostname.clear();
    of_sandbox(&mut config).namespace_options = nodes.clone();
    let pod = Pod::of(&node, config);
    let mut config = container_config("one", &WAITS);
    of_container(&mut config).namespace_options = nodes;
    let id = pod.start(config);
    let (_, devices, _) = pod.exec(&id, &["ls", "/sys/class/net"]);
    assert!(devices.lines().any(|name| name == "cni0"), "{devices}");
    let (_, own, _) = pod.exec(&id, &["cat", "/proc/1/comm"]);
    assert_eq!(own, fs::read_to_string("/proc/1/comm").unwrap());
    let (_, name, _) = pod.exec(&id, &["cat", "/proc/sys/kernel/hostname"]);
    assert_eq!(name, fs::read_to_string("/proc/sys/kernel/hostname").unwrap());
    let page = format!("http://{}/group", other.address());
    wait_for("the other pod", || pod.exec(&id, &["wget", "-q", "-O", "-", &page]).0 == 0);
    assert_eq!(pod.status().network.unwrap().ip, "", "it has no address of its own");
    pod.remove();
    other.remove();
    node.wait_until_empty();
}

#[test]
fn sysctls_host_name_resolver_and_volumes_are_the_pods() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let mut config = pod_config(&node, "web");
    config.hostname = "web-0".to_owned();
    config.dns_config = Some(DnsConfig {
        servers: vec!["10.213.0.10".to_owned()],
        searches: vec!["default.svc.cluster.local".to_owned()],
        options: vec!["ndots:5".to_owned()],
    });
    let sysctls = [("net.ipv4.ip_unprivileged_port_start", "80"), ("kernel.shm_rmid_forced", "1")];
    config.linux.as_mut().unwrap().sysctls =
        sysctls.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let pod = Pod::of(&node, config);
    let volume = node.sandbox().file("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "from the node\n").unwrap();
    let start = |name: &str, readonly| {
        let mut config = container_config(name, &WAITS);
        config.mounts = vec![Mount {
            container_path: "/volume".to_owned(),
            host_path: volume.to_str().unwrap().to_owned(),
            readonly,
            ..Default::default()
        }];
        config.envs = vec![KeyValue { key: "KEY".to_owned(), value: "of the pod".to_owned() }];
        config.working_dir = "/tmp/new".to_owned();
        pod.start(config)
    };
    let (reads, writes) = (start("reads", true), start("writes", false));
    for id in [&reads, &writes] {
        for (name, value) in sysctls {
            let file = format!("/proc/sys/{}", name.replace('.', "/"));
            assert_eq!(pod.exec(id, &["cat", &file]).1, format!("{value}\n"));
        }
        let (_, told, _) =
            pod.exec(id, &["sh", "-c", "cat /proc/sys/kernel/hostname /volume/file; echo $KEY; pwd"]);
        assert_eq!(told, "web-0\nfrom the node\nof the pod\n/tmp/new\n");
        let resolver = pod.exec(id, &["cat", "/etc/resolv.conf"]).1;
        assert_eq!(resolver, "search default.svc.cluster.local\nnameserver 10.213.0.10\noptions ndots:5\n");
    }
    assert_ne!(pod.exec(&reads, &["touch", "/volume/new"]).0, 0);
    assert_eq!(pod.exec(&writes, &["touch", "/volume/new"]).0, 0);
    assert!(volume.join("new").exists());
    // Shared memory is the pod's.
    assert_eq!(pod.exec(&writes, &["touch", "/dev/shm/ours"]).0, 0);
    assert_eq!(pod.exec(&reads, &["ls", "/dev/shm/ours"]).0, 0);
}

#[test]
fn a_security_context_narrows_what_a_container_may_do() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let pod = Pod::run(&node, "web");
    let mut config = container_config("one", &WAITS);
    let context = of_container(&mut config);
    context.run_as_user = Some(Int64Value { value: 1000 });
    context.run_as_group = Some(Int64Value { value: 1001 });
    context.supplemental_groups = vec![2000];
    context.readonly_rootfs = true;
    context.no_new_privs = true;
    context.capabilities = Some(Capability {
        add_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
        drop_capabilities: vec!["ALL".to_owned()],
        ..Default::default()
    });
    context.masked_paths = vec!["/proc/keys".to_owned()];
    context.readonly_paths = vec!["/proc/sys".to_owned()];
    let id = pod.start(config);
    let status = pod.exec(&id, &["cat", "/proc/self/status"]).1;
    assert_eq!(field(&status, "Uid"), "1000 1000 1000 1000");
    assert_eq!(field(&status, "Gid"), "1001 1001 1001 1001");
    assert!(field(&status, "Groups").split(' ').any(|group| group == "2000"), "{status}");
    assert_eq!(field(&status, "CapBnd"), "0000000000000400");
    assert_eq!((field(&status, "NoNewPrivs"), field(&status, "Seccomp")), ("1".into(), "2".into()));
    let (code, _, words) = pod.exec(&id, &["touch", "/file"]);
    assert!(code != 0 && words.contains("Read-only file system"), "{words}");
    assert_eq!(pod.exec(&id, &["sh", "-c", "busybox wc -c </proc/keys"]).1, "0\n");
    assert!(pod.exec(&id, &["sh", "-c", "echo x >/proc/sys/kernel/hostname"]).0 != 0);
    // The default profile has no `unshare` for who lacks CAP_SYS_ADMIN.
    assert_ne!(pod.exec(&id, &["busybox", "unshare", "-U", "true"]).0, 0);
}

#[test]
fn without_a_profile_there_is_no_filter_and_a_privileged_container_has_the_nodes_rights() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let unconfined = || {
        Some(SecurityProfile {
            profile_type: security_profile::ProfileType::Unconfined.into(),
            ..Default::default()
        })
    };
    let mut config = pod_config(&node, "web");
    of_sandbox(&mut config).privileged = true;
    of_sandbox(&mut config).seccomp = unconfined();
    let pod = Pod::of(&node, config);
    let mut config = container_config("plain", &WAITS);
    of_container(&mut config).seccomp = unconfined();
    let plain = pod.start(config.clone());
    let status = |id: &str| pod.exec(id, &["cat", "/proc/self/status"]).1;
    assert_eq!(field(&status(&plain), "Seccomp"), "0");
    config.metadata = Some(ContainerMetadata { name: "agent".to_owned(), attempt: 0 });
    of_container(&mut config).privileged = true;
    let agent = pod.start(config);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(field(&status(&agent), "CapEff"), field(&own, "CapEff"));
    assert_eq!(pod.exec(&agent, &["sh", "-c", "mount -t tmpfs none /tmp && umount /tmp"]).0, 0);
    assert_ne!(pod.exec(&plain, &["sh", "-c", "mount -t tmpfs none /tmp"]).0, 0);
    pod.remove();
    node.wait_until_empty();
}
