//! `features`: says what works here, and only that. Every word of every list is used.

use ampoule_tests::{
    Bundle, Container, Runtime, Scratch, ampoule_only, field, has_cgroup_v1, has_cgroup_v2_controller,
    is_root, probe, require, systemd,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const WHY: &str = "each runtime has features of its own";

fn features() -> Value {
    let container = Container::of(Bundle::sleeping());
    serde_json::from_str(&container.call(&["features"]).ok().stdout).unwrap()
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

#[test]
fn every_mount_option_that_is_listed_can_be_mounted_with() {
    ampoule_only!(WHY);
    let features = features();
    let options = list(&features["mountOptions"]);
    for wanted in ["ro", "rro", "rbind", "nosymfollow", "rslave", "tmpcopyup", "strictatime"] {
        assert!(options.contains(&wanted), "{wanted}: {options:?}");
    }
    // Not /tmp: a tmpfs can't map ids before Linux 6.3.
    let scratch = Scratch::new();
    let mut bundle = Bundle::asking(&["cat", "/proc/self/mountinfo"]).writable().with_dir("/m");
    for option in &options {
        let target = format!("/m/{option}");
        let mount = match *option {
            "bind" | "rbind" => {
                json!({ "destination": target, "source": scratch.path(), "options": [option] })
            }
            "remount" => json!({ "destination": "/proc", "options": ["remount", "nosuid"] }),
            "idmap" | "ridmap" if features["linux"]["mountExtensions"]["idmap"]["enabled"] == true => {
                let map = json!([{ "containerID": 0, "hostID": 5000, "size": 100 }]);
                json!({ "destination": target, "source": scratch.path(), "options": ["bind", option],
                        "uidMappings": map, "gidMappings": map })
            }
            "idmap" | "ridmap" => continue,
            _ => json!({ "destination": target, "type": "tmpfs", "source": "tmpfs", "options": [option] }),
        };
        bundle = bundle.adding("/mounts", mount);
    }
    let wanted = bundle.config.to_string().matches("\"destination\":\"/m/").count();
    let seen = Container::of(bundle).run().ok().text();
    assert_eq!(seen.lines().filter(|line| line.contains(" /m/")).count(), wanted, "{seen}");
}

#[test]
fn every_namespace_that_is_listed_can_be_made() {
    ampoule_only!(WHY);
    let features = features();
    let kinds = list(&features["linux"]["namespaces"]);
    assert!(kinds.len() >= 7, "{kinds:?}");
    let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let bundle = Bundle::asking(&["ns"]).with(|c| {
        c["linux"]["namespaces"] = kinds.iter().map(|kind| json!({ "type": kind })).collect();
        c["linux"]["uidMappings"] = mapping.clone();
        c["linux"]["gidMappings"] = mapping.clone();
    });
    let inside = Container::of(bundle).run().ok().answer();
    for kind in kinds {
        let name = match kind {
            "mount" => "mnt",
            "network" => "net",
            other => other,
        };
        let own = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let theirs = inside[name].as_str().unwrap_or_else(|| panic!("{kind}: {inside}"));
        assert_ne!(theirs, own.to_str().unwrap(), "{kind}");
    }
}

#[test]
fn every_hook_that_is_listed_runs() {
    ampoule_only!(WHY);
    let features = features();
    let kinds = list(&features["hooks"]);
    assert_eq!(kinds.len(), 6, "{kinds:?}");
    let bundle = Bundle::asking(&["cwd"]).writable();
    let told = bundle.rootfs().join("told");
    let hook = |kind: &str| match kind {
        "startContainer" => json!({ "path": "/bin/probe", "args": ["probe", "hook", kind, "/told"] }),
        _ => json!({ "path": probe(), "args": ["probe", "hook", kind, told] }),
    };
    let container = Container::of(bundle.with(|c| {
        c["hooks"] = kinds.iter().map(|kind| ((*kind).to_owned(), json!([hook(kind)]))).collect();
    }));
    container.run().ok();
    let lines = std::fs::read_to_string(&told).unwrap();
    let ran: BTreeSet<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["hook"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ran, kinds.iter().map(|kind| (*kind).to_owned()).collect());
}

#[test]
fn every_capability_that_is_listed_can_be_had() {
    ampoule_only!(WHY);
    let features = features();
    let all = &features["linux"]["capabilities"];
    // Those that this process itself has not, nobody can have from it.
    let mask = |status: &str, set: &str| u64::from_str_radix(&field(status, set), 16).unwrap();
    let own = mask(&std::fs::read_to_string("/proc/self/status").unwrap(), "CapBnd");
    let bundle = Bundle::asking(&["cat", "/proc/self/status"]).with(|c| {
        c["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    });
    let outcome = Container::of(bundle).run().ok();
    assert!(!outcome.stderr.contains("no such capability"), "{outcome}");
    let listed = (1 << list(all).len()) - 1;
    for set in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(mask(&outcome.text(), set), listed & own, "{set}");
    }
}

#[test]
fn documents_of_the_versions_that_are_listed_are_taken() {
    ampoule_only!(WHY);
    let features = features();
    for version in ["ociVersionMin", "ociVersionMax"] {
        let bundle = Bundle::asking(&["cwd"]).with(|c| c["ociVersion"] = features[version].clone());
        assert_eq!(Container::of(bundle).run().ok().answer(), "/", "{version}");
    }
    let container = Container::of(Bundle::sleeping());
    container.create().ok();
    assert_eq!(container.state()["ociVersion"], features["ociVersionMax"]);
    assert_eq!(features["annotations"]["io.ampoule.version"], Runtime::get().version());
}

#[test]
fn cgroups_are_as_they_are_listed() {
    ampoule_only!(WHY);
    let listed = features()["linux"]["cgroup"].clone();
    let container = Container::of(Bundle::sleeping());
    container.create().ok();
    let of = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let (v2, v1): (Vec<_>, Vec<_>) =
        of.lines().filter(|l| l.contains(&container.id)).partition(|l| l.starts_with("0::"));
    assert_eq!((&listed["v1"], &listed["v2"]), (&json!(!v1.is_empty()), &json!(!v2.is_empty())), "{of}");
    // The host's, whomever it is delegated to.
    let top = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let on_v2 = has_cgroup_v2_controller("rdma") || top.contains("rdma");
    assert_eq!(listed["rdma"], json!(has_cgroup_v1("rdma") || on_v2));
    assert_eq!(listed["systemdUser"], listed["systemd"]);
    assert_eq!(listed["systemd"], systemd::runs_on_v2(), "systemd");
    if Runtime::get().flags().is_empty() {
        let container = Container::of(Bundle::asking(&["cwd"]));
        let outcome = container.call(&systemd::args_for(&container, "run"));
        assert_eq!(outcome.code == 0, listed["systemd"] == true, "{outcome}");
    }
}

#[test]
fn what_is_off_is_refused_and_what_is_on_is_not() {
    ampoule_only!(WHY);
    let features = features();
    for (feature, pointer, value) in [
        ("apparmor", "apparmorProfile", json!("profile")),
        ("selinux", "selinuxLabel", json!("a_u:b_r:c_t:s0")),
    ] {
        if features["linux"][feature]["enabled"] == false {
            let bundle = Bundle::asking(&["cwd"]).with(|c| c["process"][pointer] = value);
            Container::of(bundle).run().fails().saying(pointer);
        }
    }
    let lsm =
        |name: &str| std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default().contains(name);
    assert!(!lsm("apparmor") || features["linux"]["apparmor"]["enabled"] == true, "AppArmor is on");
    let idmap = &features["linux"]["mountExtensions"]["idmap"]["enabled"];
    assert_eq!(idmap, &json!(is_root()), "every kernel since Linux 5.12 maps the ids of mounts, for root");
    assert_eq!(features["linux"]["netDevices"]["enabled"], is_root());
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
}

#[test]
fn without_a_resctrl_filesystem_intel_rdt_is_refused() {
    ampoule_only!(WHY);
    let off = features()["linux"]["intelRdt"]["enabled"] == false;
    require!(off, "a host without resctrl", named "with one, what is planned is carried out");
    let refused = |rdt: Value, said: &str| {
        let container = Container::of(Bundle::asking(&["cwd"]).with(|c| c["linux"]["intelRdt"] = rdt));
        container.run().fails().saying(said);
        assert_eq!(container.leftovers(), [""; 0]);
    };
    refused(json!({ "closID": "guaranteed" }), "linux.intelRdt: there is no resctrl filesystem");
    refused(json!({ "closID": "../up" }), "linux.intelRdt.closID: \"../up\"");
}
