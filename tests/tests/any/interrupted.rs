//! A verb that waits can be ended: by SIGTERM, SIGINT or SIGHUP, and what it has made is removed.

use ampoule_tests::{
    Bundle, Call, Container, NO_MOUNTS, ampoule_only, descendants_of, has_cgroup_v1, has_only_cgroup_v2,
    ignore, is_root, patience, pids_in, require, wait_for,
};
use nix::sys::signal::Signal::{self, SIGHUP, SIGINT, SIGTERM};
use serde_json::json;
use std::time::Instant;

const ENDING: [Signal; 3] = [SIGTERM, SIGINT, SIGHUP];

/// A container with a hook that never ends.
fn stuck(kind: &str) -> Container {
    let bundle = Bundle::sleeping();
    // In the container's own root there is no program but the probe.
    let (path, args) = match kind {
        "startContainer" => ("/bin/probe", json!(["probe", "sleep", "1000"])),
        _ => ("/bin/sleep", json!(["sleep", "1000"])),
    };
    Container::of(bundle.with(|c| c["hooks"] = json!({ kind: [{ "path": path, "args": args }] })))
}

#[track_caller]
fn end(call: Call, with: Signal) {
    wait_for("the hook", || {
        descendants_of(call.pid()).iter().any(|pid| {
            let args = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            args.windows(10).any(|part| part == b"sleep\x001000")
        })
    });
    call.signal(with);
    let sent = Instant::now();
    let outcome = call.finish();
    assert!(outcome.code == 1 && outcome.stderr.contains(&format!("interrupted by {with}")), "{outcome}");
    assert!(sent.elapsed() < patience() / 2, "{outcome}");
}

#[test]
fn create_and_run_that_wait_for_a_hook_are_ended_by_signals_and_leave_nothing() {
    ampoule_only!("runc 1.1 dies at once, and leaves a half-made container");
    for kind in ["prestart", "createRuntime", "createContainer"] {
        for signal in ENDING {
            let container = stuck(kind);
            container.bundle.write();
            let create = container.command(&container.making("create", &[]));
            end(container.spawn(create, "create"), signal);
            assert_eq!(container.leftovers(), [""; 0], "{kind}, {signal}");
        }
    }
    for kind in ["createRuntime", "startContainer", "poststart"] {
        let container = stuck(kind);
        end(container.run_along(), SIGTERM);
        assert_eq!(container.leftovers(), [""; 0], "run, {kind}");
    }
}

#[test]
fn who_is_started_with_nohup_lives_on_when_the_terminal_hangs_up() {
    ampoule_only!("runc 1.1 leaves signals as they are");
    let container = stuck("createRuntime");
    container.bundle.write();
    let mut create = container.command(&container.making("create", &[]));
    ignore(&mut create, SIGHUP);
    let call = container.spawn(create, "create");
    wait_for("the hook", || !descendants_of(call.pid()).is_empty());
    call.signal(SIGHUP);
    std::thread::sleep(std::time::Duration::from_millis(300));
    end(call, SIGTERM);
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn an_exec_that_waits_in_a_paused_container_is_ended_by_signals_and_leaves_no_process() {
    let can_pause = has_cgroup_v1("freezer") || has_only_cgroup_v2();
    require!(can_pause && is_root(), "root and a freezer", named NO_MOUNTS);
    ampoule_only!("runc 1.1 dies at once, and its process goes on when it is resumed");
    for signal in ENDING {
        let container = Container::of(Bundle::sleeping());
        container.launch();
        let cgroups = container.cgroups();
        let inside = || pids_in(cgroups.dir("freezer"));
        container.call(&["pause", &container.id]).ok();
        let args = ["exec", "--ignore-paused", &container.id, "/bin/probe", "sleep", "1000"];
        let exec = container.spawn(container.command(&args), "exec");
        wait_for("the new process", || inside().len() == 2);
        exec.signal(signal);
        let outcome = exec.finish();
        assert!(
            outcome.code == 255 && outcome.stderr.contains(&format!("interrupted by {signal}")),
            "{outcome}"
        );
        container.call(&["resume", &container.id]).ok();
        wait_for("its end", || inside() == [container.pid()]);
    }
}
