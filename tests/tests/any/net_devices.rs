//! Network devices of the host's that move into the container. Here "the host" is a network namespace of each test's.

use ampoule_tests::{Bundle, Container, Outcome, ampoule_only, is_root, require};
use serde_json::{Value, json};
use std::process::{Child, Command};

const WHY: &str = "Debian's runc and crun are older than the property";
const ROOT: &str = "moving the host's devices takes root's rights over its network";

/// Runs the container on a host that has the device t0, as `setup` makes it, and then asks that host `after`.
fn run(container: &Container, setup: &str, after: &str) -> Outcome {
    let call = container.command(&container.args_for("run", &[]));
    let script = format!("ip link set lo up && {setup} && \"$0\" \"$@\"; code=$?; {after}; exit $code");
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &script]).arg(call.get_program()).args(call.get_args());
    command.stdin(std::process::Stdio::null());
    container.spawn(command, "run").finish()
}

/// A device that every kernel here can make; its peer makes it running.
const DEVICE: &str = "ip link add t0 type veth peer name t1 && ip link set t1 up && ip link set t0 mtu 1400";

fn can_make() -> bool {
    let made = Command::new("unshare").args(["--net", "sh", "-c", DEVICE]).output();
    made.is_ok_and(|output| output.status.success())
}

fn asking(questions: &[&str], devices: Value) -> Container {
    Container::of(Bundle::asking(questions).with(|c| c["linux"]["netDevices"] = devices))
}

#[test]
fn a_device_is_there_up_under_its_new_name_and_with_all_it_had() {
    ampoule_only!(WHY);
    require!(is_root(), "root", named ROOT);
    require!(can_make(), "veth devices");
    let setup = format!(
        "{DEVICE} && ip link set t0 address 02:00:00:00:00:07 up && ip address add 10.9.8.7/24 dev t0 \
         && ip address add 10.9.8.8/24 dev t0 valid_lft 1000 preferred_lft 1000"
    );
    let cat = |file: &str| format!("/sys/class/net/eth7/{file}");
    let (flags, mtu, mac) = (cat("flags"), cat("mtu"), cat("address"));
    let questions = [
        "cat",
        &flags,
        ",",
        "cat",
        &mtu,
        ",",
        "cat",
        &mac,
        ",",
        "cat",
        "/proc/net/fib_trie",
        ",",
        "ls",
        "/sys/class/net",
    ];
    let container = asking(&questions, json!({ "t0": { "name": "eth7" } }));
    let answers = run(&container, &setup, "true").ok().answers();
    let flags =
        u32::from_str_radix(answers[0].as_str().unwrap().trim().trim_start_matches("0x"), 16).unwrap();
    assert_eq!(flags & 1, 1, "IFF_UP");
    assert_eq!((&answers[1], &answers[2]), (&json!("1400\n"), &json!("02:00:00:00:00:07\n")));
    let routes = answers[3].as_str().unwrap();
    assert!(routes.contains("10.9.8.7"), "{routes}");
    assert!(!routes.contains("10.9.8.8"), "an address that ends is its client's to renew: {routes}");
    assert_eq!(answers[4], json!(["eth7", "lo"]));
}

#[test]
fn an_ipv6_address_is_kept() {
    ampoule_only!(WHY);
    let has_ipv6 = std::path::Path::new("/proc/net/if_inet6").exists();
    require!(is_root(), "root", named ROOT);
    require!(can_make() && has_ipv6, "veth devices and IPv6", named "a kernel may do without IPv6");
    let setup = format!("{DEVICE} && ip link set t0 up && ip address add fd00::7/64 dev t0 nodad");
    let container = asking(&["cat", "/proc/net/if_inet6"], json!({ "t0": {} }));
    let text = run(&container, &setup, "true").ok().text();
    assert!(
        text.lines().any(|l| l.starts_with("fd000000000000000000000000000007") && l.ends_with("t0")),
        "{text}"
    );
}

#[test]
fn a_pattern_takes_the_first_free_number() {
    ampoule_only!(WHY);
    require!(is_root(), "root", named ROOT);
    require!(can_make(), "veth devices");
    let setup = format!("{DEVICE} && ip link add u0 type veth peer name u1");
    let container =
        asking(&["ls", "/sys/class/net"], json!({ "t0": { "name": "eth%d" }, "u0": { "name": "eth%d" } }));
    assert_eq!(run(&container, &setup, "true").ok().answer(), json!(["eth0", "eth1", "lo"]));
}

#[test]
fn a_sysctl_may_name_it() {
    ampoule_only!(WHY);
    require!(is_root(), "root", named ROOT);
    require!(can_make(), "veth devices");
    let key = "net.ipv4.conf.eth7.forwarding";
    let file = format!("/proc/sys/{}", key.replace('.', "/"));
    let container = asking(&["cat", &file], json!({ "t0": { "name": "eth7" } }));
    let mut container = container;
    container.bundle.config["linux"]["sysctl"] = json!({ key: "1" });
    assert_eq!(run(&container, DEVICE, "true").ok().text(), "1\n");
}

#[test]
fn it_works_with_a_user_namespace() {
    ampoule_only!(WHY);
    require!(is_root(), "root", named ROOT);
    require!(can_make(), "veth devices");
    let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let mut container = asking(&["ls", "/sys/class/net"], json!({ "t0": {} }));
    container.bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    container.bundle.config["linux"]["uidMappings"] = mapping.clone();
    container.bundle.config["linux"]["gidMappings"] = mapping;
    assert_eq!(run(&container, DEVICE, "true").ok().answer(), json!(["lo", "t0"]));
}

/// A process in a network namespace of its own; it ends on drop.
struct Keeper(Child);

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_joined_namespace_gets_it_too_and_keeps_it() {
    ampoule_only!(WHY);
    require!(is_root(), "root", named ROOT);
    require!(can_make(), "veth devices");
    let keeper = Keeper(Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap());
    let path = format!("/proc/{}/ns/net", keeper.0.id());
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    ampoule_tests::wait_for("its namespace", || std::fs::read_link(&path).is_ok_and(|link| link != own));
    let mut container = asking(&["ls", "/sys/class/net"], json!({ "t0": { "name": "eth7" } }));
    for namespace in container.bundle.config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "network" {
            namespace["path"] = json!(path);
        }
    }
    // Asked before the test's host ends, and with it the device's peer.
    let after = format!("nsenter --target {} --net ip -o link", keeper.0.id());
    let outcome = run(&container, DEVICE, &after).ok();
    assert!(outcome.stdout.starts_with("[\"eth7\",\"lo\"]\n"), "{outcome}");
    assert!(outcome.stdout.contains(": eth7@"), "{outcome}");
}

#[test]
fn what_cannot_move_is_refused_and_stays() {
    ampoule_only!(WHY);
    require!(is_root(), "root", named ROOT);
    require!(can_make(), "veth devices");
    let cases = [
        (json!({ "nowhere": {} }), "no such device"),
        (json!({ "t0": { "name": "lo" } }), "taken"),
        (json!({ "lo": { "name": "eth7" } }), "can't leave"),
        (json!({ "t0": { "name": "a/b" } }), "linux.netDevices.t0.name: \"a/b\""),
        (json!({ "t0": { "name": "far-too-long-a-name" } }), "linux.netDevices.t0.name"),
        (json!({ "t0": { "name": "a%s" } }), "linux.netDevices.t0.name"),
        (json!({ "t 0": {} }), "linux.netDevices.t 0"),
        (json!({ "t0": { "name": "x" }, "t1": { "name": "x" } }), "there twice"),
    ];
    for (devices, said) in cases {
        let container = asking(&["cwd"], devices);
        let outcome = run(&container, DEVICE, "ip -o link");
        assert!(outcome.stdout.contains(": t0@"), "{said}: {outcome}");
        outcome.fails().saying("linux.netDevices").saying(said);
        assert_eq!(container.leftovers(), [""; 0]);
    }
    let container = Container::of(
        Bundle::asking(&["cwd"])
            .without_namespace("network")
            .with(|c| c["linux"]["netDevices"] = json!({ "t0": {} })),
    );
    run(&container, DEVICE, "true").fails().saying("linux.netDevices: needs a network namespace");
}
