//! A container's life by the command line: what create, start, run and delete leave to be read.

use ampoule_tests::{Bundle, ConsoleSocket, Container, NO_MOUNTS, ampoule_only, is_root, require};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

#[test]
fn state_tells_what_the_spec_asks_for() {
    let bundle = Bundle::sleeping().with(|c| c["annotations"] = json!({ "org.example.key": "value" }));
    let container = Container::of(bundle);
    container.create().ok();
    let state = container.state();
    assert_eq!(state["id"], json!(container.id));
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], json!(container.bundle.path()));
    assert_eq!(state["annotations"], json!({ "org.example.key": "value" }));
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{state}");
    let pid = state["pid"].as_i64().unwrap();
    assert!(fs::exists(format!("/proc/{pid}")).unwrap());
    // As runc prints them, for the engines that read them.
    assert!(state["created"].as_str().unwrap().starts_with("20"), "{state}");
    assert_eq!(state["rootfs"], json!(container.bundle.rootfs()));
    assert_eq!(state["owner"], "");
}

#[test]
fn the_program_does_not_run_before_start() {
    let container = Container::of(Bundle::asking(&["cwd"]));
    container.create().ok();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!((container.status().as_str(), container.output().stdout.as_str()), ("created", ""));
    container.start().ok();
    container.wait_output("\"/\"");
    container.wait_status("stopped");
}

#[test]
fn the_pid_of_state_is_the_programs_own() {
    let container = Container::of(Bundle::sleeping());
    container.launch();
    container.wait_output("sleeping");
    let command = fs::read_to_string(format!("/proc/{}/cmdline", container.pid())).unwrap();
    assert!(command.starts_with("/bin/probe\0sleep"), "{command:?}");
}

#[test]
fn the_pid_file_has_the_pid_and_nothing_else() {
    let container = Container::of(Bundle::sleeping());
    let file = container.bundle.beside("pid");
    container.create_with(&["--pid-file", file.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), container.pid().to_string());
    container.delete_force().ok();
    container.run_with(&["--detach", "--pid-file", file.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), container.pid().to_string());
}

/// In a directory that somebody else writes to.
#[test]
fn a_pid_file_follows_no_link_waits_for_nobody_and_leaves_nothing_beside_it() {
    for there in ["nothing", "a file", "a link"] {
        let container = Container::of(Bundle::sleeping());
        let (dir, victim) = (container.bundle.beside("run"), container.bundle.beside("victim"));
        fs::create_dir(&dir).unwrap();
        fs::write(&victim, "as it was").unwrap();
        let file = dir.join("pid");
        match there {
            "a file" => fs::write(&file, "of a container before").unwrap(),
            "a link" => std::os::unix::fs::symlink(&victim, &file).unwrap(),
            _ => {}
        }
        // What the runtime has once used as a name for what isn't whole yet, and what runc does.
        std::os::unix::fs::symlink(&victim, dir.join(".pid.ampoule")).unwrap();
        let names =
            |dir| fs::read_dir(dir).unwrap().flatten().map(|e| e.file_name()).collect::<BTreeSet<_>>();
        let before = names(&dir);
        container.create_with(&["--pid-file", file.to_str().unwrap()]).ok();
        assert_eq!(fs::read_to_string(&file).unwrap(), container.pid().to_string(), "{there}");
        assert!(fs::symlink_metadata(&file).unwrap().is_file(), "{there}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "as it was", "{there}");
        let new: Vec<_> = names(&dir).difference(&before).cloned().collect();
        assert!(new.iter().all(|name| name == "pid"), "{there}: {new:?}");
    }
}

#[test]
fn a_pid_file_that_cannot_be_written_leaves_nothing() {
    let container = Container::of(Bundle::sleeping());
    container.create_with(&["--pid-file", "/nowhere/pid"]).fails().saying("/nowhere");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn the_pidfd_socket_receives_a_pidfd_of_the_first_process() {
    ampoule_only!("runc 1.1 knows no --pidfd-socket");
    let container = Container::of(Bundle::sleeping());
    let socket = ConsoleSocket::listen(&container.bundle.beside("pidfd"));
    let flags = ["--pidfd-socket", socket.path().to_str().unwrap()];
    container.create_with(&flags).ok();
    assert_eq!(socket.receive_pidfd(), container.pid());
    container.delete_force().ok();
    container.run_with(&[&flags[..], &["--detach"]].concat()).ok();
    assert_eq!(socket.receive_pidfd(), container.pid());
}

#[test]
fn run_adopts_orphans_unless_told_not_to() {
    let root = nix::unistd::geteuid().is_root();
    require!(root, "root", named "an ordinary user cannot mount the proc of a pid namespace that is not theirs");
    for (flags, adopts) in [(&[][..], true), (&["--no-subreaper"], false)] {
        let container = Container::of(Bundle::asking(&["adopted"]).without_namespace("pid"));
        let run = container.spawn(container.command(&container.args_for("run", flags)), "run");
        let pid = run.pid();
        assert_eq!(run.finish().ok().answer() == json!(pid), adopts, "{flags:?}");
    }
}

#[test]
fn run_detached_returns_while_the_program_lives() {
    let container = Container::of(Bundle::sleeping());
    container.run_with(&["--detach"]).ok();
    assert_eq!(container.status(), "running");
    container.kill("KILL").ok();
    container.wait_status("stopped");
    container.delete().ok();
}

#[test]
fn run_deletes_the_container_at_its_end() {
    let container = Container::of(Bundle::asking(&["exit", "3"]));
    assert_eq!(container.run().code, 3);
    assert_eq!(container.status(), "none");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn run_keeps_the_container_when_told_to() {
    let container = Container::of(Bundle::asking(&["exit", "3"]));
    assert_eq!(container.run_with(&["--keep"]).code, 3);
    assert_eq!(container.status(), "stopped");
    container.delete().ok();
    assert_eq!(container.status(), "none");
}

#[test]
fn the_bundle_is_the_working_directory_by_default() {
    let container = Container::of(Bundle::asking(&["cwd"]));
    container.bundle.write();
    let mut command = container.command(&["run", &container.id]);
    command.current_dir(container.bundle.path());
    assert_eq!(container.spawn(command, "run").finish().ok().answer(), "/");
}

/// Whoever has made it may enter it before its start, also without rights over processes: hooks that set up a network do.
#[test]
fn a_container_that_waits_for_its_start_can_be_entered() {
    let container = Container::of(Bundle::sleeping());
    container.create().ok();
    let args = ["exec", &container.id, "/bin/probe", "cwd"];
    assert_eq!(container.call(&args).ok().answer(), json!("/"));
    require!(is_root(), "root", named NO_MOUNTS);
    let limited = |args: &[&str]| {
        let call = container.command(args);
        let mut limited = Command::new("setpriv");
        limited.args(["--bounding-set", "-sys_ptrace", "--inh-caps", "-all"]);
        limited.arg(call.get_program()).args(call.get_args());
        container.spawn(limited, args[0]).finish()
    };
    container.delete_force().ok();
    limited(&container.args_for("create", &[])).ok();
    assert_eq!(limited(&args).ok().answer(), json!("/"));
}
