//! podman's containers, made by the runtime under test: root's and, in the test machine, an ordinary user's.

use ampoule_tests::engines::{NO_ENGINE, Podman, look_for};
use ampoule_tests::{Call, Terminal, on_path, require};
use nix::sys::signal::Signal;
use serde_json::json;

#[test]
fn podman_runs_executes_shows_logs_pauses_and_stops() {
    require!(on_path("podman").is_some(), "podman", named NO_ENGINE);
    let podman = Podman::new();
    learns_how_it_ended(&podman);
    executes_shows_logs_pauses_and_stops(&podman);
}

#[test]
fn podman_gives_terminals_and_checks_health() {
    require!(on_path("podman").is_some(), "podman", named NO_ENGINE);
    let podman = Podman::new();
    gives_a_terminal(&podman);
    checks_health(&podman);
}

fn learns_how_it_ended(podman: &Podman) {
    let outcome = podman.run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((outcome.code, &*outcome.stdout, &*outcome.stderr), (7, "out\n", "err\n"), "{outcome}");
    let outcome = podman.run(&[], &["nosuch"]);
    assert_eq!(outcome.code, 127, "{outcome}");
    outcome.saying("executable file not found in $PATH");
    let outcome = podman.run(&[], &["/etc/passwd"]);
    assert_eq!(outcome.code, 126, "{outcome}");
    outcome.saying("permission denied");
    let info = podman.call(&["info", "--format", "{{.Host.OCIRuntime.Name}}"]).ok();
    assert_eq!(info.stdout, "ampoule\n");
}

fn executes_shows_logs_pauses_and_stops(podman: &Podman) {
    let script = "trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 0.1; done";
    podman.detached("web", &["--network", "none"], &["sh", "-c", script]);
    assert_eq!(podman.inspect("web")["OCIRuntime"], "ampoule");
    let outcome = podman.call(&[
        "exec",
        "-u",
        "1000:5",
        "-w",
        "/tmp",
        "-e",
        "A=b",
        "web",
        "sh",
        "-c",
        "id -u; id -g; echo $A $PWD; exit 9",
    ]);
    assert_eq!((outcome.code, &*outcome.stdout), (9, "1000\n5\nb /tmp\n"), "{outcome}");
    let outcome = podman.call(&["exec", "web", "nosuch"]);
    assert_eq!(outcome.code, 127, "{outcome}");
    let outcome = podman.call(&["exec", "web", "/etc/passwd"]);
    assert_eq!(outcome.code, 126, "{outcome}");

    podman.call(&["pause", "web"]).ok();
    assert_eq!(podman.inspect("web")["State"]["Status"], "paused");
    podman.call(&["unpause", "web"]).ok();
    podman.call(&["stop", "web"]).ok();
    assert_eq!(podman.call(&["logs", "web"]).ok().stdout, "hello\nbye\n");
    let state = &podman.inspect("web")["State"];
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(3)), "{state}");
    podman.call(&["start", "web"]).ok();
    podman.call(&["kill", "web"]).ok();
    assert_eq!(podman.call(&["wait", "web"]).ok().stdout, "137\n");
}

fn checks_health(podman: &Podman) {
    // Without systemd nobody calls it but the test.
    let check = ["--network", "none", "--health-cmd", "test -e /tmp/well", "--health-interval", "disable"];
    podman.detached("web", &check, &["sleep", "1000"]);
    let outcome = podman.call(&["healthcheck", "run", "web"]);
    assert_eq!(outcome.code, 1, "{outcome}");
    podman.call(&["exec", "web", "touch", "/tmp/well"]).ok();
    podman.call(&["healthcheck", "run", "web"]).ok();
    let state = &podman.inspect("web")["State"];
    assert!(state.to_string().contains("\"healthy\""), "{state}");
}

fn gives_a_terminal(podman: &Podman) {
    let mut terminal = Terminal::open(31, 101);
    let script = "until [ \"$(stty size 2>&1)\" = '31 101' ]; do sleep 0.1; done; echo sized
        read line; echo got $line; exit 5";
    let run = podman.run_in(&terminal, &[], &["sh", "-c", script]);
    terminal.expect("sized");
    terminal.type_keys("words\n");
    terminal.expect("got words");
    assert_eq!(run.finish().code, 5);

    podman.detached("shell", &["--network", "none"], &["sleep", "1000"]);
    let mut terminal = Terminal::open(33, 103);
    let mut exec = podman.command(&["exec", "-it", "shell", "sh"]);
    terminal.attach(&mut exec);
    let exec = Call::seen(exec);
    terminal.expect("# ");
    terminal.resize(35, 105);
    terminal.type_keys("until stty size | grep '^35 1'; do sleep 0.1; done; exit 6\n");
    look_for("the new size", || {
        // What the kernel sends to the foreground of a terminal that a session has. The client may not listen yet.
        exec.signal(Signal::SIGWINCH);
        terminal.has_shown("35 105")
    });
    assert_eq!(exec.finish().code, 6);
}
