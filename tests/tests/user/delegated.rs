//! What an ordinary user has who has been given something: ids by /etc/subuid, a cgroup by their own systemd.

use ampoule_tests::{Bundle, Container, ampoule_only, field, require};
use serde_json::json;
use std::fs;

const WHY: &str = "runc 1.1 wants other words in config.json for it";

/// Whether this process is an ordinary user's with ids and a systemd of their own.
fn is_given_something() -> bool {
    let ids = fs::read_to_string("/etc/subuid").unwrap_or_default();
    !nix::unistd::geteuid().is_root() && !ids.is_empty() && std::env::var_os("XDG_RUNTIME_DIR").is_some()
}

macro_rules! given_something {
    () => {
        ampoule_only!(WHY);
        require!(is_given_something(), "an ordinary user", named "the test machine has a place for one");
    };
}

#[test]
fn many_ids_are_mapped_with_newuidmap_and_newgidmap() {
    given_something!();
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let first = |file: &str| -> u32 {
        let text = fs::read_to_string(file).unwrap();
        text.split(':').nth(1).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{file}: {text}"))
    };
    let map = |own: u32, others: u32| json!([{ "containerID": 0, "hostID": own, "size": 1 }, { "containerID": 1, "hostID": others, "size": 1000 }]);
    let bundle = Bundle::asking(&["cat", "/proc/self/uid_map", ",", "cat", "/proc/self/status"]).with(|c| {
        c["linux"]["uidMappings"] = map(uid, first("/etc/subuid"));
        c["linux"]["gidMappings"] = map(gid, first("/etc/subgid"));
        c["process"]["user"] = json!({ "uid": 5, "gid": 6, "additionalGids": [7, 999] });
    });
    let answers = Container::of(bundle).run().ok().answers();
    let map: Vec<_> =
        answers[0].as_str().unwrap().lines().map(|l| l.split_whitespace().last().unwrap()).collect();
    assert_eq!(map, ["1", "1000"]);
    let status = answers[1].as_str().unwrap();
    assert_eq!(
        [field(status, "Uid"), field(status, "Gid"), field(status, "Groups")],
        ["5 5 5 5", "6 6 6 6", "7 999"]
    );
}

#[test]
fn limits_hold_in_a_cgroup_that_systemd_delegates() {
    given_something!();
    let container = Container::of(Bundle::sleeping().with(|c| {
        c["linux"]["resources"] = json!({ "pids": { "limit": 23 }, "memory": { "limit": 64 << 20 } });
    }));
    container.launch();
    let cgroups = container.cgroups();
    assert_eq!(
        [cgroups.read("", "pids.max"), cgroups.read("", "memory.max")],
        ["23".into(), (64 << 20).to_string()]
    );
    container.call(&["update", "--pids-limit", "24", &container.id]).ok();
    assert_eq!(cgroups.read("", "pids.max"), "24");
    container.call(&["pause", &container.id]).ok();
    assert_eq!(container.status(), "paused");
    container.call(&["resume", &container.id]).ok();
}
