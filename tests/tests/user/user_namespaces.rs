//! User namespaces with mappings, made by root.

use ampoule_tests::{Bundle, Container, can_raise_limits, field, require};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

/// Container ids 0… are host ids 100000….
fn mapped(questions: &[&str]) -> Bundle {
    let bundle = Bundle::asking(questions).with_user_namespace();
    chown(bundle.rootfs(), Some(100_000), Some(100_000)).expect("give the rootfs to the mapped root");
    bundle
}

fn words(value: &Value) -> Vec<Vec<String>> {
    let text = value.as_str().expect("a text");
    text.lines().map(|l| l.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn the_mappings_are_the_configured_ones() {
    let bundle = mapped(&["cat", "/proc/self/uid_map", ",", "cat", "/proc/self/gid_map"]).with(|c| {
        c["linux"]["uidMappings"] = json!([
            { "containerID": 0, "hostID": 100_000, "size": 1000 },
            { "containerID": 1000, "hostID": 300_000, "size": 10 },
        ]);
        c["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 70_000 }]);
    });
    let answers = Container::of(bundle).run().ok().answers();
    assert_eq!(words(&answers[0]), [["0", "100000", "1000"], ["1000", "300000", "10"]]);
    assert_eq!(words(&answers[1]), [["0", "100000", "70000"]]);
}

#[test]
fn root_inside_is_an_ordinary_user_outside() {
    let container = Container::of(mapped(&["sleep", "1000"]));
    container.launch();
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    assert_eq!(field(&status, "Uid"), "100000 100000 100000 100000");
    assert_eq!(field(&status, "Gid"), "100000 100000 100000 100000");
}

#[test]
fn an_ordinary_user_inside_is_the_mapped_one_outside() {
    let bundle = mapped(&["sleep", "1000"]).with(|c| {
        c["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [7] });
    });
    let container = Container::of(bundle);
    container.launch();
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    assert_eq!(field(&status, "Uid"), "101000 101000 101000 101000");
    assert_eq!(field(&status, "Gid"), "101001 101001 101001 101001");
    assert_eq!(field(&status, "Groups"), "100007");
}

#[test]
fn root_inside_owns_what_the_mapped_user_owns_and_makes() {
    let bundle = mapped(&["stat", "/", ",", "write", "/made", "text", ",", "stat", "/bin"]).writable();
    let made = bundle.rootfs().join("made");
    let container = Container::of(bundle);
    let answers = container.run().ok().answers();
    assert_eq!(answers[0]["uid"], 0);
    assert_eq!(answers[1], "ok");
    // Files of unmapped owners show as the overflow user.
    assert_eq!(answers[2]["uid"], 65534);
    let meta = fs::metadata(made).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (100_000, 100_000));
}

#[test]
fn capabilities_are_those_of_the_config_in_the_new_namespace() {
    let bundle = mapped(&["cat", "/proc/self/status"]);
    let status = Container::of(bundle).run().ok().text();
    let wanted = format!("{:016x}", (1u64 << 29) | (1 << 5) | (1 << 10));
    assert_eq!(field(&status, "CapEff"), wanted);
    assert_eq!(field(&status, "CapBnd"), wanted);
}

#[test]
fn devices_are_there_although_they_cannot_be_made() {
    let bundle =
        mapped(&["stat", "/dev/null", ",", "open", "/dev/null", "rw", ",", "open", "/dev/urandom", "r"]);
    let answers = Container::of(bundle).run().ok().answers();
    assert_eq!(answers[0]["rdev"], "1:3");
    assert_eq!(answers[0]["type"], "char");
    assert_eq!(&answers[1..], [json!("ok"), json!("ok")]);
}

#[test]
fn the_devpts_belongs_to_the_mapped_group() {
    let answer = Container::of(mapped(&["stat", "/dev/pts"])).run().ok().answer();
    assert_eq!(answer["uid"], 0, "{answer}");
}

#[test]
fn proc_sys_of_the_namespaces_it_owns_can_be_configured() {
    let bundle = mapped(&["cat", "/proc/sys/net/ipv4/ip_forward"])
        .with(|c| c["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" }));
    assert_eq!(Container::of(bundle).run().ok().text(), "1\n");
}

#[test]
fn oom_score_adj_and_limits_work_in_a_user_namespace() {
    let bundle =
        mapped(&["cat", "/proc/self/oom_score_adj"]).with(|c| c["process"]["oomScoreAdj"] = json!(500));
    assert_eq!(Container::of(bundle).run().ok().text(), "500\n");
}

#[test]
fn a_user_that_is_not_mapped_is_refused() {
    let bundle = mapped(&["cwd"]).with(|c| c["process"]["user"] = json!({ "uid": 70_000, "gid": 0 }));
    Container::of(bundle).run().fails();
}

#[test]
fn a_user_namespace_without_mappings_is_refused() {
    let bundle = Bundle::asking(&["cwd"]).with_namespace("user");
    Container::of(bundle).run().fails();
}

/// The process's limit on open files, as it sees it and as one that comes later does.
fn open_files(limits: Value) -> [String; 2] {
    let bundle = mapped(&["cat", "/proc/self/limits", ",", "sleep", "1000"])
        .with(|c| c["process"]["rlimits"] = json!([limits]));
    let container = Container::of(bundle);
    container.launch();
    container.wait_output("Max open files");
    let later =
        container.call(&["exec", &container.id, "/bin/probe", "cat", "/proc/self/limits"]).ok().text();
    let first = container.output().answers().remove(0);
    [first.as_str().unwrap(), &later].map(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a line");
        line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    })
}

#[test]
fn a_hard_limit_is_raised_by_whoever_may_outside() {
    require!(can_raise_limits(), "CAP_SYS_RESOURCE", named "the root of a CI container rarely has it");
    let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1_048_576 });
    assert_eq!(open_files(limit), ["1024 1048576"; 2]);
}

#[test]
fn a_limit_holds_for_the_first_process_and_for_later_ones() {
    let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 65 });
    assert_eq!(open_files(limit), ["64 65"; 2]);
}
