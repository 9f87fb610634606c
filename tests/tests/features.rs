//! `features`: says what works here, and only that.

use ampoule_tests::{Bundle, Container, Scratch, ampoule_only, require};
use serde_json::{Value, json};

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
    let seen = Container::of(bundle).run().ok().text();
    assert!(seen.lines().filter(|line| line.contains(" /m/")).count() >= options.len() - 1, "{seen}");
}

#[test]
fn every_namespace_that_is_listed_can_be_made() {
    ampoule_only!(WHY);
    let features = features();
    let kinds = list(&features["linux"]["namespaces"]);
    assert!(kinds.len() >= 7, "{kinds:?}");
    let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let bundle = Bundle::asking(&["cwd"]).with(|c| {
        c["linux"]["namespaces"] = kinds.iter().map(|kind| json!({ "type": kind })).collect();
        c["linux"]["uidMappings"] = mapping.clone();
        c["linux"]["gidMappings"] = mapping.clone();
    });
    assert_eq!(Container::of(bundle).run().ok().answer(), "/");
}

#[test]
fn every_hook_and_capability_that_is_listed_is_known() {
    ampoule_only!(WHY);
    let features = features();
    let bundle = Bundle::asking(&["cwd"]).with(|c| {
        c["process"]["capabilities"]["bounding"] = features["linux"]["capabilities"].clone();
        for kind in list(&features["hooks"]) {
            c["hooks"][kind] = json!([]);
        }
    });
    let outcome = Container::of(bundle).run().ok();
    assert!(!outcome.stderr.contains("no such capability"), "{outcome}");
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
