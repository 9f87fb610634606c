//! Hooks: when each kind runs, where, and with what.

use ampoule_tests::{Bundle, Container, Runtime, ampoule_only, ignore_signal};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;

/// The kinds, in the order of the container's life.
const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Whether the hook runs in the container's root, and so must be found there.
fn runs_inside(kind: &str) -> bool {
    kind == "startContainer"
}

/// A writable bundle with a recording hook of each kind; the records go to `rootfs/hooks`.
fn recorded(questions: &[&str]) -> Bundle {
    let bundle = Bundle::asking(questions).writable().with_dir("/bin");
    let host = bundle.rootfs();
    KINDS.iter().fold(bundle.with(|c| c["hooks"] = json!({})), |bundle, kind| {
        let (program, file) = if runs_inside(kind) {
            ("/bin/probe".into(), "/hooks".into())
        } else {
            (host.join("bin/probe"), host.join("hooks"))
        };
        let hook = json!({ "path": program, "args": ["the-hook", "hook", kind, file], "env": ["ONLY=this"] });
        bundle.adding(&format!("/hooks/{kind}"), hook)
    })
}

/// What the hooks have recorded so far.
fn records(container: &Container) -> Vec<Value> {
    let text = fs::read_to_string(container.bundle.rootfs().join("hooks")).unwrap_or_default();
    text.lines().map(|l| serde_json::from_str(l).expect("a record")).collect()
}

fn kinds(container: &Container) -> Vec<String> {
    records(container).iter().map(|r| r["hook"].as_str().unwrap().to_owned()).collect()
}

fn record(container: &Container, kind: &str) -> Value {
    let all = records(container);
    all.iter().find(|r| r["hook"] == kind).unwrap_or_else(|| panic!("{kind} did not run: {all:#?}")).clone()
}

/// Such as a shell, a CI system or an engine leaves open; runc closes them, too.
#[test]
fn a_hook_gets_neither_what_the_caller_left_open_nor_what_the_payload_is_to_have() {
    let container = Container::of(recorded(&["sleep", "1000"]));
    let inner = container.command(&container.args_for("create", &["--preserve-fds", "1"]));
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec \"$@\" 3</etc/passwd 7</etc/passwd", "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    container.spawn(command, "create").finish().ok();
    for kind in &KINDS[..3] {
        let fds = record(&container, kind)["fds"].clone();
        let numbers: Vec<_> = fds.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(numbers.iter().all(|n| ["0", "1", "2"].contains(n)), "{kind}: {fds}");
    }
}

#[test]
fn each_kind_runs_at_its_point_of_the_life() {
    ampoule_only!("runc 1.1 runs poststart at the end of create");
    let container = Container::of(recorded(&["sleep", "1000"]));
    container.create().ok();
    assert_eq!(kinds(&container), ["prestart", "createRuntime", "createContainer"]);
    container.start().ok();
    assert_eq!(kinds(&container)[3..], ["startContainer", "poststart"]);
    container.kill("KILL").ok();
    container.wait_status("stopped");
    assert_eq!(kinds(&container).len(), 5, "poststop belongs to delete");
    container.delete().ok();
    assert_eq!(kinds(&container), KINDS);
}

#[test]
fn run_runs_all_of_them_in_order() {
    ampoule_only!("runc 1.1 runs poststart at the end of create");
    let container = Container::of(recorded(&["cwd"]));
    container.run().ok();
    assert_eq!(kinds(&container), KINDS);
}

#[test]
fn every_hook_reads_the_state_with_the_status_of_its_time() {
    let container = Container::of(recorded(&["sleep", "1000"]));
    container.launch();
    let pid = container.pid();
    container.delete_force().ok();
    for kind in KINDS {
        let state = &record(&container, kind)["state"];
        assert_eq!(state["id"], json!(container.id), "{kind}");
        assert_eq!(state["bundle"], json!(container.bundle.path()), "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        let status = state["status"].as_str().unwrap_or_default();
        let wanted: &[&str] = match kind {
            // The spec: after the runtime environment has been created, before pivot_root. runc says
            // creating, as the spec's lifecycle does.
            "prestart" | "createRuntime" | "createContainer" => &["creating", "created"],
            "startContainer" => &["created"],
            // runc 1.1 runs it too early, and so says created.
            "poststart" if !Runtime::get().is_ampoule() => &["created"],
            "poststart" => &["running"],
            _ => &["stopped"],
        };
        assert!(wanted.contains(&status), "{kind}: {state}");
        // The spec, state: "for hooks executed in the container namespace, it is the pid as seen by the
        // container"; and it is optional once stopped.
        let wanted_pid = match kind {
            "createContainer" | "startContainer" => 1,
            "poststop" => 0,
            _ => pid,
        };
        assert_eq!(state["pid"].as_i64().unwrap_or(0), i64::from(wanted_pid), "{kind}");
    }
}

#[test]
fn a_hook_gets_its_own_arguments_and_environment() {
    let container = Container::of(recorded(&["cwd"]));
    container.run().ok();
    for kind in KINDS {
        let told = record(&container, kind);
        assert_eq!(told["args"][0], "the-hook", "{kind}");
        assert_eq!(told["args"][2], kind);
        assert_eq!(told["env"], json!(["ONLY=this"]), "{kind}");
    }
}

#[test]
fn a_hook_without_arguments_gets_its_path_as_the_first() {
    let bundle = Bundle::asking(&["cwd"]);
    let script = bundle.beside("hook");
    let told = bundle.beside("told");
    fs::write(&script, format!("#!/bin/sh\ncat >/dev/null\necho \"$0 $#\" > {}\n", told.display())).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let bundle = bundle.with(|c| c["hooks"] = json!({ "createRuntime": [{ "path": script }] }));
    let container = Container::of(bundle);
    container.run().ok();
    assert_eq!(fs::read_to_string(told).unwrap(), format!("{} 0\n", script.display()));
}

#[test]
fn hooks_run_in_the_namespaces_that_the_spec_says() {
    let container = Container::of(recorded(&["sleep", "1000"]));
    container.launch();
    let ns = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    let (host, inside) = (json!(ns("self")), json!(ns(&container.pid().to_string())));
    container.delete_force().ok();
    for kind in KINDS {
        let wanted = if matches!(kind, "createContainer" | "startContainer") { &inside } else { &host };
        assert_eq!(&record(&container, kind)["ns"]["mnt"], wanted, "{kind}");
    }
}

#[test]
fn hooks_of_one_kind_run_in_their_order() {
    let bundle = Bundle::asking(&["cwd"]).writable();
    let file = bundle.beside("hooks");
    let program = bundle.rootfs().join("bin/probe");
    let hook = |name| json!({ "path": program, "args": ["probe", "hook", name, file] });
    let bundle = bundle.with(|c| c["hooks"] = json!({ "createRuntime": [hook("a"), hook("b"), hook("c")] }));
    let container = Container::of(bundle);
    container.run().ok();
    let text = fs::read_to_string(file).unwrap();
    let names: Vec<_> =
        text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["hook"].clone()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn a_hook_sees_the_annotations() {
    let container =
        Container::of(recorded(&["cwd"]).with(|c| c["annotations"] = json!({ "org.example": "x" })));
    container.run().ok();
    assert_eq!(record(&container, "createRuntime")["state"]["annotations"], json!({ "org.example": "x" }));
}

/// A container with one hook of a kind, which fails, hangs or is missing.
fn with_hook(kind: &str, hook: Value) -> Container {
    let bundle = Bundle::sleeping();
    let program = bundle.rootfs().join("bin/probe");
    let mut hook = hook;
    if hook["path"].is_null() {
        hook["path"] = if runs_inside(kind) { json!("/bin/probe") } else { json!(program) };
    }
    Container::of(bundle.with(|c| c["hooks"] = json!({ kind: [hook] })))
}

#[test]
fn a_failing_hook_before_the_start_stops_creation_and_leaves_nothing() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let container = with_hook(kind, json!({ "args": ["probe", "hook-fail", "3"] }));
        let outcome = container.create().fails().saying("error running").saying("hook");
        if Runtime::get().is_ampoule() {
            outcome.saying(&format!("error running {kind} hook #0")).saying("not pleased");
        }
        assert_eq!(container.status(), "none", "{kind}");
        assert_eq!(container.leftovers(), [""; 0], "{kind}");
    }
}

#[test]
fn a_failing_start_container_hook_fails_the_start() {
    let container = with_hook("startContainer", json!({ "args": ["probe", "hook-fail", "3"] }));
    container.create().ok();
    let outcome = container.start();
    if Runtime::get().is_ampoule() {
        outcome.fails().saying("error running startContainer hook #0");
    }
    container.wait_status("stopped");
}

#[test]
fn a_failing_poststop_hook_only_warns() {
    let container = with_hook("poststop", json!({ "args": ["probe", "hook-fail", "3"] }));
    container.launch();
    container.delete_force().ok();
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_failing_poststart_hook_is_an_error() {
    ampoule_only!("runc 1.1 runs poststart at the end of create");
    let container = with_hook("poststart", json!({ "args": ["probe", "hook-fail", "3"] }));
    container.create().ok();
    container.start().fails().saying("hook");
}

#[test]
fn a_hook_is_killed_at_its_timeout_and_has_failed() {
    let container = with_hook("createRuntime", json!({ "args": ["probe", "sleep", "1000"], "timeout": 1 }));
    let began = std::time::Instant::now();
    container.create().fails().saying("hook");
    let took = began.elapsed().as_secs_f32();
    assert!((0.9..8.0).contains(&took), "it took {took} s");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_hook_that_ends_before_its_timeout_is_fine() {
    let container = with_hook("createRuntime", json!({ "args": ["probe", "cwd"], "timeout": 10 }));
    container.create().ok();
}

#[test]
fn a_hook_that_does_not_exist_is_named() {
    let container = with_hook("createRuntime", json!({ "path": "/not/a/hook" }));
    container.create().fails().saying("/not/a/hook");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_hook_that_ignores_its_stdin_is_fine() {
    // A hook may exit without reading the state: the runtime must not die of the broken pipe.
    let annotation = "x".repeat(200_000);
    let mut container = with_hook("createRuntime", json!({ "args": ["probe", "cwd"] }));
    container.bundle.config["annotations"] = json!({ "long": annotation });
    container.create().ok();
}

#[test]
fn a_hook_blocks_no_signal() {
    for (verb, kind) in
        [("create", "createRuntime"), ("run", "createRuntime"), ("run", "poststart"), ("run", "poststop")]
    {
        let bundle = Bundle::asking(&["cwd"]);
        let file = bundle.beside("mask");
        // Without a child of the shell's, whose mask the shell has cleared.
        let script = format!("exec grep SigBlk /proc/self/status > {}", file.display());
        let hook =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }]);
        let container = Container::of(bundle.with(|c| c["hooks"] = json!({ kind: hook })));
        container.call(&container.args_for(verb, &[])).ok();
        let mask = fs::read_to_string(file).unwrap();
        assert_eq!(mask.trim().trim_end_matches('0'), "SigBlk:\t", "{verb}, {kind}");
    }
}

#[test]
fn a_hook_of_a_container_whose_files_may_not_grow_reads_its_state() {
    let limits = json!([{ "type": "RLIMIT_FSIZE", "soft": 0, "hard": 0 }]);
    let hook = json!([{ "path": "/bin/probe", "args": ["probe", "cwd"] }]);
    let bundle = Bundle::asking(&["cwd"]).with(|c| {
        c["process"]["rlimits"] = limits;
        c["hooks"] = json!({ "startContainer": hook });
    });
    // Of pipes: a file that it is lent may not grow, either.
    let container = Container::of(bundle);
    let mut run = container.command(&container.args_for("run", &[]));
    run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = run.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_caller_that_ignores_sigchld_hears_of_the_end() {
    let hook = json!([{ "path": "/bin/true" }]);
    let bundle = Bundle::asking(&["cwd"]).with(|c| c["hooks"] = json!({ "createRuntime": hook }));
    let container = Container::of(bundle);
    let mut run = container.command(&container.args_for("run", &[]));
    ignore_signal(&mut run, Signal::SIGCHLD);
    container.spawn(run, "run").finish().ok();
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let mut exec = container.command(&["exec", &container.id, "/bin/probe", "exit", "3"]);
    ignore_signal(&mut exec, Signal::SIGCHLD);
    assert_eq!(container.spawn(exec, "exec").finish().code, 3);
}

#[test]
fn a_hook_under_the_containers_filter_needs_no_more_calls_than_before() {
    ampoule_only!("runc 1.1 waits in other ways");
    let calls = json!([{ "names": ["pidfd_open", "ppoll"], "action": "SCMP_ACT_ERRNO" }]);
    // Without noNewPrivileges the filter comes early.
    let bundle = recorded(&["cwd"]).with(|c| {
        c["process"]["noNewPrivileges"] = json!(false);
        c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls });
    });
    let container = Container::of(bundle);
    container.run().ok();
    assert_eq!(kinds(&container), KINDS);
}
