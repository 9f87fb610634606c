//! Limits that are felt.

use ampoule_tests::{
    Bundle, Container, Layout, ON_V1, ON_V2, disk_of, field, has_cgroup_v1, has_cgroup_v2_controller,
    is_root, require,
};
use serde_json::{Value, json};

const NODES: &str = "an ordinary user can make no device nodes, and load no program for them";

fn with_resources(questions: &[&str], resources: Value) -> Bundle {
    Bundle::asking(questions).with(|c| {
        for (key, value) in resources.as_object().unwrap() {
            c["linux"]["resources"][key] = value.clone();
        }
    })
}

#[test]
fn a_program_beyond_its_memory_limit_is_killed() {
    require!(has_cgroup_v1("memory") || has_cgroup_v2_controller("memory"), "a memory controller");
    let limit = json!({ "memory": { "limit": 32 << 20, "swap": 32 << 20 } });
    let outcome = Container::of(with_resources(&["alloc", "8"], limit.clone())).run().ok();
    assert_eq!(outcome.answer(), "ok");
    let outcome = Container::of(with_resources(&["alloc", "128"], limit)).run();
    assert_eq!(outcome.code, 128 + 9, "{outcome}");
}

#[test]
fn a_program_cannot_have_more_processes_than_its_limit() {
    require!(has_cgroup_v1("pids") || has_cgroup_v2_controller("pids"), "a pids controller");
    let answer = Container::of(with_resources(&["spawn", "20"], json!({ "pids": { "limit": 10 } })))
        .run()
        .ok()
        .answer();
    assert_eq!(answer["error"], "EAGAIN", "{answer}");
    // The program and its children; spawning needs no process besides, but may use one.
    assert!((8..=9).contains(&answer["spawned"].as_u64().unwrap()), "{answer}");
}

/// Whether either version of cgroups can limit this here.
fn has(v1: &str, v2: &str) -> bool {
    has_cgroup_v1(v1) || has_cgroup_v2_controller(v2)
}

#[test]
fn a_unified_limit_is_as_good_as_a_named_one() {
    require!(has_cgroup_v2_controller("memory"), "the v2 memory controller", named ON_V1);
    let limit = json!({ "unified": { "memory.max": "33554432", "memory.swap.max": "0" } });
    let outcome = Container::of(with_resources(&["alloc", "128"], limit)).run();
    assert_eq!(outcome.code, 128 + 9, "{outcome}");
}

#[test]
fn a_program_runs_on_its_cpus_only() {
    require!(has("cpuset", "cpuset"), "a cpuset controller");
    let bundle =
        with_resources(&["cat", "/proc/self/status"], json!({ "cpu": { "cpus": "0", "mems": "0" } }));
    let status = Container::of(bundle).run().ok().text();
    assert_eq!(field(&status, "Cpus_allowed_list"), "0");
    assert_eq!(field(&status, "Mems_allowed_list"), "0");
}

#[test]
fn a_program_beyond_its_cpu_quota_has_to_wait() {
    require!(has("cpu", "cpu"), "a cpu controller");
    let bundle = with_resources(&["burn", "200"], json!({ "cpu": { "quota": 20_000, "period": 100_000 } }));
    let took = Container::of(bundle).run().ok().answer().as_u64().unwrap();
    // A fifth of a CPU: a second, less what was used before the program ran.
    assert!(took >= 700, "200 ms of a CPU were used up in {took} ms");
}

#[test]
fn a_program_writes_no_faster_than_its_throttle() {
    require!(has("blkio", "io"), "a controller of block IO");
    let bundle = Bundle::asking(&["direct", "/file", "3"]).writable();
    let disk = disk_of(&bundle.rootfs());
    require!(disk.is_some(), "a disk for the root file system", named "this host's temporary directory has none");
    let rate = json!([{ "major": disk.unwrap().0, "minor": disk.unwrap().1, "rate": 1 << 20 }]);
    let bundle =
        bundle.with(|c| c["linux"]["resources"]["blockIO"] = json!({ "throttleWriteBpsDevice": rate }));
    let took = Container::of(bundle).run().ok().answer().as_u64().unwrap();
    assert!(took >= 1500, "3 MiB at 1 MiB/s were written in {took} ms");
}

#[test]
fn a_program_gets_no_more_huge_pages_than_its_limit() {
    require!(has("hugetlb", "hugetlb"), "a hugetlb controller", named "systemd delegates it to no user");
    let free = field(&std::fs::read_to_string("/proc/meminfo").unwrap(), "HugePages_Free");
    let enough = free.parse::<u32>().unwrap() >= 2;
    require!(enough, "free huge pages", named "this host has set none aside");
    let limit = json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 2 << 20 }] });
    assert_eq!(Container::of(with_resources(&["huge", "1"], limit.clone())).run().ok().answer(), "ok");
    let outcome = Container::of(with_resources(&["huge", "2"], limit)).run();
    // Refused when they are reserved, where that is limited too; else SIGBUS ends it when it touches the second.
    assert!(outcome.code == 128 + 7 || outcome.answer()["error"] == "ENOMEM", "{outcome}");
}

/// Makes device nodes that are no default ones, and tells what the rules let the program do with them.
fn device_answers(layout: Layout, rules: Value) -> Vec<Value> {
    let questions = [
        "open",
        "/dev/fuse",
        "rw",
        ",",
        "open",
        "/dev/fuse",
        "r",
        ",",
        "mknod",
        "/tmp/other",
        "c",
        "10",
        "237",
        ",",
        "mknod",
        "/tmp/null",
        "c",
        "1",
        "3",
        ",",
        "open",
        "/dev/null",
        "rw",
        ",",
        "open",
        "/dev/zero",
        "r",
        ",",
        "open",
        "/dev/other",
        "r",
    ];
    let bundle = with_resources(&questions, json!({ "devices": rules })).writable().with(|c| {
        c["linux"]["devices"] = json!([
            { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 0 },
            { "path": "/dev/other", "type": "c", "major": 10, "minor": 237, "fileMode": 0o666, "uid": 0, "gid": 0 },
        ]);
        for set in ["bounding", "permitted", "effective"] {
            c["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_MKNOD"));
        }
    });
    Container::on(layout, bundle).run().ok().answers()
}

/// What a rule that denies gives. A device without a driver gives ENODEV or ENXIO, after the rules were asked.
fn refused() -> Value {
    json!({ "error": "EPERM" })
}

fn check_device_rules(layout: Layout) {
    let deny_all = json!({ "allow": false, "access": "rwm" });
    let answers = device_answers(layout, json!([deny_all]));
    assert_eq!(answers[0], refused(), "fuse rw: {answers:?}");
    assert_eq!(answers[1], refused(), "fuse r");
    // Making any node is always allowed, as runc and docker do; opening it is what counts.
    assert_eq!(answers[2], "ok", "mknod other");
    assert_eq!(answers[3], "ok", "mknod null");
    assert_eq!(answers[4], "ok", "null");
    assert_eq!(answers[5], "ok", "zero");
    assert_eq!(answers[6], refused(), "other");

    let read_fuse = json!({ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "r" });
    let answers = device_answers(layout, json!([deny_all, read_fuse]));
    assert_eq!(answers[0], refused(), "fuse rw: {answers:?}");
    assert_ne!(answers[1], refused(), "fuse r");
    assert_eq!(answers[6], refused(), "other");

    let all_of_10 = json!({ "allow": true, "type": "c", "major": 10, "access": "rw" });
    let answers = device_answers(layout, json!([deny_all, all_of_10]));
    assert_ne!(answers[0], refused(), "fuse rw: {answers:?}");
    assert_ne!(answers[6], refused(), "other");

    let allow_all = json!({ "allow": true, "access": "rwm" });
    let answers = device_answers(layout, json!([allow_all]));
    assert_ne!(answers[0], refused(), "fuse rw: {answers:?}");
    assert_ne!(answers[6], refused(), "other");

    let no_other = json!({ "allow": false, "type": "c", "major": 10, "minor": 237, "access": "rwm" });
    let answers = device_answers(layout, json!([allow_all, no_other]));
    assert_ne!(answers[0], refused(), "fuse rw: {answers:?}");
    assert_eq!(answers[6], refused(), "other");
}

#[test]
fn device_rules_are_enforced_on_v1() {
    require!(has_cgroup_v1("devices"), "the v1 devices controller", named ON_V2);
    check_device_rules(Layout::Host);
}

#[test]
fn device_rules_are_enforced_on_v2() {
    require!(is_root(), "root", named NODES);
    check_device_rules(Layout::PureV2);
}

#[test]
fn a_rule_for_a_mere_mknod_is_enforced_on_v2() {
    require!(is_root(), "root", named NODES);
    // A v2 program sees mknod as an access of its own.
    let bundle = with_resources(
        &["mknod", "/tmp/disk", "b", "7", "77", ",", "open", "/tmp/disk", "r"],
        json!({ "devices": [{ "allow": false, "access": "rwm" },
                            { "allow": true, "type": "b", "major": 7, "minor": 77, "access": "m" }] }),
    )
    .writable()
    .with(|c| {
        for set in ["bounding", "permitted", "effective"] {
            c["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_MKNOD"));
        }
    });
    let answers = Container::on(Layout::PureV2, bundle).run().ok().answers();
    assert_eq!(answers, [json!("ok"), refused()]);
}
