//! `update`: other limits for a container that is there.

use ampoule_tests::{
    Bundle, Container, Runtime, ampoule_only, has_cgroup_v1, has_cgroup_v1_file, has_cgroup_v2_controller,
    require,
};
use serde_json::json;
use std::fs;

fn running() -> Container {
    let container = Container::of(Bundle::sleeping().with(|c| {
        c["linux"]["resources"]["pids"] = json!({ "limit": 50 });
    }));
    container.launch();
    container
}

fn update(container: &Container, flags: &[&str]) -> ampoule_tests::Outcome {
    let mut args = vec!["update"];
    args.extend(flags);
    args.push(&container.id);
    container.call(&args)
}

#[test]
fn flags_change_what_they_name_and_leave_the_rest() {
    require!(has_cgroup_v1("memory"), "v1 memory, cpu and pids", named "a v2 host has them elsewhere");
    let container = running();
    let limits = ["--memory", "67108864", "--memory-reservation", "33554432", "--cpu-share", "512"];
    update(&container, &limits).ok();
    update(&container, &["--cpu-period", "50000", "--cpu-quota", "25000"]).ok();
    let cgroups = container.cgroups();
    assert_eq!(cgroups.read("memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(cgroups.read("memory", "memory.soft_limit_in_bytes"), "33554432");
    assert_eq!(cgroups.read("cpu", "cpu.shares"), "512");
    assert_eq!(cgroups.read("cpu", "cpu.cfs_period_us"), "50000");
    assert_eq!(cgroups.read("cpu", "cpu.cfs_quota_us"), "25000");
    assert_eq!(cgroups.read("pids", "pids.max"), "50");
    update(&container, &["--pids-limit", "-1", "--cpu-quota", "-1"]).ok();
    assert_eq!(cgroups.read("pids", "pids.max"), "max");
    assert_eq!(cgroups.read("cpu", "cpu.cfs_quota_us"), "-1");
}

#[test]
fn on_v2_the_files_are_v2s() {
    require!(
        ampoule_tests::has_cgroup_v2_controller("memory"),
        "v2 memory, cpu and pids",
        named "a hybrid host gives them to v1"
    );
    let container = running();
    update(&container, &["--memory", "67108864", "--memory-swap", "100663296", "--pids-limit", "70"]).ok();
    update(&container, &["--cpu-period", "50000", "--cpu-quota", "25000", "--cpu-share", "512"]).ok();
    let cgroups = container.cgroups();
    assert_eq!(cgroups.read("", "memory.max"), "67108864");
    assert_eq!(cgroups.read("", "memory.swap.max"), "33554432");
    assert_eq!(cgroups.read("", "pids.max"), "70");
    assert_eq!(cgroups.read("", "cpu.max"), "25000 50000");
    let weight = cgroups.read("", "cpu.weight");
    assert!(weight == "59" || weight == "20", "{weight}: neither the newer nor the older conversion");
}

#[test]
fn every_other_flag_reaches_its_file_on_v1() {
    ampoule_only!("runc 1.1 knows neither burst nor idle");
    require!(has_cgroup_v1("memory"), "v1 memory, cpu and cpuset", named "a v2 host has them elsewhere");
    let container = running();
    let cgroups = container.cgroups();
    let told =
        update(&container, &["--memory", "64m", "--kernel-memory", "32m", "--kernel-memory-tcp", "4m"]).ok();
    // Linux 5.16 took the one of them away.
    assert!(told.stderr.contains("linux.resources.memory.kernel: ignored"), "{told}");
    assert_eq!(cgroups.read("memory", "memory.limit_in_bytes"), (64 << 20).to_string());
    assert_eq!(cgroups.read("memory", "memory.kmem.tcp.limit_in_bytes"), (4 << 20).to_string());
    update(&container, &["--cpuset-cpus", "0", "--cpuset-mems", "0"]).ok();
    assert_eq!(
        (cgroups.read("cpuset", "cpuset.cpus"), cgroups.read("cpuset", "cpuset.mems")),
        ("0".into(), "0".into())
    );
    update(&container, &["--cpu-quota", "50000", "--cpu-burst", "20000"]).ok();
    assert_eq!(cgroups.read("cpu", "cpu.cfs_burst_us"), "20000");
    update(&container, &["--cpu-quota", "-1", "--cpu-burst", "0", "--cpu-idle", "1"]).ok();
    assert_eq!(cgroups.read("cpu", "cpu.idle"), "1");
}

#[test]
fn the_realtime_flags_reach_their_files() {
    let known = has_cgroup_v1_file("cpu", "cpu.rt_period_us");
    require!(known, "realtime groups on v1", named "Debian's kernels have none (RT_GROUP_SCHED)");
    let container = running();
    update(&container, &["--cpu-rt-period", "500000", "--cpu-rt-runtime", "0"]).ok();
    assert_eq!(container.cgroups().read("cpu", "cpu.rt_period_us"), "500000");
    assert_eq!(container.cgroups().read("cpu", "cpu.rt_runtime_us"), "0");
}

#[test]
fn every_other_flag_reaches_its_file_on_v2() {
    ampoule_only!("runc 1.1 knows neither burst nor idle");
    let all = ["memory", "cpu", "cpuset"].iter().all(|c| has_cgroup_v2_controller(c));
    require!(all, "v2 memory, cpu and cpuset", named "a hybrid host gives them to v1");
    let container = running();
    let cgroups = container.cgroups();
    let told =
        update(&container, &["--memory", "64m", "--memory-reservation", "32m", "--kernel-memory", "1g"]).ok();
    assert!(told.stderr.contains("linux.resources.memory.kernel: ignored"), "{told}");
    assert_eq!(cgroups.read("", "memory.max"), (64 << 20).to_string());
    assert_eq!(cgroups.read("", "memory.low"), (32 << 20).to_string());
    update(&container, &["--cpuset-cpus", "0", "--cpuset-mems", "0"]).ok();
    assert_eq!((cgroups.read("", "cpuset.cpus"), cgroups.read("", "cpuset.mems")), ("0".into(), "0".into()));
    update(&container, &["--cpu-quota", "50000", "--cpu-burst", "20000"]).ok();
    assert_eq!(cgroups.read("", "cpu.max.burst"), "20000");
    update(&container, &["--cpu-quota", "-1", "--cpu-burst", "0", "--cpu-idle", "1"]).ok();
    assert_eq!(cgroups.read("", "cpu.idle"), "1");
}

#[test]
fn the_block_io_weight_reaches_its_file() {
    let container = running();
    let cgroups = container.cgroups();
    let file = if has_cgroup_v1("blkio") { "blkio.bfq.weight" } else { "io.bfq.weight" };
    let there = cgroups.dir("blkio").join(file).exists();
    require!(there, "BFQ's weights", named "this kernel has not loaded bfq");
    update(&container, &["--blkio-weight", "300"]).ok();
    assert_eq!(cgroups.read("blkio", file).trim_start_matches("default "), "300");
}

#[test]
fn shares_of_cache_and_bandwidth_want_a_resctrl_filesystem() {
    ampoule_only!("runc 1.1 says it in other words");
    let there = std::path::Path::new("/sys/fs/resctrl/schemata").exists();
    require!(!there, "a host without resctrl", named "with one, what is planned is carried out");
    let container = running();
    for flag in [["--l3-cache-schema", "L3:0=f"], ["--mem-bw-schema", "MB:0=50"]] {
        update(&container, &flag).fails().saying("linux.intelRdt: there is no resctrl filesystem");
    }
    update(&container, &["--memory", "64 parsecs"]).fails().saying("--memory");
}

#[test]
fn limits_can_come_from_a_file_or_stdin() {
    let container = running();
    let file = container.bundle.beside("limits.json");
    fs::write(&file, r#"{"pids":{"limit":60}}"#).unwrap();
    let pids = || {
        let cgroups = container.cgroups();
        cgroups.read(if has_cgroup_v1("pids") { "pids" } else { "" }, "pids.max")
    };
    update(&container, &["--resources", file.to_str().unwrap()]).ok();
    assert_eq!(pids(), "60");
    let mut command = container.command(&["update", "-r", "-", &container.id]);
    command.stdin(fs::File::open(&file).unwrap());
    fs::write(&file, r#"{"pids":{"limit":61}}"#).unwrap();
    container.spawn(command, "update-stdin").finish().ok();
    assert_eq!(pids(), "61");
    fs::write(&file, r#"{"pids":{"limit":"many"}}"#).unwrap();
    let outcome = update(&container, &["--resources", file.to_str().unwrap()]).fails();
    if Runtime::get().is_ampoule() {
        outcome.saying("pids.limit");
    }
    update(&container, &["--resources", "/no/such/file"]).fails().saying("/no/such/file");
}

#[test]
fn memory_and_swap_grow_and_shrink_together() {
    require!(has_cgroup_v1("memory"), "v1 memory", named "v2 limits swap on its own");
    let container = running();
    let cgroups = container.cgroups();
    let counts_swap = cgroups.dir("memory").join("memory.memsw.limit_in_bytes").exists();
    require!(counts_swap, "swap accounting", named "it is a boot option");
    for megabytes in [64, 128, 32, 256_u64] {
        let bytes = (megabytes << 20).to_string();
        update(&container, &["--memory", &bytes, "--memory-swap", &bytes]).ok();
        assert_eq!(cgroups.read("memory", "memory.limit_in_bytes"), bytes);
        assert_eq!(cgroups.read("memory", "memory.memsw.limit_in_bytes"), bytes);
    }
}

#[test]
fn a_limit_below_what_is_in_use_can_be_refused_beforehand() {
    ampoule_only!("runc 1.1 knows no checkBeforeUpdate");
    let container = running();
    let file = container.bundle.beside("limits.json");
    fs::write(&file, r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#).unwrap();
    let outcome = update(&container, &["--resources", file.to_str().unwrap()]).fails();
    outcome.saying("rejecting memory limit");
    assert_eq!(container.status(), "running");
}

#[test]
fn a_limit_that_cannot_be_is_an_error_that_names_it() {
    ampoule_only!("runc 1.1 leaves a weight out where the kernel has none, whatever it is");
    let container = running();
    update(&container, &["--blkio-weight", "5"]).fails().saying("linux.resources.blockIO.weight");
    assert_eq!(container.status(), "running");
}

#[test]
fn a_container_that_is_gone_or_stopped_takes_no_limits() {
    let container = Container::of(Bundle::asking(&["cwd"]));
    container.bundle.write();
    update(&container, &["--pids-limit", "5"]).fails().saying("does not exist");
    container.launch();
    container.wait_status("stopped");
    let outcome = update(&container, &["--pids-limit", "5"]);
    if Runtime::get().is_ampoule() {
        outcome.fails().saying("container not running");
    }
}

#[test]
fn a_paused_container_takes_limits() {
    let container = running();
    container.call(&["pause", &container.id]).ok();
    update(&container, &["--pids-limit", "77"]).ok();
    assert_eq!(container.status(), "paused");
    container.call(&["resume", &container.id]).ok();
}
