//! What an init promises, as one table: each row is shown by every program that makes the promise.
//!
//! The inits run as children here, not as PID 1, unless a row says so.

use ampoule_tests::{Call, Init, Scratch, as_pid_1, child_of, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Command;

/// Who keeps a promise.
type Who = &'static [&'static str];
const EVERYONE: Who = &["pause", "pause-aarch64", "tini", "dumb-init", "catatonit"];
const TINI: Who = &["pause", "pause-aarch64", "tini"];
const GROUPS: Who = &["pause", "pause-aarch64", "tini", "catatonit"];
const OURS: Who = &["pause", "pause-aarch64"];

fn who(names: Who) -> impl Iterator<Item = Init> {
    Init::all().into_iter().filter(|init| names.contains(&init.name))
}

/// Flags, a shell script, its exit code, who ends with it.
const ENDS: &[(&[&str], &str, i32, Who)] = &[
    (&[], "exit 0", 0, EVERYONE),
    (&[], "exit 7", 7, EVERYONE),
    (&[], "exit 255", 255, EVERYONE),
    (&[], "kill -TERM $$", 143, EVERYONE),
    (&[], "kill -KILL $$", 137, EVERYONE),
    (&[], "kill -SEGV $$", 139, EVERYONE),
    // What another child ends with is not the command's code.
    (&[], "(exit 9) & sleep 0.1; exit 3", 3, EVERYONE),
    // An orphan that outlives the command is not waited for.
    (&[], "sleep 30 & exit 4", 4, EVERYONE),
    (&["-e", "143"], "kill -TERM $$", 0, TINI),
    (&["-e", "7", "-e", "8"], "exit 8", 0, TINI),
    (&["-e", "7"], "exit 8", 8, TINI),
    (&["-s"], "exit 5", 5, TINI),
    (&["-g"], "exit 5", 5, GROUPS),
    (&["-p", "SIGTERM"], "exit 5", 5, TINI),
    (&["-vvv"], "exit 5", 5, TINI),
    (&["-w"], "exit 5", 5, TINI),
];

#[test]
fn the_exit_code_is_the_commands() {
    for (flags, script, code, names) in ENDS {
        for init in who(names) {
            let outcome = Call::run(init.command(flags, &["sh", "-c", script]));
            assert_eq!(outcome.code, *code, "{}: {outcome}", init.name);
        }
    }
}

/// A command line that can't be run, its exit code, who ends with it, who says so in one line.
#[test]
fn a_command_that_cannot_be_run_gives_the_shells_codes() {
    let scratch = Scratch::new();
    let file = scratch.path().join("file");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    let file = file.to_str().unwrap();
    let cases: [(&str, i32); 6] = [
        ("no-such-command", 127),
        ("/no/such/command", 127),
        ("", 127),
        (file, 126),
        (scratch.path().to_str().unwrap(), 126),
        // tini: everything else is 1.
        ("/etc/passwd/x", 1),
    ];
    for (command, code) in cases {
        for init in who(TINI) {
            let outcome = Call::run(init.command(&["-s"], &[command]));
            assert_eq!(outcome.code, code, "{}: {outcome}", init.name);
            assert_eq!(outcome.stderr.lines().count(), 1, "{}: {outcome}", init.name);
            assert!(outcome.stderr.contains("exec"), "{}: {outcome}", init.name);
        }
    }
}

#[test]
fn a_command_is_looked_for_as_execvp_does() {
    let scratch = Scratch::new();
    let make = |dir: &str, name: &str, text: &str, mode: u32| {
        let dir = scratch.path().join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    make("first", "both", "exit 1", 0o644);
    make("second", "both", "exit 21", 0o755); // no `#!`: a shell runs it
    make("first", "refused", "exit 1", 0o644);
    make("longer-than-the-next", "other", "exit 1", 0o755);
    let at = |dir: &str| scratch.path().join(dir).display().to_string();
    let path =
        [at("first"), "/etc/passwd".into(), "x".repeat(5000), at("longer-than-the-next"), at("second")];
    for init in who(EVERYONE) {
        let mut command = init.command(&[], &["both"]);
        command.env("PATH", path.join(":"));
        assert_eq!(Call::run(command).code, 21, "{}", init.name);
        // An empty element is the working directory.
        let mut command = init.command(&[], &["both"]);
        command.env("PATH", ":/nowhere").current_dir(at("second"));
        assert_eq!(Call::run(command).code, 21, "{}", init.name);
    }
    for init in who(TINI) {
        let mut command = init.command(&[], &["refused"]);
        command.env("PATH", path.join(":"));
        assert_eq!(Call::run(command).code, 126, "{}", init.name);
        let mut command = init.command(&[], &["sh", "-c", "exit 6"]);
        command.env_remove("PATH");
        assert_eq!(Call::run(command).code, 6, "{}: without PATH", init.name);
    }
}

/// Signals, and who passes them on as they are.
const FORWARDED: &[(&[&str], Who)] = &[
    (&["HUP", "INT", "QUIT", "USR1", "USR2", "PIPE", "ALRM", "TERM", "URG", "XCPU", "XFSZ"], EVERYONE),
    (&["VTALRM", "PROF", "WINCH", "IO", "PWR"], EVERYONE),
    // Real-time signals: dumb-init doesn't, and QEMU needs some for itself.
    (&["RTMIN", "RTMIN+7", "RTMAX"], &["pause", "tini", "catatonit"]),
    // Signals of a fault, sent by a process: tini and catatonit leave them to the kernel, which keeps them from PID 1.
    (&["ILL", "TRAP", "ABRT", "BUS", "FPE", "SYS"], &["pause", "dumb-init"]),
    // Job control, asked for by a process: tini ignores two of them, catatonit all, dumb-init sends STOP instead.
    (&["TSTP"], TINI),
    (&["TTIN", "TTOU"], OURS),
];

#[test]
fn every_signal_reaches_the_command() {
    for (names, inits) in FORWARDED {
        for init in who(inits) {
            let traps: String = names.iter().map(|name| format!("trap 'echo got-{name}' {name}\n")).collect();
            let script = format!("{traps} echo ready; while :; do sleep 0.01; done");
            let scratch = Scratch::new();
            let mut command = init.command(&[], &["bash", "-c", &script]);
            command.stdin(std::process::Stdio::null());
            let call = Call::start(command, scratch.path().join("init"));
            wait_for(&format!("{} to be ready", init.name), || call.stdout().contains("ready"));
            for name in *names {
                send(call.pid(), name);
                wait_for(&format!("{name} through {}", init.name), || {
                    call.stdout().lines().any(|line| line == format!("got-{name}"))
                });
            }
            kill(Pid::from_raw(child_of(call.pid())), Signal::SIGKILL).unwrap();
            assert_eq!(call.finish().code, 137, "{}", init.name);
        }
    }
}

/// bash's kill knows real-time signals by name.
fn send(pid: i32, signal: &str) {
    let status = Command::new("bash").args(["-c", &format!("kill -s {signal} {pid}")]).status();
    assert!(status.unwrap().success(), "kill -s {signal}");
}

#[test]
fn a_stopped_command_is_continued_by_a_forwarded_signal() {
    for init in who(EVERYONE) {
        let scratch = Scratch::new();
        let script = "trap 'exit 9' USR1; kill -STOP $$; while :; do sleep 0.01; done";
        let call = Call::start(init.command(&[], &["bash", "-c", script]), scratch.path().join("init"));
        let state = |pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        wait_for("the command to stop", || state(child_of(call.pid())).contains(") T"));
        send(call.pid(), "CONT");
        send(call.pid(), "USR1");
        assert_eq!(call.finish().code, 9, "{}", init.name);
    }
}

#[test]
fn g_signals_the_whole_group() {
    for init in who(GROUPS) {
        let scratch = Scratch::new();
        let inner = "trap 'echo inner; exit' TERM; echo ready; while :; do sleep 0.01; done";
        let script = format!("trap 'wait; echo outer; exit 0' TERM; bash -c \"{inner}\" & wait");
        let call = Call::start(init.command(&["-g"], &["bash", "-c", &script]), scratch.path().join("init"));
        wait_for("the inner process", || call.stdout().contains("ready"));
        send(call.pid(), "TERM");
        let outcome = call.finish().ok();
        assert!(outcome.stdout.contains("inner") && outcome.stdout.contains("outer"), "{outcome}");
    }
}

/// Makes orphans, lets them end, and counts the zombies.
const ORPHANS: &str = "for i in $(seq 50); do (true & exec true); done; sleep 0.3; \
    cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '; exit 0";

#[test]
fn as_pid_1_every_init_reaps_orphans() {
    for init in who(EVERYONE) {
        let outcome = Call::run(as_pid_1(&init.command(&[], &["sh", "-c", ORPHANS]))).ok();
        assert_eq!(outcome.stdout.trim(), "0", "{}: {outcome}", init.name);
        assert_eq!(outcome.stderr, "", "{}", init.name);
    }
}

#[test]
fn as_a_subreaper_it_adopts_orphans() {
    let script = "(sleep 1 & exec true); sleep 0.2; ps -o ppid= -C sleep | grep -c \"^ *$PPID$\"; exit 0";
    for init in who(&["pause", "tini"]) {
        let outcome = Call::run(init.command(&["-s"], &["sh", "-c", script])).ok();
        assert_eq!(outcome.stdout.trim(), "1", "{}: {outcome}", init.name);
        let mut command = init.command(&[], &["sh", "-c", script]);
        command.env("TINI_SUBREAPER", "");
        assert_eq!(Call::run(command).stdout.trim(), "1", "{}: by environment", init.name);
        let outcome = Call::run(init.command(&[], &["true"])).ok();
        assert!(outcome.stderr.contains("PID 1"), "no warning: {outcome}");
        let mut command = init.command(&[], &["true"]);
        command.env("TINI_VERBOSITY", "0");
        assert_eq!(Call::run(command).stderr, "", "{}", init.name);
    }
}

#[test]
fn the_command_gets_signals_as_pause_got_them() {
    // Blocked: USR2 (12). Ignored: HUP (1), as nohup does.
    for init in who(TINI) {
        let inner = init.command(&["-s"], &["grep", "-E", "^(SigBlk|SigIgn)", "/proc/self/status"]);
        let mut outer = Command::new("env");
        outer.args(["--block-signal=USR2", "--ignore-signal=HUP"]).arg("--");
        outer.arg(inner.get_program()).args(inner.get_args());
        let outcome = Call::run(outer).ok();
        let bits = |name: &str| {
            let line = outcome.stdout.lines().find(|line| line.starts_with(name)).expect(name);
            u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
        };
        // QEMU keeps SIGRTMIN for itself.
        assert_eq!(bits("SigBlk") & 0x7fff_ffff, 1 << 11, "{}: {outcome}", init.name);
        assert_eq!(bits("SigIgn") & 0x7fff_ffff, 1, "{}: {outcome}", init.name);
    }
}

#[test]
fn exit_codes_survive_an_ignored_sigchld() {
    // tini waits for ever here.
    for init in who(OURS) {
        let inner = init.command(&["-s"], &["sh", "-c", "exit 7"]);
        let mut outer = Command::new("env");
        outer.args(["--ignore-signal=CHLD", "--"]).arg(inner.get_program()).args(inner.get_args());
        assert_eq!(Call::run(outer).code, 7, "{}", init.name);
    }
}
