//! `update`: other limits for a container that is there.

use ampoule_tests::{Bundle, Container, Engine, ampoule_only, has_cgroup_v1, require};
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
    if Engine::get().is_ampoule() {
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
    if Engine::get().is_ampoule() {
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
