//! Documents at the limits: as many entries as 16 MiB hold, and numbers at the end of their ranges.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ampoule::facts::Facts;
use ampoule::plan::step::HostStep;
use ampoule::plan::{Options, Plan, Request, create};
use ampoule::spec;
use anyhow::Result;
use cgroup::layout::Layout;
use serde_json::{Value, json};

/// Longer than any of these takes without optimisation, and far shorter than those of before, that compared each entry
/// with all others.
const PATIENCE: Duration = Duration::from_secs(20);

fn plan(change: impl FnOnce(&mut Value)) -> Result<Plan> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/plans/default.json");
    let mut config: Value = serde_json::from_slice(&fs::read(path)?)?;
    change(&mut config);
    let text = config.to_string();
    assert!(text.len() < 16 << 20, "{} bytes are no config.json", text.len());
    let spec = spec::parse(text.as_bytes()).map_err(anyhow::Error::msg)?;
    let facts = Facts { cgroups: Layout::pure_v1(), capabilities: u64::MAX, ..Facts::default() };
    let (bundle, options) = (Path::new("/bundle"), Options::default());
    create(&Request { id: "web", bundle, spec: &spec, facts: &facts, options: &options })
}

/// A list of as many.
fn many(count: usize, entry: impl Fn(usize) -> Value) -> Value {
    (0..count).map(entry).collect()
}

fn in_time(change: impl FnOnce(&mut Value)) -> Result<Plan> {
    let start = Instant::now();
    let planned = plan(change);
    let took = start.elapsed();
    assert!(took < PATIENCE, "{took:?}");
    planned
}

#[test]
fn many_devices_are_planned_in_time_and_the_last_of_a_path_is_meant() {
    let device =
        |n: usize| json!({ "path": format!("/dev/x{}", n / 2), "type": "c", "major": 1, "minor": n });
    let text = in_time(|c| c["linux"]["devices"] = many(100_000, device)).unwrap().to_string();
    let made: Vec<&str> = text.lines().filter(|line| line.contains("/dev/x")).collect();
    assert_eq!(made.len(), 50_000);
    assert!(made[7].contains("/dev/x7 ") && made[7].contains("1:15"), "{}", made[7]);
}

#[test]
fn many_network_devices_are_planned_in_time() {
    let devices: serde_json::Map<_, _> = (0..200_000).map(|n| (format!("e{n}"), json!({}))).collect();
    in_time(|c| c["linux"]["netDevices"] = devices.into()).unwrap();
    let twice = plan(|c| c["linux"]["netDevices"] = json!({ "a": { "name": "x" }, "x": {} })).unwrap_err();
    assert_eq!(twice.to_string(), "linux.netDevices.x.name: \"x\" is there twice");
}

#[test]
fn many_mounts_with_maps_of_their_own_are_planned_in_time_and_equal_maps_are_made_once() {
    let map = |n: usize| json!([{ "containerID": n / 2, "hostID": 1, "size": 1 }]);
    let mount = |n| {
        let (uids, gids) = (map(n), map(n));
        json!({ "destination": "/m", "source": "/a", "options": ["bind"], "uidMappings": uids, "gidMappings": gids })
    };
    let plan = in_time(|c| c["mounts"] = many(60_000, mount)).unwrap();
    let made = plan.pre_clone.iter().filter(|step| matches!(step, HostStep::CreateUserNamespace { .. }));
    assert_eq!(made.count(), 30_000);
}

#[test]
fn many_device_rules_are_refused_in_time() {
    let rule = |n| json!({ "allow": true, "type": "c", "major": n, "minor": n, "access": "rwm" });
    let error = in_time(|c| c["linux"]["resources"]["devices"] = many(150_000, rule)).unwrap_err();
    assert_eq!(error.to_string(), "linux.resources.devices: 150000 rules, expected at most 16384");
}

#[test]
fn many_unknown_system_calls_are_left_out_in_time() {
    let names = many(300_000, |n| json!(format!("no_such_{}", n / 2)));
    let rule = json!({ "names": names, "action": "SCMP_ACT_ERRNO" });
    in_time(|c| c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }))
        .unwrap();
}

/// So many that their numbers would begin again, and one rule would mean what another says; hidden, so that the program is
/// short all the same.
#[test]
fn more_conditions_than_a_program_holds_are_refused_in_time() {
    let read = |n| {
        let test = json!({ "index": 0, "value": n, "op": "SCMP_CMP_EQ" });
        json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [test] })
    };
    let mut rules = many(65_536, read);
    let rules_of = rules.as_array_mut().unwrap();
    rules_of.push(json!({ "names": ["read"], "action": "SCMP_ACT_LOG" }));
    let test = json!({ "index": 1, "value": 7, "op": "SCMP_CMP_EQ" });
    rules_of.push(json!({ "names": ["write"], "action": "SCMP_ACT_ERRNO", "args": [test] }));
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules });
    let error = in_time(|c| c["linux"]["seccomp"] = profile).unwrap_err();
    assert_eq!(error.to_string(), "linux.seccomp.syscalls: more than 4096 different conditions");
}

#[test]
fn a_map_of_ids_that_reaches_minus_one_is_refused() {
    let mapped = |first: u32, size: u32| {
        plan(|c| {
            c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
            c["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": first, "size": size }]);
            c["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        })
    };
    for (first, size) in [(u32::MAX, 1), (u32::MAX - 1, 2), (5, u32::MAX)] {
        let error = mapped(first, size).unwrap_err().to_string();
        assert_eq!(error, "linux.uidMappings[0]: it has ids beyond 4294967294, which are none");
    }
    mapped(u32::MAX - 1, 1).unwrap();
    mapped(0, u32::MAX).unwrap();
}
