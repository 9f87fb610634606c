//! The eight namespaces: new, joined by path, or the runtime's own.

use ampoule_tests::{Bundle, Container, FOREIGN_NAMESPACES, ampoule_only, is_root, require};
use serde_json::{Value, json};
use std::fs;
use std::process::{Child, Command, Stdio};

/// Kind in config.json, name under /proc/PID/ns.
const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn own(name: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{name}")).expect("read own namespace").to_string_lossy().into_owned()
}

fn of(bundle: Bundle) -> Value {
    Container::of(bundle).run().ok().answer()
}

fn asking() -> Bundle {
    Bundle::asking(&["ns"])
}

/// A process in a new namespace of one kind, to be joined; ended on drop.
struct Holder(Child);

impl Holder {
    fn with_new(flag: &str) -> Self {
        let script = "echo ready; exec sleep 1000";
        let mut child = Command::new("unshare")
            .args([flag, "--", "sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start unshare");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)
            .expect("hear from unshare");
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/{}/ns/{name}", self.0.id())
    }

    fn id(&self, name: &str) -> String {
        fs::read_link(self.path(name)).expect("read the namespace").to_string_lossy().into_owned()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn joining(bundle: Bundle, kind: &str, path: &str) -> Bundle {
    bundle.without_namespace(kind).adding("/linux/namespaces", json!({ "type": kind, "path": path }))
}

#[test]
fn the_default_spec_makes_five_namespaces_and_keeps_the_others() {
    let inside = of(asking());
    for name in ["pid", "net", "mnt", "ipc", "uts"] {
        assert_ne!(inside[name], own(name), "{name}");
    }
    // An ordinary user's has a user namespace besides.
    assert_eq!(inside["user"] == own("user"), is_root());
    for name in ["cgroup", "time"] {
        assert_eq!(inside[name], own(name), "{name}");
    }
}

#[test]
fn a_namespace_that_is_not_listed_is_the_runtimes() {
    for (kind, name) in KINDS {
        // An ordinary user's proc, sysfs and mqueue need their namespaces.
        if matches!(kind, "user" | "cgroup" | "time" | "mount") || (kind != "uts" && !is_root()) {
            continue;
        }
        // Without its own UTS namespace a container must not rename the host.
        let bundle =
            asking().without_namespace(kind).with(|c| drop(c.as_object_mut().unwrap().remove("hostname")));
        // A sysfs needs a network namespace of the container's, an mqueue its IPC namespace.
        assert_eq!(of(bundle)[name], own(name), "{kind}");
    }
}

#[test]
fn a_new_cgroup_namespace_shows_the_containers_cgroup_as_the_root() {
    let bundle = Bundle::asking(&["ns", ",", "cat", "/proc/self/cgroup"]).with_namespace("cgroup");
    let answers = Container::of(bundle).run().ok().answers();
    assert_ne!(answers[0]["cgroup"], own("cgroup"));
    let text = answers[1].as_str().unwrap();
    for controller in ["memory", "pids", "devices"] {
        let line = text.lines().find(|l| l.contains(&format!(":{controller}:")));
        assert!(line.is_none_or(|l| l.ends_with(":/")), "not the root: {text}");
    }
}

#[test]
fn a_new_pid_namespace_makes_the_program_pid_1() {
    let bundle = Bundle::asking(&["readlink", "/proc/self"]);
    assert_eq!(Container::of(bundle).run().ok().answer(), "1");
}

#[test]
fn a_new_network_namespace_has_only_a_loopback_that_is_up() {
    let bundle = Bundle::asking(&[
        "ls",
        "/sys/class/net",
        ",",
        "cat",
        "/proc/net/if_inet6",
        ",",
        "cat",
        "/proc/net/fib_trie",
    ]);
    let answers = Container::of(bundle).run().ok().answers();
    assert!(answers[0].as_array().unwrap().contains(&json!("lo")), "{answers:?}");
    // Routes of 127.0.0.1 exist only while lo is up.
    assert!(answers[2].as_str().unwrap().contains("127.0.0.1"), "{answers:?}");
}

#[test]
fn a_namespace_is_joined_by_path() {
    require!(is_root(), "root", named FOREIGN_NAMESPACES);
    let kinds = [
        ("network", "net", "--net"),
        ("ipc", "ipc", "--ipc"),
        ("uts", "uts", "--uts"),
        ("cgroup", "cgroup", "--cgroup"),
    ];
    for (kind, name, flag) in kinds {
        let holder = Holder::with_new(flag);
        let bundle = joining(asking(), kind, &holder.path(name));
        let bundle = bundle.with(|c| drop(c.as_object_mut().unwrap().remove("hostname")));
        assert_eq!(of(bundle)[name], holder.id(name), "{kind}");
    }
}

#[test]
fn a_pid_namespace_is_joined_by_path() {
    require!(is_root(), "root", named FOREIGN_NAMESPACES);
    let other = Container::of(Bundle::sleeping());
    other.launch();
    let pid = other.pid();
    let bundle = joining(asking(), "pid", &format!("/proc/{pid}/ns/pid"));
    let wanted = fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    assert_eq!(of(bundle)["pid"], json!(wanted));
}

#[test]
fn a_mount_namespace_is_joined_by_path() {
    require!(is_root(), "root", named FOREIGN_NAMESPACES);
    let holder = Holder::with_new("--mount");
    let bundle = joining(asking(), "mount", &holder.path("mnt"));
    assert_eq!(of(bundle)["mnt"], holder.id("mnt"));
}

#[test]
fn a_user_namespace_is_joined_by_path() {
    require!(is_root(), "root", named FOREIGN_NAMESPACES);
    let holder = Holder::with_new("--user");
    let map = |file: &str| fs::write(format!("/proc/{}/{file}", holder.0.id()), "0 100000 65536").unwrap();
    map("uid_map");
    map("gid_map");
    let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let bundle =
        joining(Bundle::asking(&["ns", ",", "cat", "/proc/self/uid_map"]), "user", &holder.path("user"))
            .with(|c| {
                // runc 1.1 wants the mappings repeated; the spec allows it.
                c["linux"]["uidMappings"] = mapping.clone();
                c["linux"]["gidMappings"] = mapping.clone();
            });
    let answers = Container::of(bundle).run().ok().answers();
    assert_eq!(answers[0]["user"], holder.id("user"));
    assert_eq!(answers[1].as_str().unwrap().split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
}

#[test]
fn a_time_namespace_is_joined_by_path() {
    require!(is_root(), "root", named FOREIGN_NAMESPACES);
    ampoule_only!("runc 1.1 knows no time namespaces");
    let holder = Holder::with_new("--time");
    // unshare(CLONE_NEWTIME) puts only its children there, so look where they are.
    let path = holder.path("time_for_children");
    let wanted = fs::read_link(&path).unwrap();
    assert_eq!(of(joining(asking(), "time", &path))["time"], json!(wanted));
}

#[test]
fn time_offsets_shift_the_clocks() {
    ampoule_only!("runc 1.1 knows no time namespaces");
    let bundle = Bundle::asking(&["ns", ",", "time"]).with_namespace("time").with(|c| {
        c["linux"]["timeOffsets"] =
            json!({ "monotonic": { "secs": 1_000_000, "nanosecs": 0 }, "boottime": { "secs": 2_000_000 } });
    });
    let clock = |id| nix::time::clock_gettime(id).unwrap().tv_sec();
    let (monotonic, boottime) = (nix::time::ClockId::CLOCK_MONOTONIC, nix::time::ClockId::CLOCK_BOOTTIME);
    let before = (clock(monotonic), clock(boottime));
    let answers = Container::of(bundle).run().ok().answers();
    assert_ne!(answers[0]["time"], own("time"));
    let shifted = |name: &str, from: i64| answers[1][name].as_i64().unwrap() - from;
    assert!((1_000_000..1_000_060).contains(&shifted("monotonic", before.0)), "{answers:?}");
    assert!((2_000_000..2_000_060).contains(&shifted("boottime", before.1)), "{answers:?}");
}

#[test]
fn a_path_that_is_no_namespace_is_refused() {
    let bundle = asking();
    let file = bundle.beside("file");
    fs::write(&file, "").unwrap();
    let bundle = joining(bundle, "network", file.to_str().unwrap());
    Container::of(bundle).run().fails();
}

#[test]
fn a_namespace_of_another_kind_is_refused() {
    let bundle = joining(asking(), "network", "/proc/self/ns/uts");
    Container::of(bundle).run().fails();
}

#[test]
fn a_namespace_that_does_not_exist_is_refused() {
    let container = Container::of(joining(asking(), "network", "/nowhere/net"));
    container.run().fails().saying("/nowhere/net");
    assert_eq!(container.leftovers(), [""; 0]);
}
