//! A deleted container has no cgroup, whatever was in it.

use ampoule_tests::{
    Bundle, Cgroups, Container, Layout, NO_PROC, ON_V2, Runtime, ampoule_only, cgroups_named, has_cgroup_v1,
    has_cgroup_v2_controller, has_only_cgroup_v2, is_root, met, pids_in,
};
use ampoule_tests::{require, wait_for};
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn launched(layout: Layout, bundle: Bundle) -> (Container, Cgroups) {
    let container = Container::on(layout, bundle);
    container.launch();
    container.wait_output("sleeping");
    let cgroups = container.cgroups();
    (container, cgroups)
}

fn gone(container: &Container) {
    assert_eq!(cgroups_named(&container.id), Vec::<PathBuf>::new());
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn delete_removes_every_cgroup() {
    for layout in Layout::all() {
        let (container, _) = launched(layout, Bundle::sleeping());
        assert!(!cgroups_named(&container.id).is_empty());
        container.kill("KILL").ok();
        container.wait_status("stopped");
        container.delete().ok();
        gone(&container);
    }
}

#[test]
fn forced_delete_ends_processes_that_have_lost_their_parent() {
    require!(is_root(), "root", named NO_PROC);
    for layout in Layout::all() {
        let why = "runc 1.1 kills through the cgroup only while its init lives on v2";
        if (layout == Layout::PureV2 || has_only_cgroup_v2())
            && !met(Runtime::get().is_ampoule(), "the orphans' end", Some(why))
        {
            continue;
        }
        // In the host's pid namespace they survive their init; but whose proc an ordinary user can't mount.
        let bundle = Bundle::asking(&["spawn", "3", ",", "sleep", "1000"]).without_namespace("pid");
        let (container, cgroups) = launched(layout, bundle);
        let dir = cgroups.dir(if layout == Layout::Host { "pids" } else { "" }).to_owned();
        assert_eq!(pids_in(&dir).len(), 4);
        let init = nix::unistd::Pid::from_raw(container.pid());
        nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL).unwrap();
        container.wait_status("stopped");
        assert_eq!(pids_in(&dir).len(), 3);
        container.delete_force().ok();
        gone(&container);
    }
}

/// v2's cgroup.kill catches what forks meanwhile, and v1's freezer holds it still.
#[test]
fn forced_delete_ends_processes_that_are_others_by_the_time_they_are_killed() {
    require!(is_root(), "root", named NO_PROC);
    for layout in Layout::all() {
        let why = "runc 1.1 leaves a v2 cgroup whose processes are not gone at once";
        let v2 = layout == Layout::PureV2 || has_only_cgroup_v2();
        if v2 && !met(Runtime::get().is_ampoule(), "the cgroup's end", Some(why)) {
            continue;
        }
        let bundle = Bundle::asking(&["breed", "4", ",", "sleep", "1000"]).without_namespace("pid");
        let (container, cgroups) = launched(layout, bundle);
        let dir = cgroups.dir(if layout == Layout::Host { "pids" } else { "" }).to_owned();
        let before = pids_in(&dir);
        wait_for("others", || pids_in(&dir).iter().filter(|pid| !before.contains(pid)).count() >= 4);
        container.delete_force().ok();
        gone(&container);
    }
}

#[test]
fn forced_delete_without_a_pid_namespace_ends_a_foreign_process_in_the_cgroup() {
    require!(is_root(), "root", named NO_PROC);
    ampoule_only!("runc 1.1 ends it, but leaves the v2 cgroup on a hybrid host");
    for layout in Layout::all() {
        let (container, cgroups) = launched(layout, Bundle::sleeping().without_namespace("pid"));
        let mut foreign = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
        for dir in cgroups.dirs().filter(|dir| dir.to_string_lossy().contains(&container.id)) {
            fs::write(dir.join("cgroup.procs"), foreign.id().to_string()).unwrap();
        }
        let deleted = container.delete_force();
        let _ = foreign.kill();
        let _ = foreign.wait();
        deleted.ok();
        gone(&container);
    }
}

#[test]
fn forced_delete_works_on_a_frozen_container_on_v1() {
    require!(has_cgroup_v1("freezer"), "the v1 freezer", named ON_V2);
    let (container, cgroups) = launched(Layout::Host, Bundle::sleeping());
    cgroups.write("freezer", "freezer.state", "FROZEN");
    wait_for("the freeze", || cgroups.read("freezer", "freezer.state") == "FROZEN");
    container.delete_force().ok();
    gone(&container);
}

#[test]
fn forced_delete_works_on_a_frozen_container_on_v2() {
    let (container, cgroups) = launched(Layout::PureV2, Bundle::sleeping());
    cgroups.write("", "cgroup.freeze", "1");
    wait_for("the freeze", || cgroups.read("", "cgroup.events").contains("frozen 1"));
    assert_eq!(container.status(), "paused");
    container.delete_force().ok();
    gone(&container);
}

#[test]
fn forced_delete_ends_a_large_process_that_has_no_cpu_time_left() {
    let has_cpu = has_cgroup_v1("cpu") || has_cgroup_v2_controller("cpu");
    require!(has_cpu, "a cpu controller");
    ampoule_only!("runc leaves it the millisecond a second that it has");
    let bundle = Bundle::asking(&["alloc", "200", ",", "sleep", "1000"]);
    let (container, cgroups) = launched(Layout::Host, bundle);
    if has_cgroup_v1("cpu") {
        cgroups.write("cpu", "cpu.cfs_period_us", "1000000");
        cgroups.write("cpu", "cpu.cfs_quota_us", "1000");
    } else {
        cgroups.write("cpu", "cpu.max", "1000 1000000");
    }
    container.delete_force().ok();
    gone(&container);
}

#[test]
fn forced_delete_removes_nested_groups_with_processes_inside() {
    for layout in Layout::all() {
        let bundle = Bundle::asking(&["spawn", "2", ",", "sleep", "1000"]);
        let (container, cgroups) = launched(layout, bundle);
        let all: Vec<_> =
            cgroups.dirs().filter(|d| d.to_string_lossy().contains(&container.id)).cloned().collect();
        assert!(!all.is_empty());
        for dir in all {
            let deep = dir.join("nested/deeper");
            fs::create_dir_all(&deep).unwrap();
            fs::create_dir(dir.join("empty")).unwrap();
            let child = pids_in(&dir).into_iter().find(|p| *p != container.pid()).unwrap();
            if dir.starts_with("/sys/fs/cgroup/cpuset") {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let value = fs::read_to_string(dir.join(file)).unwrap();
                    fs::write(dir.join("nested").join(file), &value).unwrap();
                    fs::write(deep.join(file), &value).unwrap();
                }
            }
            fs::write(deep.join("cgroup.procs"), child.to_string()).unwrap();
        }
        container.delete_force().ok();
        gone(&container);
    }
}

#[test]
fn a_frozen_nested_group_is_thawed_and_removed() {
    ampoule_only!("runc 1.1 thaws the top group only, and then waits in vain");
    require!(has_cgroup_v1("freezer"), "the v1 freezer", named ON_V2);
    let (container, cgroups) = launched(Layout::Host, Bundle::asking(&["spawn", "1", ",", "sleep", "1000"]));
    let nested = cgroups.dir("freezer").join("nested");
    fs::create_dir(&nested).unwrap();
    let child = pids_in(cgroups.dir("freezer")).into_iter().find(|p| *p != container.pid()).unwrap();
    fs::write(nested.join("cgroup.procs"), child.to_string()).unwrap();
    fs::write(nested.join("freezer.state"), "FROZEN").unwrap();
    let outcome = container.delete_force();
    // For the clean-up, whatever comes of the test: a frozen process cannot be killed on v1.
    let _ = fs::write(nested.join("freezer.state"), "THAWED");
    outcome.ok();
    gone(&container);
}

#[test]
fn a_failed_create_leaves_no_cgroup() {
    for layout in Layout::all() {
        let bundle = Bundle::sleeping()
            .adding("/mounts", json!({ "destination": "/x", "type": "nosuchfs", "source": "x" }));
        let container = Container::on(layout, bundle);
        container.create().fails();
        gone(&container);
    }
}

#[test]
fn run_leaves_no_cgroup() {
    for layout in Layout::all() {
        let container = Container::on(layout, Bundle::asking(&["cwd"]));
        container.run().ok();
        gone(&container);
    }
}
