//! The systemd cgroup driver: the container's cgroup is a scope, and systemd knows it.

use ampoule_tests::systemd::{
    WHY, args_for, create, created, forgotten, manager, runs_on_v2, shown, slice, unit,
};
use ampoule_tests::{
    Bundle, Call, Container, NO_PROC, ampoule_only, cgroups_named, is_root, pids_in, repeats, require,
    wait_for,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn with_limits(bundle: Bundle) -> Bundle {
    bundle.with(|c| {
        c["linux"]["resources"]["memory"] =
            json!({ "limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20 });
        c["linux"]["resources"]["cpu"] =
            json!({ "quota": 50_500, "period": 100_000, "shares": 512, "cpus": "0", "mems": "0" });
        c["linux"]["resources"]["pids"] = json!({ "limit": 17 });
        c["linux"]["resources"]["unified"] = json!({ "memory.high": "50M", "cgroup.max.depth": "7" });
    })
}

const FILES: [(&str, &str); 9] = [
    ("memory.max", "67108864"),
    ("memory.low", "33554432"),
    ("memory.swap.max", "33554432"),
    ("memory.high", "52428800"),
    ("cpu.weight", "59"),
    ("cpuset.cpus", "0"),
    ("cpuset.mems", "0"),
    ("pids.max", "17"),
    ("cgroup.max.depth", "7"),
];

#[test]
fn the_container_is_in_a_scope_of_its_own() {
    require!(runs_on_v2(), "systemd", named WHY);
    let container = created(Bundle::sleeping());
    let (unit, pid) = (unit(&container), container.pid());
    let dir = container.cgroups().dir("").to_owned();
    assert!(dir.ends_with(format!("{}/{unit}", slice())), "{}", dir.display());
    assert_eq!(pids_in(&dir), [pid]);
    let shown = shown(&unit);
    for (name, value) in [
        ("ActiveState", "active"),
        ("Slice", slice()),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("CollectMode", "inactive-or-failed"),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    assert!(shown["Description"].contains(&container.id));
}

/// A slice that a test has systemd make; stopped, with all below it, on drop.
struct Slice(&'static str);

impl Drop for Slice {
    fn drop(&mut self) {
        let _ = manager("systemctl").args(["stop", self.0]).status();
    }
}

#[test]
fn a_path_names_slice_prefix_and_name() {
    require!(runs_on_v2(), "systemd", named WHY);
    let _slice = Slice("ampouletest.slice");
    let mut container = Container::of(Bundle::sleeping());
    let path = format!("ampouletest-pods.slice:box:{}", container.id);
    container.bundle.config["linux"]["cgroupsPath"] = json!(path);
    create(&container).ok();
    let below = format!("ampouletest.slice/ampouletest-pods.slice/box-{}.scope", container.id);
    assert!(container.cgroups().dir("").ends_with(below));
    container.delete_force().ok();
    forgotten(&format!("box-{}.scope", container.id));
}

#[test]
fn limits_are_told_to_systemd_and_to_the_kernel() {
    require!(runs_on_v2(), "systemd", named WHY);
    // A slice of its own: whenever a neighbor comes or goes, systemd writes what it knows of a scope again.
    let slice = Slice("ampoulelimits.slice");
    let mut container = Container::of(with_limits(Bundle::sleeping()));
    let path = format!("{}:box:{}", slice.0, container.id);
    container.bundle.config["linux"]["cgroupsPath"] = json!(path);
    create(&container).ok();
    let (cgroups, shown) = (container.cgroups(), shown(&format!("box-{}.scope", container.id)));
    for (file, value) in FILES {
        assert_eq!(cgroups.read("", file), value, "{file}");
    }
    // systemd keeps whole percents, the kernel the exact quota.
    assert_eq!(cgroups.read("", "cpu.max"), "50500 100000");
    for (name, value) in [
        ("MemoryMax", "67108864"),
        ("MemoryLow", "33554432"),
        ("MemorySwapMax", "33554432"),
        ("MemoryHigh", "52428800"),
        ("CPUWeight", "59"),
        ("CPUQuotaPerSecUSec", "510ms"),
        ("AllowedCPUs", "0"),
        ("AllowedMemoryNodes", "0"),
        ("TasksMax", "17"),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
}

#[test]
fn limits_and_device_rules_outlive_a_reload_of_systemd() {
    require!(runs_on_v2(), "systemd", named WHY);
    require!(is_root(), "root", named "an ordinary user can make no device nodes");
    // A node that no rule allows: made here, so that it needs no rule to be there.
    let questions = ["open", "/dev/null", "rw", ",", "open", "/forbidden", "r", ",", "sleep", "1000"];
    let container = Container::of(with_limits(Bundle::asking(&questions)));
    let node = container.bundle.rootfs().join("forbidden");
    let (kind, mode) = (nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::from_bits_truncate(0o666));
    nix::sys::stat::mknod(&node, kind, mode, nix::sys::stat::makedev(1, 11)).expect("mknod /dev/kmsg's twin");
    create(&container).ok();
    let reloaded = manager("systemctl").arg("daemon-reload").status().expect("run systemctl");
    assert!(reloaded.success());
    // systemd writes anew what it thinks has changed.
    let other =
        manager("systemctl").args(["set-property", "--runtime", &unit(&container), "IOWeight=50"]).status();
    assert!(other.expect("run systemctl").success());
    for (file, value) in FILES {
        assert_eq!(container.cgroups().read("", file), value, "{file}");
    }
    container.start().ok();
    container.wait_output("sleeping");
    let answers = container.output().answers();
    assert_eq!(answers[..2], [json!("ok"), json!({ "error": "EPERM" })]);
}

#[test]
fn memory_is_limited_for_real() {
    require!(runs_on_v2(), "systemd", named WHY);
    let bundle = Bundle::asking(&["alloc", "64"]).with(|c| {
        c["linux"]["resources"]["memory"] = json!({ "limit": 16 << 20, "swap": 16 << 20 });
    });
    let container = Container::of(bundle);
    let outcome = container.call(&args_for(&container, "run"));
    assert_eq!(outcome.code, 137, "{outcome}");
}

#[test]
fn a_cgroup_namespace_has_the_scope_as_its_root() {
    require!(runs_on_v2(), "systemd", named WHY);
    let bundle = Bundle::asking(&["cat", "/proc/self/cgroup"]).with_namespace("cgroup");
    let container = Container::of(bundle);
    let outcome = container.call(&args_for(&container, "run")).ok();
    assert_eq!(outcome.text(), "0::/\n");
    forgotten(&unit(&container));
}

#[test]
fn the_root_of_a_user_namespace_owns_its_scope() {
    require!(runs_on_v2(), "systemd", named WHY);
    require!(is_root(), "root", named "an ordinary user's root is the user, who owns all of their cgroups");
    let bundle = Bundle::sleeping().with_user_namespace().with_namespace("cgroup").with(|c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        let cgroup = mounts.iter_mut().find(|m| m["destination"] == "/sys/fs/cgroup").unwrap();
        cgroup["options"] = json!(["nosuid", "noexec", "nodev"]);
    });
    let container = created(bundle);
    let dir = container.cgroups().dir("").to_owned();
    let owner = |file: &str| std::os::unix::fs::MetadataExt::uid(&dir.join(file).metadata().unwrap());
    assert_eq!((owner("."), owner("cgroup.procs"), owner("memory.max")), (100_000, 100_000, 0));
}

#[test]
fn delete_removes_the_scope_with_the_groups_inside() {
    require!(runs_on_v2(), "systemd", named WHY);
    for force in [false, true] {
        let container = created(Bundle::sleeping());
        container.start().ok();
        let dir = container.cgroups().dir("").to_owned();
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::write(dir.join("a/b/cgroup.procs"), container.pid().to_string()).unwrap();
        if !force {
            container.kill("KILL").ok();
            container.wait_status("stopped");
        }
        if force { container.delete_force() } else { container.delete() }.ok();
        assert_eq!(cgroups_named(&container.id), Vec::<PathBuf>::new());
        forgotten(&unit(&container));
    }
}

#[test]
fn processes_that_share_the_hosts_pids_go_with_the_scope() {
    require!(runs_on_v2(), "systemd", named WHY);
    require!(is_root(), "root", named NO_PROC);
    let bundle = Bundle::asking(&["spawn", "3", ",", "sleep", "1000"]).without_namespace("pid");
    let container = created(bundle);
    container.start().ok();
    container.wait_output("sleeping");
    let began = Instant::now();
    container.delete_force().ok();
    assert_eq!(container.leftovers(), [""; 0]);
    // systemd itself would wait for them, a minute and a half by default.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    forgotten(&unit(&container));
}

#[test]
fn a_frozen_scope_can_be_deleted() {
    require!(runs_on_v2(), "systemd", named WHY);
    let container = created(Bundle::sleeping());
    container.start().ok();
    container.cgroups().write("", "cgroup.freeze", "1");
    container.wait_status("paused");
    container.delete_force().ok();
    forgotten(&unit(&container));
}

#[test]
fn a_failed_leftover_of_the_same_name_is_reused() {
    require!(runs_on_v2(), "systemd", named WHY);
    let container = Container::of(Bundle::sleeping());
    let unit = unit(&container);
    fail_scope(&unit);
    create(&container).ok();
    assert_eq!(shown(&unit)["ActiveState"], "active");
    container.delete_force().ok();
    forgotten(&unit);
}

#[test]
fn delete_makes_systemd_forget_a_container_that_failed() {
    require!(runs_on_v2(), "systemd", named WHY);
    ampoule_only!("its scope's name is ours");
    let bundle = Bundle::sleeping().with(|c| {
        c["annotations"] = json!({
            "org.systemd.property.RuntimeMaxSec": "2",
            "org.systemd.property.CollectMode": "'inactive'",
        });
    });
    let container = created(bundle);
    container.start().ok();
    wait_for("the scope to fail", || shown(&unit(&container))["ActiveState"] == "failed");
    container.wait_status("stopped");
    container.delete().ok();
    forgotten(&unit(&container));
}

/// Leaves a scope behind whose time ran out, and that is kept for somebody to see.
fn fail_scope(unit: &str) {
    let limits = ["--property=RuntimeMaxSec=1", "--property=CollectMode=inactive"];
    let run = manager("systemd-run")
        .args(["--scope", "--quiet", "--unit", unit])
        .args(limits)
        .args(["sleep", "60"])
        .stderr(Stdio::null())
        .status();
    run.expect("run systemd-run");
    wait_for("the scope to fail", || shown(unit)["ActiveState"] == "failed");
}

#[test]
fn annotations_set_properties_of_the_scope() {
    require!(runs_on_v2(), "systemd", named WHY);
    let bundle = Bundle::sleeping().with(|c| {
        c["annotations"] = json!({
            "org.systemd.property.TimeoutStopSec": "7",
            "org.systemd.property.After": "['dbus.socket']",
            "org.systemd.property.DefaultDependencies": "true",
        });
    });
    let container = created(bundle);
    let shown = shown(&unit(&container));
    assert_eq!(shown["TimeoutStopUSec"], "7s");
    assert!(shown["After"].contains("dbus.socket"), "{}", shown["After"]);
    assert_eq!(shown["DefaultDependencies"], "yes");
}

#[test]
fn a_create_that_fails_later_takes_the_scope_back() {
    require!(runs_on_v2(), "systemd", named WHY);
    let container = Container::of(Bundle::asking(&["cwd"]).with(|c| c["process"]["args"] = json!(["/nope"])));
    create(&container).fails().saying("/nope");
    assert_eq!(container.leftovers(), [""; 0]);
    forgotten(&unit(&container));
}

#[test]
fn create_can_be_killed_at_any_moment() {
    require!(runs_on_v2(), "systemd", named WHY);
    let moments = repeats(20).max(5) as u32;
    let spawn = |container: &Container| -> Call {
        container.spawn(container.command(&args_for(container, "create")), "create-killed")
    };
    let began = Instant::now();
    spawn(&Container::of(Bundle::sleeping())).finish().ok();
    let whole = began.elapsed();
    for moment in 0..moments {
        let container = Container::of(Bundle::sleeping());
        let call = spawn(&container);
        std::thread::sleep(whole * moment / moments);
        call.signal(Signal::SIGKILL);
        call.finish();
        container.delete_force().ok();
        assert_eq!(container.leftovers(), [""; 0], "killed at {moment}/{moments} of {whole:?}");
        forgotten(&unit(&container));
    }
}

#[test]
fn plan_shows_the_scope() {
    ampoule_only!("plan is ours");
    let container = Container::of(with_limits(Bundle::sleeping()));
    container.bundle.write();
    let bundle = container.bundle.path().to_str().unwrap();
    let call = ["--cgroup-manager=systemd", "plan", "--host", "v2", "--json", "--bundle", bundle, "web"];
    let plan: Value = serde_json::from_str(&container.call(&call).ok().stdout).unwrap();
    assert_eq!(
        plan["recorded"]["scope"],
        json!({ "unit": "ampoule-web.scope", "slice": "system.slice", "user": false })
    );
    assert_eq!(plan["recorded"]["cgroups"], json!(["/sys/fs/cgroup/system.slice/ampoule-web.scope"]));
}

#[test]
fn a_user_namespace_without_a_cgroup_namespace_sees_its_scope() {
    require!(runs_on_v2(), "systemd", named WHY);
    let questions = ["cat", "/sys/fs/cgroup/pids.max", ",", "write", "/sys/fs/cgroup/pids.max", "max"];
    let bundle = with_limits(Bundle::asking(&questions)).with_user_namespace();
    let container = Container::of(bundle);
    let answers = container.call(&args_for(&container, "run")).ok().answers();
    // The file is the host's root's, and the mount is read-only besides: all that holds who is an ordinary user's root.
    let error = if is_root() { "EACCES" } else { "EROFS" };
    assert_eq!(answers, [json!("17\n"), json!({ "error": error })]);
}

#[test]
fn exec_pause_and_resume_work_in_a_scope() {
    require!(runs_on_v2(), "systemd", named WHY);
    let container = created(Bundle::sleeping());
    container.start().ok();
    let exec = container.call(&["exec", &container.id, "/bin/probe", "cat", "/proc/self/cgroup"]).ok();
    assert!(exec.text().trim_end().ends_with(&format!("{}/{}", slice(), unit(&container))), "{exec}");
    container.call(&["pause", &container.id]).ok();
    assert_eq!(container.status(), "paused");
    container.call(&["resume", &container.id]).ok();
    assert_eq!(container.status(), "running");
}

#[test]
fn an_update_outlives_a_reload_of_systemd() {
    require!(runs_on_v2(), "systemd", named WHY);
    let container = created(with_limits(Bundle::sleeping()));
    container
        .call(&["update", "--memory=134217728", "--memory-swap=167772160", "--pids-limit=23", &container.id])
        .ok();
    let shown = shown(&unit(&container));
    assert_eq!((&*shown["MemoryMax"], &*shown["TasksMax"]), ("134217728", "23"));
    assert!(manager("systemctl").arg("daemon-reload").status().expect("run systemctl").success());
    let cgroups = container.cgroups();
    for (file, value) in [("memory.max", "134217728"), ("pids.max", "23"), ("cpu.weight", "59")] {
        assert_eq!(cgroups.read("", file), value, "{file}");
    }
}
