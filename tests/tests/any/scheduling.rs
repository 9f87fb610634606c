//! When a process gets processors and disks, where its memory lies, and what machine it sees.

use ampoule_tests::{Bundle, Container, ampoule_only, field, is_root, require};
use serde_json::{Value, json};

const NEWER: &str = "Debian's runc and crun are older than the property";

fn asked(questions: &[&str], edit: impl FnOnce(&mut Value)) -> Container {
    Container::of(Bundle::asking(questions).with(edit))
}

/// Nice value and policy of a line of `/proc/PID/stat` (proc(5), fields 19 and 41).
fn nice_and_policy(stat: &str) -> (i32, u32) {
    let rest: Vec<_> = stat.rsplit_once(") ").expect("a stat line").1.split(' ').collect();
    (rest[19 - 3].parse().unwrap(), rest[41 - 3].parse().unwrap())
}

#[test]
fn the_scheduler_has_policy_nice_value_and_flags() {
    ampoule_only!(NEWER);
    const GET: &str = "145"; // sched_getscheduler(2) on x86-64
    require!(cfg!(target_arch = "x86_64"), "an x86-64", named "system calls have other numbers elsewhere");
    let container = asked(&["cat", "/proc/self/stat", ",", "syscall", GET, "0"], |c| {
        c["process"]["scheduler"] =
            json!({ "policy": "SCHED_BATCH", "nice": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
    });
    let answers = container.run().ok().answers();
    assert_eq!(nice_and_policy(answers[0].as_str().unwrap()), (7, 3));
    assert_eq!(answers[1], 3 | 0x4000_0000);
}

#[test]
fn exec_has_a_scheduler_of_its_own() {
    ampoule_only!(NEWER);
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let mut process = container.bundle.config["process"].clone();
    process["args"] = json!(["/bin/probe", "cat", "/proc/self/stat"]);
    process["scheduler"] = json!({ "policy": "SCHED_IDLE" });
    let file = container.bundle.beside("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let outcome = container.call(&["exec", "--process", file.to_str().unwrap(), &container.id]).ok();
    // SCHED_IDLE leaves the nice value as it was.
    assert_eq!(nice_and_policy(&outcome.text()).1, 5);
}

#[test]
fn a_real_time_policy_has_a_priority() {
    ampoule_only!(NEWER);
    let may = std::process::Command::new("chrt").args(["--fifo", "1", "true"]).output();
    require!(may.is_ok_and(|o| o.status.success()), "real-time scheduling", named "a cgroup of CI may have none");
    let container = asked(&["cat", "/proc/self/stat"], |c| {
        c["process"]["scheduler"] = json!({ "policy": "SCHED_RR", "priority": 3 });
        c["linux"]["resources"] = json!({});
    });
    let outcome = container.run();
    if outcome.code == 0 {
        assert_eq!(nice_and_policy(&outcome.text()).1, 2);
    } else {
        // CONFIG_RT_GROUP_SCHED: a v1 cgroup without realtimeRuntime has no real-time tasks.
        outcome.fails().saying("process.scheduler").saying("SCHED_RR");
    }
}

#[test]
fn the_io_priority_is_set() {
    ampoule_only!(NEWER);
    require!(cfg!(target_arch = "x86_64"), "an x86-64", named "system calls have other numbers elsewhere");
    let get = ["syscall", "252", "1", "0"]; // ioprio_get(IOPRIO_WHO_PROCESS, 0)
    for (class, priority, value) in [
        ("IOPRIO_CLASS_RT", 0, 1 << 13),
        ("IOPRIO_CLASS_BE", 6, 2 << 13 | 6),
        ("IOPRIO_CLASS_IDLE", 0, 3 << 13),
    ] {
        // The first is root's alone.
        if value == 1 << 13 && !is_root() {
            continue;
        }
        let container = asked(&get, |c| {
            c["process"]["ioPriority"] = json!({ "class": class, "priority": priority });
        });
        assert_eq!(container.run().ok().answer(), value, "{class}");
    }
}

#[test]
fn a_32_bit_personality_shows_a_32_bit_machine() {
    ampoule_only!(NEWER);
    require!(cfg!(target_arch = "x86_64"), "an x86-64", named "other machines have other names");
    for (domain, machine) in [("LINUX", "x86_64"), ("LINUX32", "i686")] {
        let container = asked(&["uname"], |c| c["linux"]["personality"] = json!({ "domain": domain }));
        assert_eq!(container.run().ok().answer()["machine"], machine);
    }
}

#[test]
fn the_memory_policy_decides_where_memory_comes_from() {
    ampoule_only!(NEWER);
    let numa = std::path::Path::new("/proc/self/numa_maps").exists();
    require!(numa, "a kernel with CONFIG_NUMA", named "small machines' kernels do without");
    let policy = |policy: Value| {
        let container = asked(&["cat", "/proc/self/numa_maps"], |c| c["linux"]["memoryPolicy"] = policy);
        container.run().ok().text()
    };
    let bound = policy(json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }));
    assert!(bound.contains(" bind=static:0 "), "{bound}");
    let local = policy(json!({ "mode": "MPOL_LOCAL" }));
    assert!(local.contains(" local "), "{local}");
}

#[test]
fn every_memory_policy_that_features_lists_is_taken() {
    ampoule_only!(NEWER);
    let features = asked(&["cwd"], |_| ()).call(&["features"]).ok().stdout;
    let features: Value = serde_json::from_str(&features).unwrap();
    let list = |name: &str| features["linux"]["memoryPolicy"][name].as_array().unwrap().clone();
    for mode in list("modes") {
        let needs_none = mode == "MPOL_DEFAULT" || mode == "MPOL_LOCAL";
        let nodes = if needs_none { "" } else { "0" };
        let policy = json!({ "mode": mode, "nodes": nodes });
        asked(&["cwd"], |c| c["linux"]["memoryPolicy"] = policy).run().ok();
    }
    for flag in list("flags") {
        let policy = json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": [flag] });
        asked(&["cwd"], |c| c["linux"]["memoryPolicy"] = policy).run().ok();
    }
}

#[test]
fn exec_runs_on_the_processors_that_the_document_gives_it_and_the_init_does_not() {
    ampoule_only!(NEWER);
    let own = field(&std::fs::read_to_string("/proc/self/status").unwrap(), "Cpus_allowed_list");
    require!(own.starts_with("0-"), "processors 0 and 1", named "a machine may have one");
    let on = |affinity: Value| {
        let container =
            Container::of(Bundle::sleeping().with(|c| c["process"]["execCPUAffinity"] = affinity));
        container.launch();
        let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
        assert_eq!(field(&status, "Cpus_allowed_list"), own, "the init's");
        let outcome = container.call(&["exec", &container.id, "/bin/probe", "cat", "/proc/self/status"]).ok();
        field(&outcome.text(), "Cpus_allowed_list")
    };
    assert_eq!(on(json!({ "initial": "0", "final": "1" })), "1");
    assert_eq!(on(json!({ "final": "0" })), "0");
}

#[test]
fn what_no_kernel_could_do_is_refused_before_anything_is_made() {
    ampoule_only!(NEWER);
    let cases = [
        ("/process/scheduler", json!({}), "process.scheduler.policy: missing"),
        ("/process/scheduler", json!({ "policy": "SCHED_FOO" }), "process.scheduler.policy: \"SCHED_FOO\""),
        ("/process/scheduler", json!({ "policy": "SCHED_ISO" }), "SCHED_ISO"),
        ("/process/scheduler", json!({ "policy": "SCHED_OTHER", "nice": 20 }), "process.scheduler.nice: 20"),
        ("/process/scheduler", json!({ "policy": "SCHED_RR" }), "process.scheduler.priority: 0"),
        (
            "/process/scheduler",
            json!({ "policy": "SCHED_BATCH", "priority": 1 }),
            "process.scheduler.priority: 1",
        ),
        (
            "/process/scheduler",
            json!({ "policy": "SCHED_OTHER", "runtime": 9 }),
            "process.scheduler.runtime: 9",
        ),
        (
            "/process/scheduler",
            json!({ "policy": "SCHED_DEADLINE", "runtime": 9 }),
            "process.scheduler.deadline",
        ),
        (
            "/process/scheduler",
            json!({ "policy": "SCHED_OTHER", "flags": ["X"] }),
            "process.scheduler.flags[0]",
        ),
        ("/process/ioPriority", json!({ "class": "RT" }), "process.ioPriority.class: \"RT\""),
        (
            "/process/ioPriority",
            json!({ "class": "IOPRIO_CLASS_RT", "priority": 8 }),
            "process.ioPriority.priority",
        ),
        ("/process/execCPUAffinity", json!({ "initial": "3-1" }), "process.execCPUAffinity.initial"),
        ("/process/execCPUAffinity", json!({ "final": "x" }), "process.execCPUAffinity.final"),
        ("/linux/personality", json!({ "domain": "LINUX64" }), "linux.personality.domain"),
        ("/linux/personality", json!({ "domain": "LINUX", "flags": ["X"] }), "linux.personality.flags[0]"),
        ("/linux/memoryPolicy", json!({ "mode": "MPOL_X" }), "linux.memoryPolicy.mode"),
        ("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND" }), "linux.memoryPolicy.nodes: missing"),
        ("/linux/memoryPolicy", json!({ "mode": "MPOL_LOCAL", "nodes": "0" }), "linux.memoryPolicy.nodes"),
        ("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "1024" }), "linux.memoryPolicy.nodes"),
    ];
    for (pointer, value, said) in cases {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let container = asked(&["cwd"], |c| c.pointer_mut(parent).unwrap()[key] = value);
        container.run().fails().saying(said);
        assert_eq!(container.leftovers(), [""; 0]);
    }
}
