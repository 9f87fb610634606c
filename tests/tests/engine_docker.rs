//! docker's containers, made by the runtime under test. Without networks; those are in engine_docker_network.rs.

use ampoule_tests::engines::{Docker, NO_ENGINE, look_for};
use ampoule_tests::{Call, Terminal, on_path, require};
use nix::sys::signal::Signal;

#[test]
fn docker_runs_executes_shows_logs_pauses_and_stops() {
    require!(on_path("dockerd").is_some(), "docker", named NO_ENGINE);
    let docker = Docker::start();
    learns_how_it_ended(&docker);
    executes_shows_logs_pauses_and_stops(&docker);
}

#[test]
fn docker_gives_terminals_and_checks_health() {
    require!(on_path("dockerd").is_some(), "docker", named NO_ENGINE);
    let docker = Docker::start();
    gives_a_terminal(&docker);
    checks_health(&docker);
}

fn learns_how_it_ended(docker: &Docker) {
    let outcome = docker.run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((outcome.code, &*outcome.stdout, &*outcome.stderr), (7, "out\n", "err\n"), "{outcome}");
    let outcome = docker.run(&[], &["nosuch"]);
    assert_eq!(outcome.code, 127, "{outcome}");
    outcome.saying("executable file not found in $PATH");
    let outcome = docker.run(&[], &["/etc/passwd"]);
    assert_eq!(outcome.code, 126, "{outcome}");
    outcome.saying("permission denied");
    assert!(docker.call(&["info"]).ok().stdout.contains("Default Runtime: ampoule"));
}

fn executes_shows_logs_pauses_and_stops(docker: &Docker) {
    docker.detached(
        "web",
        &[],
        &["sh", "-c", "trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 0.1; done"],
    );
    assert_eq!(docker.inspect("web")["HostConfig"]["Runtime"], "ampoule");
    let outcome = docker.call(&[
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
    // Old versions of docker give 126, with runc as well.
    let outcome = docker.call(&["exec", "web", "nosuch"]);
    assert!([126, 127].contains(&outcome.code), "{outcome}");
    assert!(outcome.to_string().contains("executable file not found in $PATH"), "{outcome}");
    assert_eq!(docker.call(&["exec", "web", "/etc/passwd"]).code, 126);
    assert!(docker.call(&["top", "web"]).ok().stdout.contains("trap 'echo bye"));

    docker.call(&["pause", "web"]).ok();
    assert_eq!(docker.inspect("web")["State"]["Status"], "paused");
    docker.call(&["unpause", "web"]).ok();
    assert_eq!(docker.inspect("web")["State"]["Status"], "running");

    docker.call(&["stop", "web"]).ok();
    assert_eq!(docker.call(&["logs", "web"]).ok().stdout, "hello\nbye\n");
    let state = &docker.inspect("web")["State"];
    assert_eq!((&state["Status"], &state["ExitCode"]), (&"exited".into(), &3.into()), "{state}");
    docker.call(&["start", "web"]).ok();
    docker.call(&["kill", "web"]).ok();
    assert_eq!(docker.call(&["wait", "web"]).ok().stdout, "137\n");
}

fn checks_health(docker: &Docker) {
    let check = ["--health-cmd", "test -e /tmp/well", "--health-interval", "1s", "--health-retries", "1"];
    docker.detached("web", &check, &["sleep", "1000"]);
    let health = || docker.inspect("web")["State"]["Health"]["Status"].take();
    look_for("an ill container", || health() == "unhealthy");
    docker.call(&["exec", "web", "touch", "/tmp/well"]).ok();
    look_for("a well container", || health() == "healthy");
}

fn gives_a_terminal(docker: &Docker) {
    let mut terminal = Terminal::open(31, 101);
    // docker tells the size once the container runs.
    let script = "until [ \"$(stty size 2>&1)\" = '31 101' ]; do sleep 0.1; done; echo sized
        read line; echo got $line; exit 5";
    let run = docker.run_in(&terminal, &[], &["sh", "-c", script]);
    terminal.expect("sized");
    terminal.type_keys("words\n");
    terminal.expect("got words");
    assert_eq!(run.finish().code, 5);

    docker.detached("shell", &[], &["sleep", "1000"]);
    let mut terminal = Terminal::open(33, 103);
    let mut exec = docker.command(&["exec", "-it", "shell", "sh"]);
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
