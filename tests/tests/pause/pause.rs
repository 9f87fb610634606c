//! `pause` without a command: Kubernetes' pause.c, to the letter; and what only our init does.

use ampoule_tests::{
    Call, Init, Scratch, Terminal, as_pid_1, child_of, deny_syscall, pause, wait_for, wait_for_sigwait,
};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

/// Ours, for each architecture that this machine can run.
fn ours() -> impl Iterator<Item = Init> {
    Init::all().into_iter().filter(|init| init.name.starts_with("pause"))
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("send a signal");
}

#[test]
fn it_ends_on_int_and_term_with_their_names() {
    for init in ours() {
        for (number, name) in [(Signal::SIGTERM, "Terminated"), (Signal::SIGINT, "Interrupt")] {
            let scratch = Scratch::new();
            let call = Call::start(init.bare(&[]), scratch.path().join("pause"));
            wait_for_sigwait(call.pid());
            signal(call.pid(), number);
            let outcome = call.finish().ok();
            let warning = "Warning: pause should be the first process\n";
            assert_eq!(
                outcome.stderr,
                format!("{warning}Shutting down, got signal: {name}\n"),
                "{}",
                init.name
            );
        }
    }
}

#[test]
fn as_pid_1_it_does_not_warn_and_other_signals_leave_it_alone() {
    let scratch = Scratch::new();
    let call = Call::start(as_pid_1(&Init::ours().bare(&[])), scratch.path().join("pause"));
    let pid = child_of(call.pid());
    wait_for_sigwait(pid);
    for number in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGQUIT, Signal::SIGALRM] {
        signal(pid, number);
    }
    signal(pid, Signal::SIGTERM);
    assert_eq!(call.finish().ok().stderr, "Shutting down, got signal: Terminated\n");
}

#[test]
fn elsewhere_other_signals_do_what_they_do_to_any_process() {
    let scratch = Scratch::new();
    let call = Call::start(Init::ours().bare(&[]), scratch.path().join("pause"));
    wait_for_sigwait(call.pid());
    signal(call.pid(), Signal::SIGHUP);
    assert_eq!(call.finish().code, 128 + 1);
}

#[test]
fn a_handler_that_cannot_be_installed_has_its_own_exit_code() {
    for (number, code) in [(2, 1), (15, 2), (17, 3)] {
        let mut command = Init::ours().bare(&[]);
        deny_syscall(&mut command, libc::SYS_rt_sigaction, Some(number), Errno::EPERM);
        assert_eq!(Call::run(command).code, code, "signal {number}");
    }
}

#[test]
fn a_loop_that_ends_gives_42() {
    let mut command = Init::ours().bare(&[]);
    deny_syscall(&mut command, libc::SYS_rt_sigtimedwait, None, Errno::EPERM);
    let outcome = Call::run(command).saying("Error: infinite loop terminated");
    assert_eq!(outcome.code, 42, "{outcome}");
}

#[test]
fn children_that_ended_before_it_began_are_reaped() {
    let scratch = Scratch::new();
    let script = format!("true & sleep 0.1; exec {}", pause().display());
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    let call = Call::start(command, scratch.path().join("pause"));
    wait_for_sigwait(call.pid());
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", call.pid())).unwrap();
    assert_eq!(children, "", "children are left");
    signal(call.pid(), Signal::SIGTERM);
    call.finish().ok();
}

#[test]
fn it_answers_to_the_names_of_others() {
    let scratch = Scratch::new();
    for name in ["tini", "docker-init", "catatonit"] {
        let path = scratch.path().join(name);
        symlink(pause(), &path).unwrap();
        let outcome = Call::run(Command::new(&path).with("--version")).ok();
        assert!(outcome.stdout.starts_with("tini version "), "{name}: {outcome}");
        // An init needs a command.
        let outcome = Call::run(Command::new(&path).with("-g"));
        assert_eq!((outcome.code, outcome.stderr.lines().count()), (1, 1), "{name}: {outcome}");
    }
    let outcome = Call::run(Init::ours().bare(&["-v"])).ok();
    assert_eq!(outcome.stdout.split(' ').next(), Some("pause"), "{outcome}");
    assert_eq!(Call::run(Init::ours().bare(&["-V"])).stdout, outcome.stdout);
    assert!(Call::run(Init::ours().bare(&["-h"])).ok().stdout.contains("--grace"));

    // podman's infra container; catatonit is silent, reaps wherever it is, and ends on TERM.
    let call =
        Call::start(Command::new(scratch.path().join("catatonit")).with("-P"), scratch.path().join("P"));
    wait_for_sigwait(call.pid());
    signal(call.pid(), Signal::SIGTERM);
    call.finish().ok();
}

/// One more argument, by value.
trait With {
    fn with(self, arg: &str) -> Self;
}

impl With for Command {
    fn with(mut self, arg: &str) -> Self {
        self.arg(arg);
        self
    }
}

#[test]
fn bad_input_is_one_clear_line_and_exit_code_1() {
    let cases: &[(&[&str], &str)] = &[
        (&["-x", "--", "true"], "unknown flag: -x"),
        (&["--nonsense"], "unknown flag: --nonsense"),
        (&["-p", "FOO", "--", "true"], "not a signal: FOO"),
        (&["-p"], "not a signal: -p"),
        (&["-e", "256", "--", "true"], "not an exit code: 256"),
        (&["-e", "", "--", "true"], "not an exit code: "),
        (&["--grace", "soon", "--", "true"], "not a number of seconds: soon"),
        (&["-s"], "no command: -s"),
    ];
    for init in ours() {
        for (args, text) in cases {
            let outcome = Call::run(init.bare(args));
            assert_eq!(outcome.code, 1, "{outcome}");
            assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
            assert!(outcome.stderr.trim_end().ends_with(text.trim_end()), "{outcome}");
        }
    }
}

#[test]
fn no_argument_makes_it_crash() {
    // xorshift: the same words every time.
    let mut state = 0x9e37_79b9_u32;
    let mut random = move |below: u32| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % below
    };
    let pieces: [&[u8]; 14] = [
        b"-",
        b"--",
        b"-v",
        b"s",
        b"g",
        b"p",
        b"e",
        b"TERM",
        b"SIG",
        b"999",
        b"--grace",
        b"=",
        b"\xff\xfe",
        b"/",
    ];
    for _ in 0..1000 {
        let mut command = Init::ours().bare(&[]);
        for _ in 0..random(6) {
            let word: Vec<u8> = (0..random(5)).flat_map(|_| pieces[random(14) as usize]).copied().collect();
            command.arg(OsStr::from_bytes(&word));
        }
        // It ends in a command that is nowhere, and so by itself.
        let status =
            command.arg("/no/such").env("PATH", "/nowhere").stderr(Stdio::null()).stdout(Stdio::null());
        let code = status.status().unwrap().code();
        assert!(matches!(code, Some(0 | 1 | 126 | 127)), "{command:?} gave {code:?}");
    }
}

#[test]
fn it_fits_into_8_kib_for_each_architecture_and_writes_to_none_of_it() {
    for init in ours() {
        let elf = fs::read(init.file()).unwrap();
        assert!(elf.len() <= 8192, "{}: {} bytes", init.name, elf.len());
        let half = |at: usize| u16::from_le_bytes(elf[at..at + 2].try_into().unwrap());
        let word = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().unwrap());
        let segments: Vec<_> =
            (0..usize::from(half(56))).map(|i| (word(64 + 56 * i), word(68 + 56 * i))).collect();
        // PT_LOAD, read and execute; PT_GNU_STACK, read and write. No dynamic loader, nothing else.
        assert_eq!(segments, [(1, 5), (0x6474_e551, 6)], "{}", init.name);
    }
}

#[test]
fn it_lets_go_of_everything_once_the_command_runs() {
    let scratch = Scratch::new();
    let script =
        "exec 2>&-; readlink /proc/$$/cwd; ls /proc/$$/fd | tr '\\n' ' '; echo; echo done; sleep 100";
    let mut command = Command::new("bash");
    command
        .args(["-c", "exec 7</dev/null; exec \"$@\"", "bash"])
        .arg(pause())
        .args(["-s", "--", "bash", "-c", script]);
    command.current_dir(scratch.path());
    let call = Call::start(command, scratch.path().join("pause"));
    wait_for("the command", || call.stdout().contains("done"));
    let stdout = call.stdout();
    assert!(stdout.starts_with(&format!("{}\n", scratch.path().display())), "its directory: {stdout}");
    assert!(stdout.lines().nth(1).unwrap().split(' ').any(|fd| fd == "7"), "its descriptors: {stdout}");
    let proc = |what: &str| format!("/proc/{}/{what}", call.pid());
    assert_eq!(fs::read_link(proc("cwd")).unwrap().to_str(), Some("/"));
    assert_eq!(fs::read_dir(proc("fd")).unwrap().count(), 0, "descriptors of pause");
    signal(child_of(call.pid()), Signal::SIGKILL);
    assert_eq!(call.finish().code, 137);
}

#[test]
fn sockets_of_a_service_manager_are_handed_over() {
    // LISTEN_PID is pause's own pid there, which only the shell that becomes pause knows.
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_PIDFDID=1; \
        exec \"$0\" -s -- sh -c 'echo $LISTEN_PID $$ \"[$LISTEN_PIDFDID]\" $LISTEN_FDS'";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(pause());
    let outcome = Call::run(command).ok();
    let words: Vec<_> = outcome.stdout.split_whitespace().collect();
    assert_eq!((words[0], words[2], words[3]), (words[1], "[]", "1"), "{outcome}");
    // Somebody else's stays.
    let mut command = Init::ours().command(&["-s"], &["sh", "-c", "echo $LISTEN_PID"]);
    command.env("LISTEN_PID", "1");
    assert_eq!(Call::run(command).ok().stdout, "1\n");
}

/// Leaves a process that takes TERM, and one that doesn't, behind.
fn leaves() -> String {
    let sleeper = sleeper();
    format!(
        "(trap 'echo farewell; exit' TERM; while :; do sleep 0.01; done) & \
         (trap '' TERM; exec {sleeper}) & sleep 0.2; exit 3"
    )
}

/// A command line of this test's own.
fn sleeper() -> String {
    format!("sleep 987.{}", std::process::id())
}

#[test]
fn grace_ends_what_outlives_the_command() {
    let plain = Init::ours().command(&["--grace", "1"], &["sh", "-c", &leaves()]);
    for command in [as_pid_1(&plain), plain] {
        let start = std::time::Instant::now();
        let outcome = Call::run(command);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (3, "farewell\n"), "{outcome}");
        let took = start.elapsed().as_millis();
        assert!((1000..10_000).contains(&took), "{took} ms");
        assert_eq!(sleepers(), 0, "one was left");
    }
    // Nothing is left: nothing is waited for.
    let start = std::time::Instant::now();
    assert_eq!(Call::run(Init::ours().command(&["--grace", "60"], &["sh", "-c", "exit 3"])).code, 3);
    assert!(start.elapsed().as_secs() < 30);
    let outcome = Call::run(Init::ours().command(&["--grace=0"], &["sh", "-c", &leaves()]));
    assert_eq!(outcome.code, 3, "{outcome}");
    assert_eq!(sleepers(), 0, "one was left");
}

fn sleepers() -> usize {
    let found = Command::new("pgrep").args(["-fx", &sleeper()]).output().expect("run pgrep");
    String::from_utf8_lossy(&found.stdout).lines().count()
}

#[test]
fn the_command_gets_the_foreground_of_the_terminal_if_pause_had_it() {
    let show = "ps -o pgid=,tpgid= -p $$";
    let front = format!("exec {} -s -- sh -c '{show}; echo done'", pause().display());
    // In the background, the foreground stays whose it was.
    let back = format!("set -m; {} -s -- sh -c '{show}' & wait; echo done", pause().display());
    for (script, same) in [(front, true), (back, false)] {
        let mut terminal = Terminal::open(24, 80);
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", "bash", "-c", &script]);
        terminal.attach(&mut command);
        let mut child = command.spawn().unwrap();
        let shown = terminal.expect("done");
        let numbers: Vec<i64> = shown.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert_eq!(numbers[0] == numbers[1], same, "{shown:?}");
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_full_pipe_on_stderr_does_not_stop_it() {
    let script = "for i in $(seq 2000); do (true & exec true); done; exit 3";
    let mut command = Init::ours().command(&["-svvvw"], &["sh", "-c", script]);
    // Nobody reads it.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = command.stderr(writer).spawn().unwrap();
    let mut code = None;
    wait_for("the end", || {
        code = child.try_wait().unwrap().and_then(|status| status.code());
        code.is_some()
    });
    drop(reader);
    assert_eq!(code, Some(3));
}
