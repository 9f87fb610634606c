//! containerd's containers, through its own shim io.containerd.runc.v2, made by the runtime under test.

use ampoule_tests::engines::{Containerd, NO_ENGINE, documented, wait_for_slowly};
use ampoule_tests::{Cgroups, Scratch, Terminal, cgroups_named, has_cgroup_v1, on_path, require, systemd};
use std::process::Command;

#[test]
fn containerd_runs_executes_pauses_measures_and_kills() {
    require!(on_path("containerd").is_some(), "containerd", named NO_ENGINE);
    let containerd = Containerd::start();
    learns_how_it_ended(&containerd);
    executes_pauses_measures_and_kills(&containerd);
}

#[test]
fn containerd_gives_terminals_and_narrows_what_a_container_may_do() {
    require!(on_path("containerd").is_some(), "containerd", named NO_ENGINE);
    let containerd = Containerd::start();
    gives_a_terminal(&containerd);
    narrows_rights(&containerd);
}

fn learns_how_it_ended(containerd: &Containerd) {
    let outcome = containerd.run(&["--rm"], "one", &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((outcome.code, &*outcome.stdout), (7, "out\n"), "{outcome}");
    assert!(outcome.stderr.starts_with("err\n"), "{outcome}");
    let outcome = containerd.run(&["--rm"], "two", &["nosuch"]);
    assert_ne!(outcome.code, 0);
    outcome.saying("executable file not found in $PATH");
    // The same id again: nothing of the failed one is in the way.
    assert_eq!(containerd.run(&["--rm"], "two", &["sh", "-c", "exit 9"]).code, 9);
}

fn executes_pauses_measures_and_kills(containerd: &Containerd) {
    containerd.run(&["--detach", "--memory-limit", "67108864"], "web", &["sleep", "1000"]).ok();
    let tasks = || containerd.call(&["task", "list"]).ok().stdout;
    assert!(tasks().contains("RUNNING"), "{}", tasks());
    let pid = tasks()
        .lines()
        .find(|line| line.contains("RUNNING"))
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    let pid = pid.expect("a pid");
    let cgroups = Cgroups::of(pid);
    let file = if has_cgroup_v1("memory") { "memory.limit_in_bytes" } else { "memory.max" };
    assert_eq!(cgroups.read("memory", file), "67108864");
    wait_for_slowly("metrics", || containerd.task(&["metrics"], "web", &[]).stdout.contains("67108864"));

    let outcome = containerd.task(
        &["exec", "--exec-id", "a", "--cwd", "/tmp", "--user", "1000"],
        "web",
        &["sh", "-c", "id -u; echo $PWD; exit 9"],
    );
    assert_eq!((outcome.code, &*outcome.stdout), (9, "1000\n/tmp\n"), "{outcome}");
    containerd
        .task(&["exec", "--exec-id", "b"], "web", &["nosuch"])
        .saying("executable file not found in $PATH");
    let ps = containerd.task(&["ps"], "web", &[]).ok();
    assert!(ps.stdout.contains(&pid.to_string()), "{ps}");

    containerd.task(&["pause"], "web", &[]).ok();
    assert!(tasks().contains("PAUSED"), "{}", tasks());
    containerd.task(&["exec", "--exec-id", "c"], "web", &["true"]).saying("cannot exec in a paused");
    containerd.task(&["resume"], "web", &[]).ok();
    containerd.task(&["kill", "--signal", "SIGKILL"], "web", &[]).ok();
    wait_for_slowly("the task to stop", || tasks().contains("STOPPED"));
    // What containerd itself takes for an end that was already there.
    containerd.task(&["kill"], "web", &[]).saying("not found");
    containerd.task(&["delete"], "web", &[]).ok();
}

fn gives_a_terminal(containerd: &Containerd) {
    let mut terminal = Terminal::open(31, 101);
    let script = "until [ \"$(stty size 2>&1)\" = '31 101' ]; do sleep 0.1; done; echo sized
        read line; echo got $line; exit 5";
    let run = containerd.run_in(&terminal, &["--rm", "--tty"], "box", &["sh", "-c", script]);
    terminal.expect("sized");
    terminal.type_keys("words\n");
    terminal.expect("got words");
    assert_eq!(run.finish().code, 5);
}

fn narrows_rights(containerd: &Containerd) {
    let flags = [
        "--rm",
        "--read-only",
        "--seccomp",
        "--cap-drop",
        "CAP_CHOWN",
        "--env",
        "A=b",
        "--mount",
        "type=tmpfs,src=tmpfs,dst=/tmp,options=rw",
    ];
    let script = "touch /file; echo $A >/tmp/file; cat /tmp/file /proc/self/status";
    let outcome = containerd.run(&flags, "box", &["sh", "-c", script]).saying("Read-only file system");
    let status = outcome.stdout.strip_prefix("b\n").unwrap_or_else(|| panic!("{outcome}"));
    assert_eq!(ampoule_tests::field(status, "CapEff"), "00000000a80425fa");
    assert_eq!(ampoule_tests::field(status, "Seccomp"), "2");
}

#[test]
fn containerd_puts_a_container_into_a_scope() {
    require!(on_path("containerd").is_some(), "containerd", named NO_ENGINE);
    require!(systemd::runs_on_v2(), "systemd", named systemd::WHY);
    let containerd = Containerd::start();
    let name = containerd.id("box");
    // No flag of ctr's: the path decides where the driver looks.
    let path = format!("system.slice:cri-containerd:{name}");
    let flags = ["--detach", "--runc-systemd-cgroup", "--cgroup", &path];
    containerd.run(&flags, "box", &["sleep", "1000"]).ok();
    let scope = format!("system.slice/cri-containerd-{name}.scope");
    let found = cgroups_named(&name);
    assert!(found.len() == 1 && found[0].ends_with(&scope), "{found:?}");
    containerd.task(&["kill", "--signal", "KILL"], "box", &[]).ok();
    wait_for_slowly("the task to stop", || containerd.call(&["task", "list"]).stdout.contains("STOPPED"));
    containerd.task(&["delete"], "box", &[]);
    assert_eq!(cgroups_named(&name).len(), 0);
}

#[test]
fn containerd_reads_the_documented_file_for_pods() {
    require!(on_path("containerd").is_some(), "containerd", named NO_ENGINE);
    let version = Command::new("containerd").arg("--version").output().unwrap();
    let first = String::from_utf8_lossy(&version.stdout).contains(" 1.");
    require!(first, "containerd 1.x", named "2.x makes a file of its own words of it");
    let scratch = Scratch::new();
    let file = scratch.path().join("config.toml");
    let text = documented("/etc/containerd/config.toml");
    std::fs::write(&file, &text).unwrap();
    let read =
        Command::new("containerd").arg("--config").arg(&file).args(["config", "dump"]).output().unwrap();
    let read = String::from_utf8_lossy(&read.stdout).into_owned();
    // Each line of ours among what containerd makes of it.
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        assert!(read.lines().any(|other| other.trim() == line), "{line} is not in {read}");
    }
}
