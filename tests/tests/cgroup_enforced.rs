//! Limits that are felt.

use ampoule_tests::{Bundle, Container, Layout, ON_V2, has_cgroup_v1, has_cgroup_v2_controller, require};
use serde_json::{Value, json};

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
    check_device_rules(Layout::PureV2);
}

#[test]
fn a_rule_for_a_mere_mknod_is_enforced_on_v2() {
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
