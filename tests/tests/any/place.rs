//! Each place of the test machine has what it is there for, so that no test of it skips itself unseen.

use ampoule_tests::engines::{can_be_node, can_map_ports};
use ampoule_tests::{
    can_raise_limits, field, has_cgroup_v1, has_cgroup_v2_controller, null_disk, on_path, place, require,
};

const V2: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];
const V1: [&str; 9] =
    ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb"];

#[test]
fn a_place_of_the_test_machine_has_what_it_is_for() {
    let place = place();
    require!(place != "host", "the test machine", named "a host is as it is");
    let (v1, v2) = (place.starts_with("v1-"), place.starts_with("v2-"));
    assert!(v1 || v2, "tests/vm/places has a place {place}, of which this knows nothing");
    for controller in V1 {
        assert_eq!(has_cgroup_v1(controller), v1, "{controller} on v1");
    }
    for controller in V2 {
        // What systemd can delegate.
        let had = v2 && (!place.ends_with("-user") || controller != "hugetlb");
        assert_eq!(has_cgroup_v2_controller(controller), had, "{controller} on v2");
    }
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    assert!(field(&memory, "HugePages_Total").parse::<u32>().unwrap() >= 2, "{memory}");
    let root = !place.ends_with("-user");
    assert_eq!(nix::unistd::geteuid().is_root(), root);
    assert_eq!(can_raise_limits(), root, "CAP_SYS_RESOURCE");
    assert_eq!(null_disk().is_some(), root, "a null disk below BFQ");
    for engine in ["dockerd", "containerd", "podman", "buildah"] {
        assert!(!place.starts_with("v2-engines") || on_path(engine).is_some(), "{engine}");
    }
    assert!(place != "v2-engines" || can_be_node() && can_map_ports(), "what pods take");
}
