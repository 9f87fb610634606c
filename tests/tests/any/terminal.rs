//! The container's terminal: in the foreground, and handed over a socket.

use ampoule_tests::{
    Bundle, Call, ConsoleSocket, Container, NO_PROC, Terminal, ampoule_only, is_root, require, wait_for,
};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use nix::sys::termios::LocalFlags;
use serde_json::{Value, json};
use std::io::{PipeWriter, Read, Write, pipe};
use std::time::Duration;

/// All that the kernel keeps of a terminal's modes: musl's own structure is longer, and ends in chance.
fn settings(terminal: &Terminal) -> impl PartialEq + std::fmt::Debug + use<> {
    let modes = terminal.modes();
    let flags = (modes.input_flags, modes.output_flags, modes.control_flags, modes.local_flags);
    (flags, modes.control_chars[..19].to_vec())
}

fn in_terminal(questions: &[&str]) -> Bundle {
    Bundle::asking(questions).with(|c| c["process"]["terminal"] = json!(true))
}

/// The last JSON line of what a terminal has shown.
fn last(shown: &str) -> Value {
    let line = shown.lines().rfind(|l| !l.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(line.trim()).unwrap_or_else(|e| panic!("not an answer ({e}): {shown:?}"))
}

#[test]
fn run_gives_the_program_a_terminal_of_its_own() {
    let container = Container::of(in_terminal(&["tty"]));
    let mut terminal = Terminal::open(24, 80);
    let run = container.run_in(&terminal);
    let answer = last(&terminal.expect("}"));
    assert_eq!(run.finish().code, 0);
    for stream in ["stdin", "stdout", "stderr", "controlling"] {
        assert_eq!(answer[stream], true, "{stream}: {answer}");
    }
    assert!(answer["name"].as_str().unwrap().starts_with("/dev/pts/"), "{answer}");
}

#[test]
fn dev_console_is_that_terminal() {
    let container = Container::of(in_terminal(&["stat", "/dev/console"]));
    let mut terminal = Terminal::open(24, 80);
    let run = container.run_in(&terminal);
    let answer = last(&terminal.expect("}"));
    run.finish().ok();
    // Major 136: a pty's slave end, and no real console.
    assert_eq!((&answer["type"], &answer["rdev"].as_str().unwrap()[..4]), (&json!("char"), "136:"));
}

#[test]
fn the_window_size_is_passed_on() {
    ampoule_only!("runc 1.1 sets the size when the program may have looked already");
    let container = Container::of(in_terminal(&["tty"]));
    let mut terminal = Terminal::open(33, 111);
    let run = container.run_in(&terminal);
    let answer = last(&terminal.expect("}"));
    run.finish().ok();
    assert_eq!((&answer["rows"], &answer["columns"]), (&json!(33), &json!(111)));
}

#[test]
fn a_later_change_of_the_window_size_is_passed_on() {
    let container = Container::of(in_terminal(&["winch"]));
    let mut terminal = Terminal::open(24, 80);
    let run = container.run_in(&terminal);
    terminal.expect("[24,80]");
    terminal.resize(50, 132);
    run.signal(Signal::SIGWINCH);
    terminal.expect("[50,132]");
    container.kill("TERM").ok();
    assert_eq!(run.finish().code, 0);
}

#[test]
fn the_users_terminal_is_raw_while_it_runs_and_restored_after() {
    let container = Container::of(in_terminal(&["line"]));
    let mut terminal = Terminal::open(24, 80);
    let before = settings(&terminal);
    assert!(terminal.modes().local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
    let run = container.run_in(&terminal);
    wait_for("raw mode", || !terminal.modes().local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO));
    container.wait_status("running");
    terminal.type_keys("hello\n");
    terminal.expect("\"hello\"");
    run.finish().ok();
    assert_eq!(settings(&terminal), before);
}

#[test]
fn the_users_terminal_is_restored_when_the_container_cannot_start() {
    let bundle = in_terminal(&[]).with(|c| c["process"]["args"] = json!(["/bin/missing"]));
    let container = Container::of(bundle);
    let terminal = Terminal::open(24, 80);
    let before = settings(&terminal);
    assert_eq!(container.run_in(&terminal).finish().code, 1);
    assert_eq!(settings(&terminal), before);
}

#[test]
fn a_typed_ctrl_c_interrupts_the_program() {
    let container = Container::of(in_terminal(&["signals", "SIGINT"]));
    let mut terminal = Terminal::open(24, 80);
    let run = container.run_in(&terminal);
    terminal.expect("\"ready\"");
    terminal.type_keys("\x03");
    terminal.expect("\"SIGINT\"");
    assert_eq!(run.finish().code, 0);
}

#[test]
fn run_in_a_terminal_gives_the_programs_exit_code_and_all_of_its_output() {
    let container = Container::of(in_terminal(&["cat", "/proc/self/mountinfo", ",", "exit", "42"]));
    let mut terminal = Terminal::open(24, 80);
    let run = container.run_in(&terminal);
    terminal.expect("/sys/firmware");
    assert_eq!(run.finish().code, 42);
}

#[test]
fn a_terminal_without_a_terminal_to_run_in_is_refused() {
    Container::of(in_terminal(&["tty"])).run().fails();
}

#[test]
fn create_with_a_terminal_needs_a_console_socket() {
    Container::of(in_terminal(&["tty"])).create().fails().saying("console");
}

#[test]
fn a_console_socket_without_a_terminal_is_refused() {
    let container = Container::of(Bundle::asking(&["tty"]));
    let socket = ConsoleSocket::listen(&container.bundle.beside("console"));
    container.create_with(&["--console-socket", socket.path().to_str().unwrap()]).fails().saying("console");
}

#[test]
fn the_console_socket_receives_the_master_end() {
    let container = Container::of(in_terminal(&["tty", ",", "line"]));
    let socket = ConsoleSocket::listen(&container.bundle.beside("console"));
    container.create_with(&["--console-socket", socket.path().to_str().unwrap()]).ok();
    let mut terminal = socket.receive();
    container.start().ok();
    let answer = last(&terminal.expect("}"));
    assert_eq!((&answer["stdin"], &answer["controlling"]), (&json!(true), &json!(true)));
    terminal.type_keys("over the socket\n");
    terminal.expect("\"over the socket\"");
    container.wait_status("stopped");
}

#[test]
fn run_detached_hands_its_terminal_over_too() {
    let container = Container::of(in_terminal(&["tty", ",", "line"]));
    let socket = ConsoleSocket::listen(&container.bundle.beside("console"));
    container.run_with(&["--detach", "--console-socket", socket.path().to_str().unwrap()]).ok();
    let mut terminal = socket.receive();
    terminal.expect("\"controlling\":true");
    terminal.type_keys("\n");
    container.wait_status("stopped");
}

#[test]
fn console_size_sets_the_size_before_the_program_runs() {
    let bundle = in_terminal(&["tty", ",", "line"])
        .with(|c| c["process"]["consoleSize"] = json!({ "height": 44, "width": 122 }));
    let container = Container::of(bundle);
    let socket = ConsoleSocket::listen(&container.bundle.beside("console"));
    container.create_with(&["--console-socket", socket.path().to_str().unwrap()]).ok();
    let mut terminal = socket.receive();
    container.start().ok();
    let answer = last(&terminal.expect("}"));
    assert_eq!((&answer["rows"], &answer["columns"]), (&json!(44), &json!(122)));
}

#[test]
fn a_console_socket_that_nobody_listens_at_is_an_error() {
    let container = Container::of(in_terminal(&["tty"]));
    let path = container.bundle.beside("nobody");
    container.create_with(&["--console-socket", path.to_str().unwrap()]).fails();
    assert_eq!(container.leftovers(), [""; 0]);
}

/// `run` in a terminal, with its output in a pipe if there is one.
fn run_with(container: &Container, terminal: &Terminal, pipe: Option<PipeWriter>) -> Call {
    let mut command = container.command(&container.args_for("run", &[]));
    terminal.attach(&mut command);
    if let Some(pipe) = pipe {
        command.stdout(pipe);
    }
    Call::start_with_streams(command)
}

/// Nothing of the container is there but the call of `run`.
#[track_caller]
fn wait_for_removal(container: &Container, run: &Call) {
    let own = format!("process {} ", run.pid());
    wait_for("the container's end and removal", || {
        container.leftovers().iter().all(|left| left.starts_with(&own))
    });
}

#[test]
fn output_that_nobody_reads_delays_output_only() {
    require!(is_root(), "root", named NO_PROC);
    ampoule_only!("runc 1.1 waits for its reader first");
    for piped in [false, true] {
        // Not PID 1 of a namespace, which the kernel would protect; and more than any buffer holds.
        let container = Container::of(in_terminal(&["gush", "64"]).without_namespace("pid"));
        let terminal = Terminal::open(24, 80);
        let (reader, writer) = pipe().unwrap();
        let run = run_with(&container, &terminal, piped.then_some(writer));
        container.wait_status("running");
        // Far longer than it takes to fill all buffers.
        std::thread::sleep(Duration::from_millis(300));
        run.signal(Signal::SIGTERM);
        wait_for_removal(&container, &run);
        // Its last words are kept for a reader, until somebody says that there will be none.
        run.signal(Signal::SIGTERM);
        assert_eq!(run.finish().code, 128 + 15, "piped: {piped}");
        drop((terminal, reader));
    }
}

#[test]
fn output_that_is_read_when_the_container_is_gone_is_whole() {
    ampoule_only!("runc 1.1 removes the container when all is read");
    let container = Container::of(in_terminal(&["cwd"]));
    let terminal = Terminal::open(24, 80);
    let (mut reader, mut writer) = pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    writer.write_all(&[b'.'; 4096]).unwrap();
    let run = run_with(&container, &terminal, Some(writer));
    wait_for("the container", || !container.leftovers().is_empty());
    wait_for_removal(&container, &run);
    let mut all = String::new();
    reader.read_to_string(&mut all).unwrap();
    assert_eq!(all.trim_start_matches('.').trim_end(), "\"/\"");
    run.finish().ok();
}
