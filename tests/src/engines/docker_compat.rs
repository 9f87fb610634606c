//! What docker and podman must both do with the runtime under test: one function for each thing that users see. Each
//! panics where an engine does otherwise.

use super::{Client, wait_for_slowly};
use crate::{Call, Terminal, field};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;

/// The engine learns how a container ended, or why it didn't begin.
pub fn learns_how_it_ended(engine: &impl Client) {
    let outcome = engine.run_offline(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((outcome.code, &*outcome.stdout, &*outcome.stderr), (7, "out\n", "err\n"), "{outcome}");
    let outcome = engine.run_offline(&[], &["nosuch"]);
    assert_eq!(outcome.code, 127, "{outcome}");
    outcome.saying("executable file not found in $PATH");
    let outcome = engine.run_offline(&[], &["/etc/passwd"]);
    assert_eq!(outcome.code, 126, "{outcome}");
    outcome.saying("permission denied");
}

/// Starts `web`, which greets, and calls programs in it; `missing` are the codes for one that isn't there.
pub fn executes(engine: &impl Client, missing: &[i32]) {
    let script = "trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 0.1; done";
    engine.detached_offline("web", &[], &["sh", "-c", script]);
    let who = ["-u", "1000:5", "-w", "/tmp", "-e", "A=b"];
    let script = ["web", "sh", "-c", "id -u; id -g; echo $A $PWD; exit 9"];
    let outcome = engine.call(&[&["exec"], &who[..], &script].concat());
    assert_eq!((outcome.code, &*outcome.stdout), (9, "1000\n5\nb /tmp\n"), "{outcome}");
    let outcome = engine.call(&["exec", "web", "nosuch"]);
    assert!(missing.contains(&outcome.code), "{outcome}");
    assert!(outcome.to_string().contains("executable file not found in $PATH"), "{outcome}");
    let outcome = engine.call(&["exec", "web", "/etc/passwd"]);
    assert_eq!(outcome.code, 126, "{outcome}");
}

/// Pauses, stops, starts and kills the `web` of [`executes`].
pub fn pauses_and_stops(engine: &impl Client) {
    let state = || engine.inspect("web")["State"].take();
    engine.call(&["pause", "web"]).ok();
    assert_eq!(state()["Status"], "paused");
    engine.call(&["unpause", "web"]).ok();
    assert_eq!(state()["Status"], "running");
    engine.call(&["stop", "web"]).ok();
    assert_eq!(engine.call(&["logs", "web"]).ok().stdout, "hello\nbye\n");
    let stopped = state();
    assert_eq!((&stopped["Status"], &stopped["ExitCode"]), (&json!("exited"), &json!(3)), "{stopped}");
    engine.call(&["start", "web"]).ok();
    engine.call(&["kill", "web"]).ok();
    assert_eq!(engine.call(&["wait", "web"]).ok().stdout, "137\n");
}

/// A container's terminal and one that joins it, of which the engine tells the size once the program runs.
pub fn gives_a_terminal(engine: &impl Client) {
    let mut terminal = Terminal::open(31, 101);
    let script = "until [ \"$(stty size 2>&1)\" = '31 101' ]; do sleep 0.1; done; echo sized
        read line; echo got $line; exit 5";
    let run = engine.run_in(&terminal, &["sh", "-c", script]);
    terminal.expect("sized");
    terminal.type_keys("words\n");
    terminal.expect("got words");
    assert_eq!(run.finish().code, 5);

    engine.detached_offline("shell", &[], &["sleep", "1000"]);
    let mut terminal = Terminal::open(33, 103);
    let mut exec = engine.command(&["exec", "-it", "shell", "sh"]);
    terminal.attach(&mut exec);
    let exec = Call::start_with_streams(exec);
    terminal.expect("# ");
    terminal.resize(35, 105);
    terminal.type_keys("until stty size | grep '^35 1'; do sleep 0.1; done; exit 6\n");
    wait_for_slowly("the new size", || {
        // What the kernel sends to the foreground of a terminal that a session has. The client may not listen yet.
        exec.signal(Signal::SIGWINCH);
        terminal.has_shown("35 105")
    });
    assert_eq!(exec.finish().code, 6);
}

/// What a container writes to a volume stays, what it may only read stays as it is, and a tmpfs is as large as wanted.
pub fn mounts_volumes_and_directories(engine: &impl Client) {
    let host = engine.sandbox().file("given");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("file"), "from the host\n").unwrap();
    engine.run_offline(&["--volume", "data:/data"], &["sh", "-c", "echo kept >/data/file"]).ok();
    let given = format!("{}:/given:ro", host.display());
    let own = ["--mount", "type=tmpfs,destination=/own,tmpfs-size=1m"];
    let flags = [&["--volume", "data:/data", "--volume", &given], &own[..]].concat();
    let script =
        "cat /data/file /given/file; echo x >/given/file; dd if=/dev/zero of=/own/file bs=1M count=2";
    let outcome = engine.run_offline(&flags, &["sh", "-c", script]);
    assert_eq!(outcome.stdout, "kept\nfrom the host\n", "{outcome}");
    for words in ["/given/file: Read-only file system", "No space left on device"] {
        assert!(outcome.stderr.contains(words), "{outcome}");
    }
}

/// A container has the rights that it is given, and no others; `more` flags are the engine's own. Its process's status.
pub fn narrows_rights(engine: &impl Client, more: &[&str]) -> String {
    let path = engine.sandbox().file("seccomp.json");
    // An error that nothing else gives: EXDEV.
    let rule = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18 });
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    fs::write(&path, profile.to_string()).unwrap();
    let seccomp = format!("seccomp={}", path.display());
    let flags = [
        more,
        &["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--cap-add", "CHOWN"],
        &["--security-opt", "no-new-privileges", "--security-opt", &seccomp],
        &["--user", "1000:1000", "--group-add", "7", "--ulimit", "nofile=64:64"],
    ];
    let script = "cat /proc/self/status; touch /file; touch /tmp/file && echo tmp is writable; mkdir /tmp/dir; ulimit -n";
    let outcome = engine.run_offline(&flags.concat(), &["sh", "-c", script]);
    let status = &outcome.stdout;
    assert!(status.contains("CapBnd"), "{outcome}");
    let expected = [
        ("CapBnd", "0000000000000001"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Uid", "1000 1000 1000 1000"),
    ];
    for (name, value) in expected {
        assert_eq!(field(status, name), value, "{name} of {outcome}");
    }
    assert!(field(status, "Groups").split(' ').any(|group| group == "7"), "{outcome}");
    assert!(status.contains("tmp is writable") && status.ends_with("\n64\n"), "{outcome}");
    for words in ["/file: Read-only file system", "'/tmp/dir': Invalid cross-device link"] {
        assert!(outcome.stderr.contains(words), "{outcome}");
    }
    outcome.stdout
}

/// The engine reports, unless it `overlooks` such things, that a process was OOM-killed. What tells it
/// reads of the kill in the cgroup, unless that is gone before: so the container stays for a while.
pub fn reports_oom_kills(engine: &impl Client, overlooks: bool) {
    let script = "dd if=/dev/zero of=/dev/null bs=64M; code=$?; sleep 2; exit $code";
    wait_for_slowly("the engine to report the OOM kill", || {
        engine.detached_offline("fat", &["--memory", "16m"], &["sh", "-c", script]);
        assert_eq!(engine.call(&["wait", "fat"]).ok().stdout, "137\n");
        let state = engine.inspect("fat")["State"].take();
        engine.call(&["rm", "fat"]).ok();
        overlooks || state["OOMKilled"] == true
    });
}
