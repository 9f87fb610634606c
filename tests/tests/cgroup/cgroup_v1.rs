//! Limits on v1 hierarchies: each property of `linux.resources` read back where the kernel keeps it.

use ampoule_tests::{
    Bundle, Cgroups, Container, HierarchyLock, Layout, ON_V2, Runtime, ampoule_only, any_disk, has_cgroup_v1,
    has_cgroup_v1_file, require,
};
use serde_json::{Value, json};

/// A sleeping container with these resources, and where its limits are.
fn limited(resources: Value) -> (Container, Cgroups) {
    let bundle = Bundle::sleeping().with(|c| {
        for (key, value) in resources.as_object().unwrap() {
            c["linux"]["resources"][key] = value.clone();
        }
    });
    let container = Container::of(bundle);
    container.create().ok();
    let cgroups = container.cgroups();
    (container, cgroups)
}

#[test]
fn the_container_is_in_a_cgroup_of_its_own_in_every_hierarchy() {
    require!(has_cgroup_v1("memory"), "cgroup v1", named ON_V2);
    let (container, cgroups) = limited(json!({}));
    for controller in ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"] {
        let dir = cgroups.dir(controller);
        assert!(dir.ends_with(&container.id), "{}", dir.display());
        assert_eq!(ampoule_tests::pids_in(dir), [container.pid()], "{controller}");
    }
}

#[test]
fn memory_limits_are_written() {
    require!(has_cgroup_v1("memory"), "the v1 memory controller", named ON_V2);
    let mib = 1 << 20;
    let (_container, cgroups) = limited(json!({ "memory": {
        "limit": 64 * mib, "reservation": 32 * mib, "swap": 96 * mib, "swappiness": 7, "disableOOMKiller": true,
        "useHierarchy": true,
    }}));
    assert_eq!(cgroups.read("memory", "memory.limit_in_bytes"), (64 * mib).to_string());
    assert_eq!(cgroups.read("memory", "memory.soft_limit_in_bytes"), (32 * mib).to_string());
    assert_eq!(cgroups.read("memory", "memory.memsw.limit_in_bytes"), (96 * mib).to_string());
    assert_eq!(cgroups.read("memory", "memory.swappiness"), "7");
    assert_eq!(cgroups.read("memory", "memory.use_hierarchy"), "1");
    assert!(cgroups.read("memory", "memory.oom_control").contains("oom_kill_disable 1"));
}

#[test]
fn a_memory_limit_of_minus_one_is_no_limit() {
    require!(has_cgroup_v1("memory"), "the v1 memory controller", named ON_V2);
    let (_container, cgroups) = limited(json!({ "memory": { "limit": -1, "swap": -1 } }));
    let limit: u64 = cgroups.read("memory", "memory.limit_in_bytes").parse().unwrap();
    assert!(limit > 1 << 60, "{limit}");
}

#[test]
fn the_kernel_tcp_memory_limit_is_written() {
    require!(has_cgroup_v1("memory"), "the v1 memory controller", named ON_V2);
    ampoule_only!("runc ignores kernel memory limits since 1.0-rc94");
    let (_container, cgroups) = limited(json!({ "memory": { "kernelTCP": 1 << 22 } }));
    assert_eq!(cgroups.read("memory", "memory.kmem.tcp.limit_in_bytes"), (1 << 22).to_string());
}

#[test]
fn cpu_shares_quota_period_and_sets_are_written() {
    require!(has_cgroup_v1("cpu") && has_cgroup_v1("cpuset"), "the v1 cpu and cpuset controllers", named ON_V2);
    let (_container, cgroups) = limited(
        json!({ "cpu": { "shares": 512, "quota": 50_000, "period": 200_000, "cpus": "0", "mems": "0" } }),
    );
    assert_eq!(cgroups.read("cpu", "cpu.shares"), "512");
    assert_eq!(cgroups.read("cpu", "cpu.cfs_quota_us"), "50000");
    assert_eq!(cgroups.read("cpu", "cpu.cfs_period_us"), "200000");
    assert_eq!(cgroups.read("cpuset", "cpuset.cpus"), "0");
    assert_eq!(cgroups.read("cpuset", "cpuset.mems"), "0");
}

#[test]
fn cpu_idle_and_burst_are_written() {
    ampoule_only!("runc knows cpu burst and idle since 1.2");
    require!(has_cgroup_v1("cpu"), "the v1 cpu controller", named ON_V2);
    let (_container, cgroups) =
        limited(json!({ "cpu": { "quota": 50_000, "period": 100_000, "burst": 20_000 } }));
    assert_eq!(cgroups.read("cpu", "cpu.cfs_burst_us"), "20000");
    let (_container, cgroups) = limited(json!({ "cpu": { "idle": 1 } }));
    assert_eq!(cgroups.read("cpu", "cpu.idle"), "1");
}

#[test]
fn realtime_budget_is_written() {
    require!(has_cgroup_v1("cpu"), "the v1 cpu controller", named ON_V2);
    let known = has_cgroup_v1_file("cpu", "cpu.rt_period_us");
    require!(known, "realtime groups", named "Debian's kernels have none (RT_GROUP_SCHED)");
    let (_container, cgroups) =
        limited(json!({ "cpu": { "realtimePeriod": 500_000, "realtimeRuntime": 0 } }));
    assert_eq!(cgroups.read("cpu", "cpu.rt_period_us"), "500000");
    assert_eq!(cgroups.read("cpu", "cpu.rt_runtime_us"), "0");
}

#[test]
fn the_pids_limit_is_written() {
    require!(has_cgroup_v1("pids"), "the v1 pids controller", named ON_V2);
    let (_container, cgroups) = limited(json!({ "pids": { "limit": 17 } }));
    assert_eq!(cgroups.read("pids", "pids.max"), "17");
    let (_container, cgroups) = limited(json!({ "pids": { "limit": -1 } }));
    assert_eq!(cgroups.read("pids", "pids.max"), "max");
}

#[test]
fn block_device_throttles_are_written() {
    require!(has_cgroup_v1("blkio"), "the v1 blkio controller", named ON_V2);
    let (major, minor) = any_disk();
    let rate = |value: u64| json!([{ "major": major, "minor": minor, "rate": value }]);
    let (_container, cgroups) = limited(json!({ "blockIO": {
        "throttleReadBpsDevice": rate(1 << 20),
        "throttleWriteBpsDevice": rate(1 << 21),
        "throttleReadIOPSDevice": rate(100),
        "throttleWriteIOPSDevice": rate(200),
    }}));
    let read = |file: &str| cgroups.read("blkio", &format!("blkio.throttle.{file}"));
    let line = |value: u64| format!("{major}:{minor} {value}");
    assert_eq!(read("read_bps_device"), line(1 << 20));
    assert_eq!(read("write_bps_device"), line(1 << 21));
    assert_eq!(read("read_iops_device"), line(100));
    assert_eq!(read("write_iops_device"), line(200));
}

/// The file of a cgroup's weight, which depends on the kernel's IO scheduler. The root has none: a child is asked.
fn weight_file() -> Option<String> {
    let child = ampoule_tests::Scratch::new().path().file_name().expect("a name").to_owned();
    let child = std::path::Path::new("/sys/fs/cgroup/blkio").join(child);
    std::fs::create_dir(&child).unwrap();
    let names: Vec<_> = std::fs::read_dir(&child).unwrap().flatten().map(|e| e.file_name()).collect();
    std::fs::remove_dir(&child).unwrap();
    names.into_iter().filter_map(|n| n.into_string().ok()).find(|n| n.ends_with("weight"))
}

#[test]
fn the_block_io_weight_is_written() {
    require!(has_cgroup_v1("blkio"), "the v1 blkio controller", named ON_V2);
    let file = weight_file();
    require!(file.is_some(), "block IO weights", named "no scheduler of this kernel has them");
    let (_container, cgroups) = limited(json!({ "blockIO": { "weight": 500 } }));
    assert_eq!(cgroups.read("blkio", &file.unwrap()), "500");
}

#[test]
fn a_block_io_weight_that_the_kernel_does_not_know_is_an_error() {
    require!(has_cgroup_v1("blkio"), "the v1 blkio controller", named ON_V2);
    let why = "with a weight file there is nothing to refuse";
    require!(weight_file().is_none(), "a kernel without block IO weights", named why);
    ampoule_only!("runc 1.1 ignores a weight that the kernel does not know");
    let bundle = Bundle::sleeping().with(|c| c["linux"]["resources"]["blockIO"] = json!({ "weight": 500 }));
    let container = Container::of(bundle);
    container.create().fails().saying("weight");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn the_class_and_priorities_of_network_packets_are_written() {
    ampoule_only!("runc 1.1 insists on the devices controller");
    let _changing = HierarchyLock::exclusive();
    let there = Layout::Network.command("true".as_ref()).output().is_ok_and(|o| o.status.success());
    require!(there, "net_cls and net_prio for v1", named "systemd may have taken one of them; others have no module");
    let bundle = Bundle::sleeping().with(|c| {
        let priorities = json!([{ "name": "lo", "priority": 3 }]);
        c["linux"]["resources"] = json!({ "network": { "classID": 0x10_0001, "priorities": priorities } });
    });
    let container = Container::on(Layout::Network, bundle);
    container.create().ok();
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let (_, group) = groups.lines().find_map(|line| line.split_once("net_cls,net_prio:")).expect(&groups);
    let read = |file: &str| {
        let mut cat = Layout::Network.command("cat".as_ref());
        let output = cat.arg(format!("/sys/fs/cgroup/net{group}/{file}")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(read("net_cls.classid").trim(), 0x10_0001.to_string());
    assert!(read("net_prio.ifpriomap").lines().any(|line| line == "lo 3"), "{}", read("net_prio.ifpriomap"));
}

#[test]
fn device_rules_are_written_in_order() {
    require!(has_cgroup_v1("devices"), "the v1 devices controller", named ON_V2);
    let (_container, cgroups) = limited(json!({ "devices": [
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" },
        { "allow": true, "type": "b", "major": 7, "access": "r" },
    ]}));
    let list = cgroups.read("devices", "devices.list");
    let lines: Vec<_> = list.lines().collect();
    // An m beside it says nothing new, since mknod is everybody's: v1 wants all that one open asks for in one line.
    let has = |rule: &str| lines.iter().any(|line| *line == rule || *line == format!("{rule}m"));
    assert!(has("c 10:229 rw"), "{list}");
    assert!(has("b 7:* r"), "{list}");
    // What every container may use.
    for line in [
        "c 1:3 rwm",
        "c 1:5 rwm",
        "c 1:7 rwm",
        "c 1:8 rwm",
        "c 1:9 rwm",
        "c 5:0 rwm",
        "c 136:* rwm",
        "c 5:2 rwm",
    ] {
        assert!(lines.contains(&line), "{line} in {list}");
    }
    assert!(!lines.contains(&"a *:* rwm"), "{list}");
}

#[test]
fn a_limit_that_the_kernel_refuses_is_an_error_and_leaves_nothing() {
    require!(has_cgroup_v1("cpuset"), "the v1 cpuset controller", named ON_V2);
    let bundle = Bundle::sleeping().with(|c| c["linux"]["resources"]["cpu"] = json!({ "cpus": "4000-4001" }));
    let container = Container::of(bundle);
    let outcome = container.create().fails().saying("cpuset.cpus");
    if Runtime::get().is_ampoule() {
        outcome.saying("4000-4001");
    }
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn an_absolute_cgroups_path_is_below_the_hierarchys_top() {
    require!(has_cgroup_v1("pids"), "the v1 pids controller", named ON_V2);
    let container = Container::of(Bundle::sleeping());
    let path = format!("/{}-parent/{}", container.id, container.id);
    let mut container = container;
    container.bundle.config["linux"]["cgroupsPath"] = json!(path);
    container.create().ok();
    let dir = container.cgroups().dir("pids").to_owned();
    assert_eq!(dir, std::path::Path::new("/sys/fs/cgroup/pids").join(&path[1..]));
    container.delete_force().ok();
    assert!(!dir.exists());
    // The parent is not the runtime's to remove: it may be a pod's.
    for parent in ampoule_tests::cgroups_named(&format!("{}-parent", container.id)) {
        ampoule_tests::remove_cgroup(&parent);
    }
}

#[test]
fn a_cgroups_path_cannot_climb_out() {
    require!(has_cgroup_v1("pids"), "the v1 pids controller", named ON_V2);
    let mut container = Container::of(Bundle::sleeping());
    let path = format!("/../../../../../../tmp/{}", container.id);
    container.bundle.config["linux"]["cgroupsPath"] = json!(path);
    if container.create().code == 0 {
        assert!(container.cgroups().dir("pids").starts_with("/sys/fs/cgroup/pids"));
    }
    assert!(!std::path::Path::new("/tmp").join(&container.id).exists());
}
