use super::*;
use crate::spec;

/// Plans `resources` for container `web` and tells the writes as `DIR/FILE=VALUE`, without the mount.
fn planned(layout: &Layout, path: &str, resources: &str) -> Result<(Cgroups, Vec<String>)> {
    let text = format!(r#"{{"linux":{{"resources":{resources}}}}}"#);
    let spec = spec::parse(text.as_bytes()).map_err(anyhow::Error::msg)?;
    let facts = Facts { cgroups: layout.clone(), ..Facts::default() };
    let plan = cgroups(&facts, path, "web", &spec.linux.resources)?;
    let mut writes = Vec::new();
    for step in &plan.pre_clone {
        let HostStep::WriteCgroup { dir, file, values, missing, property } = step else { continue };
        if property == "linux.resources.devices" {
            continue;
        }
        let dir = dir.strip_prefix("/sys/fs/cgroup").unwrap().display();
        let missing = match missing {
            IfMissing::Fail => String::new(),
            IfMissing::Skip => " if there".to_owned(),
            IfMissing::Instead { file, values } => format!(" or {file}={}", values.join(";")),
        };
        writes.push(format!("{dir}/{file}={}{missing}", values.join(";")));
    }
    Ok((plan, writes))
}

fn writes(layout: &Layout, resources: &str) -> Vec<String> {
    planned(layout, "", resources).unwrap_or_else(|e| panic!("{resources}: {e}")).1
}

fn error(layout: &Layout, resources: &str) -> String {
    planned(layout, "", resources).expect_err(resources).to_string()
}

/// Every property: what is asked, and its writes in v1's words and in v2's.
#[test]
fn every_property_becomes_its_writes() {
    #[rustfmt::skip]
    let table: &[(&str, &[&str], &[&str])] = &[
        (r#"{}"#, &[], &[]),
        (r#"{"memory":{"limit":1048576}}"#, &["memory/web/memory.limit_in_bytes=1048576"], &["web/memory.max=1048576"]),
        (r#"{"memory":{"limit":0,"swap":0,"reservation":0}}"#, &[], &[]),
        (r#"{"memory":{"limit":-1}}"#,
            &["memory/web/memory.memsw.limit_in_bytes=-1 if there", "memory/web/memory.limit_in_bytes=-1"],
            &["web/memory.swap.max=max if there", "web/memory.max=max"]),
        (r#"{"memory":{"limit":1000,"swap":3000}}"#,
            &["memory/web/memory.limit_in_bytes=1000", "memory/web/memory.memsw.limit_in_bytes=3000"],
            &["web/memory.swap.max=2000", "web/memory.max=1000"]),
        (r#"{"memory":{"limit":1000,"swap":1000}}"#,
            &["memory/web/memory.limit_in_bytes=1000", "memory/web/memory.memsw.limit_in_bytes=1000"],
            &["web/memory.swap.max=0 if there", "web/memory.max=1000"]),
        (r#"{"memory":{"limit":1000,"swap":-1}}"#,
            &["memory/web/memory.memsw.limit_in_bytes=-1 if there", "memory/web/memory.limit_in_bytes=1000"],
            &["web/memory.swap.max=max if there", "web/memory.max=1000"]),
        (r#"{"memory":{"limit":-1,"swap":5000}}"#,
            &["memory/web/memory.limit_in_bytes=-1", "memory/web/memory.memsw.limit_in_bytes=5000"],
            &["web/memory.swap.max=5000", "web/memory.max=max"]),
        (r#"{"memory":{"swap":-1}}"#,
            &["memory/web/memory.memsw.limit_in_bytes=-1 if there"], &["web/memory.swap.max=max if there"]),
        (r#"{"memory":{"reservation":4096}}"#, &["memory/web/memory.soft_limit_in_bytes=4096"], &["web/memory.low=4096"]),
        (r#"{"memory":{"swappiness":-1,"checkBeforeUpdate":true}}"#, &[], &[]),
        (r#"{"memory":{"useHierarchy":true}}"#, &["memory/web/memory.use_hierarchy=1 if there"], &[]),
        (r#"{"cpu":{"shares":1024}}"#, &["cpu,cpuacct/web/cpu.shares=1024"], &["web/cpu.weight=100"]),
        (r#"{"cpu":{"quota":50000,"period":200000,"burst":1000}}"#,
            &["cpu,cpuacct/web/cpu.cfs_period_us=200000", "cpu,cpuacct/web/cpu.cfs_quota_us=50000",
              "cpu,cpuacct/web/cpu.cfs_burst_us=1000"],
            &["web/cpu.max=50000 200000", "web/cpu.max.burst=1000"]),
        (r#"{"cpu":{"quota":50000}}"#, &["cpu,cpuacct/web/cpu.cfs_quota_us=50000"], &["web/cpu.max=50000 100000"]),
        (r#"{"cpu":{"quota":-1}}"#, &["cpu,cpuacct/web/cpu.cfs_quota_us=-1"], &["web/cpu.max=max 100000"]),
        (r#"{"cpu":{"period":20000}}"#, &["cpu,cpuacct/web/cpu.cfs_period_us=20000"], &["web/cpu.max=max 20000"]),
        (r#"{"cpu":{"shares":2,"idle":1}}"#,
            &["cpu,cpuacct/web/cpu.shares=2", "cpu,cpuacct/web/cpu.idle=1"], &["web/cpu.weight=1", "web/cpu.idle=1"]),
        (r#"{"cpu":{"cpus":"0-1","mems":"0"}}"#,
            &["cpuset/web/cpuset.cpus=0-1", "cpuset/web/cpuset.mems=0"],
            &["web/cpuset.cpus=0-1", "web/cpuset.mems=0"]),
        (r#"{"pids":{"limit":100}}"#, &["pids/web/pids.max=100"], &["web/pids.max=100"]),
        (r#"{"pids":{"limit":-1}}"#, &["pids/web/pids.max=max"], &["web/pids.max=max"]),
        (r#"{"pids":{"limit":0}}"#, &["pids/web/pids.max=1"], &["web/pids.max=1"]),
        (r#"{"blockIO":{"weight":500}}"#,
            &["blkio/web/blkio.weight=500 or blkio.bfq.weight=500"], &["web/io.bfq.weight=500 or io.weight=4950"]),
        (r#"{"blockIO":{"weightDevice":[{"major":8,"minor":1,"weight":10}]}}"#,
            &["blkio/web/blkio.weight_device=8:1 10 or blkio.bfq.weight_device=8:1 10"],
            &["web/io.bfq.weight=8:1 10 or io.weight=8:1 1"]),
        (r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600},{"major":8,"minor":16,"rate":0}],
             "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":1}],
             "throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":2}],
             "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":3}]}}"#,
            &["blkio/web/blkio.throttle.read_bps_device=8:0 600;8:16 0", "blkio/web/blkio.throttle.write_bps_device=8:0 1",
              "blkio/web/blkio.throttle.read_iops_device=8:0 2", "blkio/web/blkio.throttle.write_iops_device=8:0 3"],
            &["web/io.max=8:0 rbps=600;8:16 rbps=max", "web/io.max=8:0 wbps=1", "web/io.max=8:0 riops=2",
              "web/io.max=8:0 wiops=3"]),
        (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":9}]}"#,
            &["hugetlb/web/hugetlb.2MB.limit_in_bytes=9", "hugetlb/web/hugetlb.2MB.rsvd.limit_in_bytes=9 if there"],
            &["web/hugetlb.2MB.max=9", "web/hugetlb.2MB.rsvd.max=9 if there"]),
        (r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10},"mlx4_0":{"hcaObjects":1}}}"#,
            &["rdma/web/rdma.max=mlx5_1 hca_handle=3 hca_object=10", "rdma/web/rdma.max=mlx4_0 hca_object=1"],
            &["web/rdma.max=mlx5_1 hca_handle=3 hca_object=10", "web/rdma.max=mlx4_0 hca_object=1"]),
    ];
    for (resources, v1, v2) in table {
        assert_eq!(writes(&Layout::pure_v1(), resources), *v1, "{resources}");
        assert_eq!(writes(&Layout::hybrid(), resources), *v1, "hybrid: {resources}");
        assert_eq!(writes(&Layout::pure_v2(), resources), *v2, "{resources}");
    }
}

#[test]
fn what_only_one_version_has_is_written_there_and_refused_by_the_other() {
    let (v1, v2) = (Layout::pure_v1(), Layout::pure_v2());
    #[rustfmt::skip]
    let only_v1: &[(&str, &[&str], &str)] = &[
        (r#"{"memory":{"useHierarchy":false}}"#, &["memory/web/memory.use_hierarchy=0"],
            "linux.resources.memory.useHierarchy: cgroup v2 always counts what is in the cgroups below"),
        (r#"{"memory":{"swappiness":60}}"#, &["memory/web/memory.swappiness=60"],
            "linux.resources.memory.swappiness: cgroup v2 has no swappiness"),
        (r#"{"memory":{"disableOOMKiller":true}}"#, &["memory/web/memory.oom_control=1"],
            "linux.resources.memory.disableOOMKiller: cgroup v2 can't disable the OOM killer"),
        (r#"{"cpu":{"realtimePeriod":500000,"realtimeRuntime":100}}"#,
            &["cpu,cpuacct/web/cpu.rt_period_us=500000", "cpu,cpuacct/web/cpu.rt_runtime_us=100"],
            "linux.resources.cpu.realtimeRuntime: cgroup v2 has no limits for realtime processes"),
        (r#"{"blockIO":{"leafWeight":20}}"#, &["blkio/web/blkio.leaf_weight=20"],
            "linux.resources.blockIO.leafWeight: cgroup v2 has no leaf weights"),
        (r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"leafWeight":20}]}}"#,
            &["blkio/web/blkio.leaf_weight_device=8:0 20"],
            "linux.resources.blockIO.weightDevice[0].leafWeight: cgroup v2 has no leaf weights"),
        (r#"{"network":{"classID":1048577}}"#, &["net_cls,net_prio/web/net_cls.classid=1048577"],
            "linux.resources.network.classID: no cgroup hierarchy here has the net_cls controller"),
        (r#"{"network":{"priorities":[{"name":"eth0","priority":5},{"name":"lo","priority":1}]}}"#,
            &["net_cls,net_prio/web/net_prio.ifpriomap=eth0 5;lo 1"],
            "linux.resources.network.priorities: no cgroup hierarchy here has the net_prio controller"),
    ];
    for (resources, wanted, refusal) in only_v1 {
        assert_eq!(writes(&v1, resources), *wanted, "{resources}");
        assert_eq!(error(&v2, resources), *refusal, "{resources}");
    }
    let unified =
        r#"{"unified":{"memory.high":"1\n","io.max":"8:0 rbps=1\n8:16 rbps=2","cgroup.max.depth":"3"}}"#;
    let wanted = ["web/memory.high=1", "web/io.max=8:0 rbps=1;8:16 rbps=2", "web/cgroup.max.depth=3"];
    assert_eq!(writes(&v2, unified), wanted);
    assert_eq!(error(&v1, unified), "linux.resources.unified[\"memory.high\"]: no cgroup v2 hierarchy here");
}

#[test]
fn what_cannot_be_names_its_path() {
    let (v1, v2) = (Layout::pure_v1(), Layout::pure_v2());
    let none = Layout::default();
    #[rustfmt::skip]
    let table: &[(&Layout, &str, &str)] = &[
        (&none, r#"{"memory":{"limit":1}}"#, "linux.resources.memory.limit: no cgroup hierarchy here has the memory controller"),
        (&none, r#"{"cpu":{"mems":"0"}}"#, "linux.resources.cpu.mems: no cgroup hierarchy here has the cpuset controller"),
        (&none, r#"{"blockIO":{"weight":10}}"#, "linux.resources.blockIO.weight: no cgroup hierarchy here has the blkio controller"),
        (&none, r#"{"devices":[{"allow":false,"access":"rwm"}]}"#,
            "linux.resources.devices: no cgroup hierarchy here has the devices controller"),
        (&v2, r#"{"memory":{"swap":5}}"#, "linux.resources.memory.swap: can't be set without linux.resources.memory.limit"),
        (&v1, r#"{"memory":{"limit":9,"swap":5}}"#,
            "linux.resources.memory.swap: 5 is memory and swap together, so it can't be below linux.resources.memory.limit, 9"),
        (&v1, r#"{"memory":{"limit":-2}}"#, "linux.resources.memory.limit: -2 is neither -1 nor a number of bytes"),
        (&v1, r#"{"memory":{"swappiness":101}}"#, "linux.resources.memory.swappiness: 101 is not from 0 to 100"),
        (&v1, r#"{"cpu":{"shares":1}}"#, "linux.resources.cpu.shares: 1 is not from 2 to 262144"),
        (&v2, r#"{"blockIO":{"weight":9}}"#, "linux.resources.blockIO.weight: 9 is not from 10 to 1000"),
        (&v2, r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#,
            "linux.resources.hugepageLimits[0].pageSize: \"../x\" is no page size such as 2MB"),
        (&v2, r#"{"rdma":{"m":{}}}"#, "linux.resources.rdma[\"m\"]: needs hcaHandles or hcaObjects"),
        (&v2, r#"{"unified":{"../x.y":"1"}}"#,
            "linux.resources.unified[\"../x.y\"]: expected the name of a file, CONTROLLER.PARAMETER"),
        (&v2, r#"{"unified":{"x.y":"1"}}"#, "linux.resources.unified[\"x.y\"]: the cgroup v2 hierarchy here has no x controller"),
    ];
    for (layout, resources, refusal) in table {
        assert_eq!(error(layout, resources), *refusal);
    }
}

#[test]
fn deprecated_kernel_memory_is_a_warning() {
    let (plan, writes) = planned(&Layout::pure_v2(), "", r#"{"memory":{"kernel":1,"kernelTCP":1}}"#).unwrap();
    assert_eq!((plan.warnings.len(), writes.len()), (2, 0));
    let (plan, writes) = planned(&Layout::pure_v1(), "", r#"{"memory":{"kernel":1,"kernelTCP":1}}"#).unwrap();
    assert_eq!((plan.warnings.len(), writes.len()), (1, 1));
}

#[test]
fn shares_keep_their_three_fixed_points() {
    for (shares, weight) in [
        (1, 1),
        (2, 1),
        (3, 2),
        (102, 17),
        (512, 59),
        (1024, 100),
        (2048, 174),
        (262_144, 10_000),
        (u64::MAX, 10_000),
    ] {
        assert_eq!(v2::weight_of_shares(shares), weight, "{shares}");
    }
    assert!(
        (2..262_144).all(|s| v2::weight_of_shares(s) <= v2::weight_of_shares(s + 1)),
        "more shares, never less weight"
    );
}

#[test]
fn the_path_decides_where_each_tree_holds_the_container() {
    let mut layout = Layout::hybrid();
    layout.hierarchies.retain(|t| t.version == Version::V2 || t.controllers == ["memory"]);
    layout.hierarchies[0].own = "/box".into();
    layout.hierarchies[1].own = "/user.slice/shell.scope".into();
    for (path, v1, v2) in [
        ("", "memory/box/web", "unified/user.slice/web"),
        ("a/b", "memory/box/a/b", "unified/user.slice/a/b"),
        ("/a//b/.", "memory/a/b", "unified/a/b"),
        ("/../../a", "memory/a", "unified/a"),
        ("../../a", "memory/box/a", "unified/user.slice/a"),
    ] {
        let plan = planned(&layout, path, "{}").unwrap().0;
        let top = Path::new("/sys/fs/cgroup");
        assert_eq!(plan.dirs, [top.join(v1), top.join(v2)], "{path}");
        assert_eq!((plan.enter, plan.into), (vec![top.join(v1)], Some(top.join(v2))));
    }
    for path in ["/", "..", "a/..", "tasks", "/a/cgroup.procs/b", "cgroup.x", "/notify_on_release"] {
        let error = planned(&layout, path, "{}").unwrap_err().to_string();
        assert!(error.starts_with("linux.cgroupsPath: "), "{error}");
    }
}

#[test]
fn v2_enables_what_there_is_and_insists_on_what_is_limited() {
    let plan = planned(&Layout::pure_v2(), "/a/b", r#"{"pids":{"limit":1},"unified":{"cpu.weight":"5"}}"#)
        .unwrap()
        .0;
    let enabled: Vec<_> = plan
        .pre_clone
        .iter()
        .filter_map(|s| match s {
            HostStep::EnableControllers { dir, controllers, required } => {
                Some((dir.as_path(), controllers.len(), required.join(" ")))
            }
            _ => None,
        })
        .collect();
    let row = |dir| (Path::new(dir), 8, "cpu pids".to_owned());
    assert_eq!(enabled, [row("/sys/fs/cgroup"), row("/sys/fs/cgroup/a")]);
    assert!(
        matches!(&plan.pre_clone[0], HostStep::MakeCgroup { dir } if dir == Path::new("/sys/fs/cgroup/a/b"))
    );
    assert!(
        matches!(&plan.post_clone[..], [HostStep::AttachDeviceFilter { .. }]),
        "no rules still means the default"
    );
}

#[test]
fn v1_fills_the_cpuset_around_what_is_given() {
    let steps = |resources| {
        let plan = planned(&Layout::pure_v1(), "/a/web", resources).unwrap().0;
        let name = |s: &HostStep| match s {
            HostStep::InheritCpuset { dir } => Some(format!("inherit {}", dir.display())),
            HostStep::WriteCgroup { file, .. } if file.starts_with("cpuset") => Some(file.clone()),
            _ => None,
        };
        plan.pre_clone.iter().filter_map(name).collect::<Vec<_>>()
    };
    assert_eq!(steps("{}"), ["inherit /sys/fs/cgroup/cpuset/a/web"]);
    assert_eq!(
        steps(r#"{"cpu":{"cpus":"0"}}"#),
        ["inherit /sys/fs/cgroup/cpuset/a", "cpuset.cpus", "inherit /sys/fs/cgroup/cpuset/a/web"]
    );
    assert_eq!(
        steps(r#"{"cpu":{"cpus":"0","mems":"0"}}"#),
        ["inherit /sys/fs/cgroup/cpuset/a", "cpuset.cpus", "cpuset.mems"]
    );
}
