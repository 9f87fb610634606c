//! The v2 hierarchy, seen by the runtime alone in a mount namespace of its own.

use ampoule_tests::{
    Bundle, Container, Layout, ON_V1, Runtime, ampoule_only, any_disk, has_cgroup_v2_controller, met, require,
};
use serde_json::{Value, json};

fn on_v2(bundle: Bundle) -> Container {
    Container::on(Layout::PureV2, bundle)
}

#[test]
fn the_container_is_in_a_cgroup_of_its_own() {
    let container = on_v2(Bundle::sleeping());
    container.create().ok();
    let dir = container.cgroups().dir("").to_owned();
    // A scope's name has something before and after it.
    let name = dir.file_name().unwrap().to_string_lossy();
    assert!(name.contains(&container.id), "{}", dir.display());
    assert_eq!(ampoule_tests::pids_in(&dir), [container.pid()]);
}

#[test]
fn a_cgroup_namespace_has_the_containers_cgroup_as_its_root() {
    let bundle =
        Bundle::asking(&["cat", "/proc/self/cgroup", ",", "ls", "/sys/fs/cgroup"]).with_namespace("cgroup");
    let answers = on_v2(bundle).run().ok().answers();
    let line = answers[0].as_str().unwrap().lines().find(|l| l.starts_with("0:")).unwrap().to_owned();
    assert_eq!(line, "0::/");
    // A root cgroup of the host has no cgroup.events; the container's own has.
    assert!(answers[1].as_array().unwrap().contains(&json!("cgroup.events")), "{answers:?}");
}

#[test]
fn the_cgroup_mount_cannot_be_written() {
    let bundle = Bundle::asking(&["mkdir", "/sys/fs/cgroup/child"]).with_namespace("cgroup");
    assert_eq!(on_v2(bundle).run().ok().answer(), json!({ "error": "EROFS" }));
}

#[test]
fn the_status_verbs_work_as_on_v1() {
    let container = on_v2(Bundle::sleeping());
    container.create().ok();
    assert_eq!(container.status(), "created");
    container.start().ok();
    assert_eq!(container.status(), "running");
    let cgroups = container.cgroups();
    cgroups.write("", "cgroup.freeze", "1");
    container.wait_status("paused");
    cgroups.write("", "cgroup.freeze", "0");
    container.wait_status("running");
    container.kill("KILL").ok();
    container.wait_status("stopped");
    container.delete().ok();
}

#[test]
fn unified_values_are_written_as_they_are() {
    let bundle = Bundle::sleeping().with(|c| {
        c["linux"]["resources"]["unified"] =
            json!({ "cgroup.max.depth": "7", "cgroup.max.descendants": "9" });
    });
    let container = on_v2(bundle);
    container.create().ok();
    let cgroups = container.cgroups();
    assert_eq!(cgroups.read("", "cgroup.max.depth"), "7");
    assert_eq!(cgroups.read("", "cgroup.max.descendants"), "9");
}

#[test]
fn a_unified_key_that_does_not_exist_is_an_error() {
    let bundle =
        Bundle::sleeping().with(|c| c["linux"]["resources"]["unified"] = json!({ "memory.nonsense": "1" }));
    let container = on_v2(bundle);
    container.create().fails().saying("memory.nonsense");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_unified_key_cannot_be_a_path() {
    for key in ["../cgroup.max.depth", "a/b", "/etc/passwd"] {
        let bundle = Bundle::sleeping().with(|c| c["linux"]["resources"]["unified"] = json!({ key: "1" }));
        on_v2(bundle).create().fails();
    }
}

#[test]
fn hugepage_limits_are_written() {
    require!(has_cgroup_v2_controller("hugetlb"), "the v2 hugetlb controller", named NO_HUGETLB);
    let bundle = Bundle::sleeping().with(|c| {
        c["linux"]["resources"]["hugepageLimits"] = json!([{ "pageSize": "2MB", "limit": 4 << 20 }]);
    });
    let container = on_v2(bundle);
    container.create().ok();
    assert_eq!(container.cgroups().read("", "hugetlb.2MB.max"), (4 << 20).to_string());
}

#[test]
fn reserved_hugepages_are_limited_too() {
    ampoule_only!("runc writes hugetlb.*.rsvd.max since 1.2");
    require!(has_cgroup_v2_controller("hugetlb"), "the v2 hugetlb controller", named NO_HUGETLB);
    let bundle = Bundle::sleeping().with(|c| {
        c["linux"]["resources"]["hugepageLimits"] = json!([{ "pageSize": "2MB", "limit": 4 << 20 }]);
    });
    let container = on_v2(bundle);
    container.create().ok();
    assert_eq!(container.cgroups().read("", "hugetlb.2MB.rsvd.max"), (4 << 20).to_string());
}

#[test]
fn a_hugepage_size_that_does_not_exist_is_an_error() {
    let bundle = Bundle::sleeping().with(|c| {
        c["linux"]["resources"]["hugepageLimits"] = json!([{ "pageSize": "3MB", "limit": 1 }]);
    });
    on_v2(bundle).create().fails();
}

#[test]
fn a_limit_whose_controller_is_missing_is_an_error() {
    require!(!has_cgroup_v2_controller("pids"), "a v2 hierarchy without pids", named "on a host with it the limit works");
    let bundle = Bundle::sleeping().with(|c| c["linux"]["resources"]["pids"] = json!({ "limit": 5 }));
    let container = on_v2(bundle);
    container.create().fails().saying("pids");
    assert_eq!(container.leftovers(), [""; 0]);
}

const NO_HUGETLB: &str = "v1 has it, or systemd has not delegated it to this user, as it does to none";

/// A created container with these resources, on a host whose controllers are all on v2, or `None` elsewhere.
fn on_full_v2(resources: Value) -> Option<Container> {
    let all = ["cpu", "cpuset", "io", "memory", "pids"].iter().all(|c| has_cgroup_v2_controller(c));
    if !met(all, "every controller on v2", Some(ON_V1)) {
        return None;
    }
    let bundle = Bundle::sleeping().with(|c| c["linux"]["resources"] = resources);
    let container = on_v2(bundle);
    container.create().ok();
    Some(container)
}

#[test]
fn cpu_values_are_written() {
    let Some(container) = on_full_v2(json!({ "cpu": { "shares": 512, "cpus": "0", "mems": "0" } })) else {
        return;
    };
    let cgroups = container.cgroups();
    // 1024 shares are a weight of 100, since runc 1.3.2; before, 2 to 262144 were 1 to 10000, evenly.
    let weight = if Runtime::get().is_ampoule() { "59" } else { "20" };
    assert_eq!(cgroups.read("", "cpu.weight"), weight);
    assert_eq!(cgroups.read("", "cpuset.cpus"), "0");
    assert_eq!(cgroups.read("", "cpuset.mems"), "0");
}

#[test]
fn cpu_idle_and_burst_are_written() {
    ampoule_only!("runc knows cpu burst and idle since 1.2");
    let Some(container) = on_full_v2(json!({ "cpu": { "quota": 50_000, "burst": 20_000 } })) else { return };
    assert_eq!(container.cgroups().read("", "cpu.max.burst"), "20000");
    let container = on_full_v2(json!({ "cpu": { "idle": 1 } })).expect("the same host as above");
    assert_eq!(container.cgroups().read("", "cpu.idle"), "1");
}

#[test]
fn block_io_throttles_are_written() {
    let (major, minor) = any_disk();
    let rate = |value: u64| json!([{ "major": major, "minor": minor, "rate": value }]);
    let Some(container) = on_full_v2(json!({ "blockIO": {
        "throttleReadBpsDevice": rate(1 << 20),
        "throttleWriteBpsDevice": rate(1 << 21),
        "throttleReadIOPSDevice": rate(100),
        "throttleWriteIOPSDevice": rate(200),
    }})) else {
        return;
    };
    let line = format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=100 wiops=200");
    assert_eq!(container.cgroups().read("", "io.max"), line);
}

#[test]
fn the_block_io_weight_is_written_where_bfq_has_it() {
    let Some(container) = on_full_v2(json!({})) else { return };
    let bfq = container.cgroups().dir("").join("io.bfq.weight").exists();
    require!(bfq, "BFQ's weights", named "this kernel has not loaded bfq");
    let container = on_full_v2(json!({ "blockIO": { "weight": 500 } })).expect("the same host as above");
    assert_eq!(container.cgroups().read("", "io.bfq.weight"), "default 500");
}

#[test]
fn unified_limits_of_every_controller_are_written() {
    let values = json!({
        "memory.high": "33554432", "memory.oom.group": "1", "cpu.weight": "77", "cpuset.cpus": "0",
        "pids.max": "13", "io.max": format!("{0}:{1} rbps=1048576", any_disk().0, any_disk().1),
    });
    let Some(container) = on_full_v2(json!({ "unified": values })) else { return };
    let cgroups = container.cgroups();
    for (file, value) in values.as_object().unwrap() {
        let read = cgroups.read("", file);
        assert!(read.starts_with(value.as_str().unwrap()), "{file}: {read}");
    }
}

#[test]
fn limits_of_a_full_v2_host_are_written() {
    let all = ["memory", "cpu", "pids"].iter().all(|c| has_cgroup_v2_controller(c));
    require!(all, "v2 memory, cpu and pids", named ON_V1);
    let bundle = Bundle::sleeping().with(|c| {
        c["linux"]["resources"]["memory"] =
            json!({ "limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20 });
        c["linux"]["resources"]["cpu"] = json!({ "quota": 50_000, "period": 200_000 });
        c["linux"]["resources"]["pids"] = json!({ "limit": 17 });
    });
    let container = on_v2(bundle);
    container.create().ok();
    let cgroups = container.cgroups();
    assert_eq!(cgroups.read("", "memory.max"), (64 << 20).to_string());
    assert_eq!(cgroups.read("", "memory.low"), (32 << 20).to_string());
    assert_eq!(cgroups.read("", "memory.swap.max"), (32 << 20).to_string());
    assert_eq!(cgroups.read("", "cpu.max"), "50000 200000");
    assert_eq!(cgroups.read("", "pids.max"), "17");
}
