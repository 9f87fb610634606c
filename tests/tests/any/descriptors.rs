//! Descriptors: what the program inherits, and what it must not.

use ampoule_tests::{Bundle, Container};
use serde_json::json;
use std::fs;

#[test]
fn preserved_descriptors_are_passed_and_no_others() {
    let container = Container::of(Bundle::asking(&["fds", ",", "env"]));
    let given = container.bundle.beside("given");
    fs::write(&given, "").unwrap();
    let inner = container.command(&container.args_for("run", &["--preserve-fds", "2"]));
    let mut command = std::process::Command::new("sh");
    let script = "file=$1; shift; exec \"$@\" 3<\"$file\" 4<\"$file\" 5<\"$file\" 6<\"$file\"";
    command.args(["-c", script, "sh"]).arg(&given).arg(inner.get_program()).args(inner.get_args());
    let fds = container.spawn(command, "run").finish().ok().answers().remove(0);
    let mut numbers: Vec<_> = fds.as_object().unwrap().keys().map(String::as_str).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["0", "1", "2", "3", "4"], "{fds}");
    assert_eq!(fds["3"], json!(given));
}

#[test]
fn sockets_of_systemd_activation_are_passed_with_the_programs_pid() {
    let container = Container::of(Bundle::asking(&["fds", ",", "env"]));
    let given = container.bundle.beside("given");
    fs::write(&given, "").unwrap();
    let inner = container.command(&container.args_for("run", &[]));
    let mut command = std::process::Command::new("sh");
    let script = "file=$1; shift; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\" 3<\"$file\" 4<\"$file\"";
    command.args(["-c", script, "sh"]).arg(&given).arg(inner.get_program()).args(inner.get_args());
    let answers = container.spawn(command, "run").finish().ok().answers();
    let mut numbers: Vec<_> = answers[0].as_object().unwrap().keys().map(String::as_str).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["0", "1", "2", "3"], "{answers:?}");
    let env: Vec<_> = answers[1].as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect();
    // sd_listen_fds(3): they are meant for the process whose pid is named: the container's init.
    assert!(env.contains(&"LISTEN_FDS=1") && env.contains(&"LISTEN_PID=1"), "{env:?}");
}

#[test]
fn the_programs_stdin_is_that_of_run() {
    let container = Container::of(Bundle::asking(&["line"]));
    let mut command = container.command(&container.args_for("run", &[]));
    let (end, into) = std::io::pipe().unwrap();
    command.stdin(end);
    let run = container.spawn(command, "run");
    std::io::Write::write_all(&mut { into }, b"by pipe\n").unwrap();
    assert_eq!(run.finish().ok().answer(), "by pipe");
}
