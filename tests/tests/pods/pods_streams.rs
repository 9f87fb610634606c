//! What `kubectl exec`, `attach` and `port-forward` come down to, and how a pod's ports are reached without.

use ampoule_tests::cri::messages::*;
use ampoule_tests::cri::{Channel, Pod, Stream, container_config, pod_config};
use ampoule_tests::engines::{NO_ENGINE, Node, can_be_node, can_map_ports};
use ampoule_tests::{patience, require, wait_for};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};

const IN: u8 = Channel::Stdin as u8;
const OUT: u8 = Channel::Stdout as u8;
const ERR: u8 = Channel::Stderr as u8;

const SERVES: [&str; 6] = ["httpd", "-f", "-p", "80", "-h", "/etc"];
const PAGE: &str = "root:x:0:\nguest:x:1000:\n";

fn exec(node: &Node, id: &str, tty: bool, command: &[&str]) -> Stream {
    let request = ExecRequest {
        container_id: id.to_owned(),
        cmd: command.iter().map(|word| (*word).to_owned()).collect(),
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
    };
    Stream::open(node, &node.cri().exec(request).unwrap().url)
}

#[test]
fn an_exec_has_its_streams_its_terminal_and_its_code() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let pod = Pod::run(&node, "web");
    let id = pod.start(container_config("one", &["sleep", "1000"]));
    let mut plain = exec(&node, &id, false, &["sh", "-c", "read line; echo got $line; echo err >&2; exit 5"]);
    plain.send(IN, b"words\n");
    assert_eq!(plain.finish(), 5);
    assert_eq!((&*plain.received(OUT), &*plain.received(ERR)), ("got words\n", "err\n"));

    let script =
        "until [ \"$(stty size)\" = '31 101' ]; do sleep 0.1; done; echo sized; read line; echo got $line";
    let mut terminal = exec(&node, &id, true, &["sh", "-c", script]);
    terminal.resize(31, 101);
    terminal.expect(OUT, "sized");
    terminal.send(IN, b"keys\n");
    assert_eq!(terminal.finish(), 0);
    assert!(terminal.received(OUT).contains("got keys"), "{}", terminal.received(OUT));
    pod.remove();
    node.wait_until_empty();
}

#[test]
fn who_attaches_hears_a_container_and_is_heard_again_and_again() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let pod = Pod::run(&node, "web");
    let script = "while read line; do echo heard $line; [ $line != end ] || exit 4; done";
    let mut config = container_config("one", &["sh", "-c", script]);
    config.stdin = true;
    let id = pod.start(config);
    let attach = || {
        let request = AttachRequest {
            container_id: id.clone(),
            stdin: true,
            stdout: true,
            stderr: true,
            ..Default::default()
        };
        Stream::open(&node, &node.cri().attach(request).unwrap().url)
    };
    let mut said = Vec::new();
    for word in ["one", "two"] {
        let mut stream = attach();
        wait_for("an answer", || {
            // containerd takes what comes in before it gives what goes out: the first answer may be in the log alone.
            stream.send(IN, format!("{word}\n").as_bytes());
            said.push(format!("heard {word}"));
            stream.brings(OUT, &format!("heard {word}\n"), patience() / 4)
        });
    }
    attach().send(IN, b"end\n");
    said.push("heard end".to_owned());
    assert_eq!(pod.wait(&id), 4);
    let log = || ampoule_tests::cri::lines(&pod.log("one"));
    wait_for("all of the log", || log().len() == said.len());
    assert_eq!(log().into_iter().map(|line| line.content).collect::<Vec<_>>(), said);
}

fn get(mut connection: TcpStream) -> std::io::Result<String> {
    connection.write_all(b"GET /group HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_port_is_forwarded_by_containerd_and_reached_in_the_pods_network() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    let node = Node::start();
    let pod = Pod::run(&node, "web");
    let id = pod.start(container_config("one", &SERVES));
    let reached = |address: IpAddr| node.connect(address, 80).and_then(get).is_ok_and(|a| a.ends_with(PAGE));
    wait_for("the pod's address", || reached(pod.address()));
    // From another pod, over the bridge.
    let other = Pod::run(&node, "other");
    let url = format!("http://{}/group", pod.address());
    let asks = other.start(container_config("asks", &["sleep", "1000"]));
    assert_eq!(other.exec(&asks, &["wget", "-q", "-O", "-", &url]).1, PAGE);
    // The containers of a pod have one loopback device.
    assert_eq!(pod.exec(&id, &["wget", "-q", "-O", "-", "http://127.0.0.1/group"]).1, PAGE);

    let request = PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: vec![80] };
    let mut forward = Stream::open(&node, &node.cri().port_forward(request).unwrap().url);
    // Two channels for each port, data and errors; the first message on each is the port.
    forward.expect(0, "P\0");
    forward.send(0, b"GET /group HTTP/1.0\r\n\r\n");
    forward.expect(0, PAGE);
    assert_eq!(forward.received(1), "P\0", "no error");
}

#[test]
fn a_port_of_the_nodes_leads_into_a_pod() {
    require!(can_be_node(), "containerd and network plugins", named NO_ENGINE);
    require!(can_map_ports(), "iptables", named "the network plugin for ports rewrites packets with it");
    let node = Node::start();
    let mut config = pod_config(&node, "web");
    config.port_mappings = vec![PortMapping { container_port: 80, host_port: 8080, ..Default::default() }];
    let pod = Pod::of(&node, config);
    pod.start(container_config("one", &SERVES));
    // The bridge's own address.
    let reached =
        || node.connect([10, 213, 0, 1].into(), 8080).and_then(get).is_ok_and(|a| a.ends_with(PAGE));
    wait_for("the node's port", reached);
    pod.remove();
    assert!(!reached(), "the port is still there");
    node.wait_until_empty();
}
