//! What we print for others, as the crate oci-spec reads it: nothing is lost on the way, and nothing is of another type.

use std::collections::BTreeMap;
use std::process::Command;

use ampoule::container::record::Record;
use serde_json::Value;

/// The document as another program would write it that has read ours.
fn read_and_written<T: serde::de::DeserializeOwned + serde::Serialize>(ours: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(ours.clone()).unwrap()).unwrap()
}

#[test]
fn features_are_those_of_the_spec() {
    let output = Command::new(env!("CARGO_BIN_EXE_ampoule")).arg("features").output().unwrap();
    let ours: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(ours["linux"]["capabilities"].as_array().is_some_and(|all| all.len() > 30), "{ours:#}");
    assert_eq!(read_and_written::<oci_spec::runtime::Features>(&ours), ours);
}

#[test]
fn a_state_is_that_of_the_spec_and_what_runc_adds() {
    let record = Record {
        oci_version: "1.3.0".into(),
        id: "web".into(),
        bundle: "/bundle".into(),
        rootfs: "/bundle/rootfs".into(),
        created: "2026-11-28T00:00:00Z".into(),
        owner: 0,
        annotations: BTreeMap::from([("a".into(), "b".into())]),
        cgroups: Vec::new(),
        cgroup2: None,
        rdt_groups: Vec::new(),
        keyring: true,
        scope: None,
        streams: Vec::new(),
        own_pid_namespace: true,
        poststart: Vec::new(),
        poststop: Vec::new(),
    };
    for status in ["creating", "created", "running", "stopped"] {
        let for_hooks: Value = serde_json::from_slice(&record.hook_state(status, 7)).unwrap();
        assert_eq!(read_and_written::<oci_spec::runtime::State>(&for_hooks), for_hooks);
        let mut printed = record.state(status, 7);
        let theirs = read_and_written::<oci_spec::runtime::State>(&printed);
        for added in ["rootfs", "created", "owner"] {
            printed.as_object_mut().unwrap().remove(added);
        }
        assert_eq!(theirs, printed);
    }
}
