//! `exec`: one more process in a container that is there.

use ampoule_tests::{
    Bundle, ConsoleSocket, Container, Outcome, Runtime, ampoule_only, has_cgroup_v1,
    has_cgroup_v2_controller, require, wait_for,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use serde_json::json;
use std::fs;

/// A running container, and a call of exec in it.
fn running(bundle: Bundle) -> Container {
    let container = Container::of(bundle);
    container.launch();
    container
}

fn exec(container: &Container, flags: &[&str], questions: &[&str]) -> Outcome {
    let mut args = vec!["exec"];
    args.extend(flags);
    args.extend([container.id.as_str(), "/bin/probe"]);
    args.extend(questions);
    container.call(&args)
}

/// What a namespace of the container's init is called.
fn namespace(container: &Container, name: &str) -> String {
    let link = fs::read_link(format!("/proc/{}/ns/{name}", container.pid())).unwrap();
    link.to_string_lossy().into_owned()
}

#[test]
fn it_is_in_every_namespace_and_cgroup_of_the_container() {
    let container = running(Bundle::sleeping().with_namespace("cgroup"));
    let outcome = exec(&container, &[], &["ns", ",", "readlink", "/proc/self", ",", "sleep", "0"]).ok();
    let answers = outcome.answers();
    for name in ["pid", "net", "mnt", "ipc", "uts", "cgroup"] {
        assert_eq!(answers[0][name], namespace(&container, name), "{name}");
    }
    assert_ne!(answers[1], "1");
    let cgroups = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mut call = container.command(&["exec", &container.id, "/bin/probe", "sleep", "1000"]);
    let call = container.spawn(
        {
            call.stdin(std::process::Stdio::null());
            call
        },
        "long",
    );
    let of = |pid: i32| cgroups(&pid.to_string());
    let init = container.pid();
    wait_for("a second process", || {
        let all = ampoule_tests::pids_mentioning(&container.id);
        all.iter().any(|pid| {
            let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            *pid != init && args.starts_with(b"/bin/probe\0sleep") && of(*pid) == of(init)
        })
    });
    container.kill("KILL").ok();
    assert_eq!(call.finish().code, 128 + 9);
}

#[test]
fn it_is_in_the_user_namespace_with_its_ids() {
    let container = running(Bundle::sleeping().with_user_namespace());
    let outcome = exec(&container, &["--user", "5:6"], &["ns", ",", "cat", "/proc/self/status"]).ok();
    let answers = outcome.answers();
    assert_eq!(answers[0]["user"], namespace(&container, "user"));
    let status = answers[1].as_str().unwrap();
    assert_eq!(ampoule_tests::field(status, "Uid"), "5 5 5 5");
    assert_eq!(ampoule_tests::field(status, "Gid"), "6 6 6 6");
}

#[test]
fn its_exit_code_is_the_programs() {
    let container = running(Bundle::sleeping());
    assert_eq!(exec(&container, &[], &["exit", "7"]).code, 7);
    assert_eq!(exec(&container, &[], &["raise", "SIGTERM"]).code, 128 + 15);
}

#[test]
fn a_failure_of_the_runtime_is_255() {
    let container = running(Bundle::sleeping().with_file("/bin/data", "x", 0o644));
    let call = |program: &str| container.call(&["exec", &container.id, program]);
    for (program, words) in [
        ("nowhere", "executable file not found in $PATH"),
        ("/no/where", "no such file or directory"),
        ("/bin/data", "permission denied"),
    ] {
        let outcome = call(program).saying(words);
        assert_eq!(outcome.code, 255, "{outcome}");
    }
    let none = container.call(&["exec", "no-such-container", "/bin/probe"]);
    assert_eq!(none.saying("does not exist").code, 255);
}

#[test]
fn the_process_takes_after_the_containers_own() {
    let bundle = Bundle::sleeping().with(|c| {
        c["process"]["env"] = json!(["A=1", "PATH=/bin"]);
        c["process"]["cwd"] = json!("/tmp");
        c["process"]["user"] = json!({ "uid": 3, "gid": 4, "additionalGids": [9], "umask": 0o77 });
    });
    let container = running(bundle);
    let ask = ["env", ",", "cwd", ",", "cat", "/proc/self/status"];
    let answers = exec(&container, &[], &ask).ok().answers();
    let env = answers[0].as_array().unwrap();
    assert!(env.contains(&json!("A=1")), "{env:?}");
    assert_eq!(answers[1], "/tmp");
    let status = answers[2].as_str().unwrap();
    assert_eq!(ampoule_tests::field(status, "Uid"), "3 3 3 3");
    assert_eq!(ampoule_tests::field(status, "Groups"), "9");
    let flags = ["-e", "A=2", "-e", "B=x=y", "--cwd", "/proc", "-u", "5", "-g", "8"];
    let answers = exec(&container, &flags, &ask).ok().answers();
    let env = answers[0].as_array().unwrap();
    // The last one counts for getenv(3) of most libraries only if the first is gone, so both stay: runc's choice.
    assert!(env.contains(&json!("A=2")) && env.contains(&json!("B=x=y")), "{env:?}");
    assert_eq!(answers[1], "/proc");
    let status = answers[2].as_str().unwrap();
    assert_eq!(ampoule_tests::field(status, "Uid"), "5 5 5 5");
    assert_eq!(ampoule_tests::field(status, "Gid"), "4 4 4 4");
    assert_eq!(ampoule_tests::field(status, "Groups"), "8 9");
}

/// CVE-2026-30892: a user that was misread became root.
#[test]
fn an_exec_whose_pid_file_cannot_be_written_is_ended() {
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let flags =
        ["exec", "--detach", "--pid-file", "/nowhere/pid", &container.id, "/bin/probe", "sleep", "1000"];
    container.call(&flags).saying("/nowhere");
    let inside = container.call(&["ps", "--format", "json", &container.id]).ok().stdout;
    assert_eq!(inside.trim(), format!("[{}]", container.pid()));
}

#[test]
fn an_exec_that_fails_leaves_no_process_to_whoever_inherits_it() {
    let container = Container::of(Bundle::sleeping());
    // Whatever loses its parent is this process's from here on: the container's init, and nothing else.
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    container.launch();
    container.call(&["exec", &container.id, "/bin/missing"]).saying("/bin/missing");
    container.call(&["exec", "--cwd", "/nowhere", &container.id, "/bin/probe", "cwd"]).saying("/nowhere");
    let ended = waitpid(None, Some(WaitPidFlag::WNOHANG)).unwrap();
    assert_eq!(ended, WaitStatus::StillAlive, "a process that has ended was not waited for");
}

#[test]
fn a_user_that_is_no_number_is_refused() {
    let container =
        running(Bundle::sleeping().with(|c| c["process"]["user"] = json!({ "uid": 3, "gid": 4 })));
    for user in ["root", "-1", "1:", "4294967296", "1:2:3"] {
        if user == "4294967296" && !Runtime::get().is_ampoule() {
            continue; // runc 1.1 makes it 0
        }
        let outcome = exec(&container, &["--user", user], &["cwd"]);
        assert_ne!(outcome.code, 0, "{user}: {outcome}");
        assert_eq!(outcome.stdout, "", "{user}");
    }
}

/// CVE-2022-29162: no inheritable capability unless asked.
#[test]
fn added_capabilities_are_in_three_sets() {
    let container = running(Bundle::sleeping());
    let flags = ["--cap", "CAP_SYS_CHROOT", "--no-new-privs"];
    let status = exec(&container, &flags, &["cat", "/proc/self/status"]).ok().text();
    let mask = |name: &str| u64::from_str_radix(&ampoule_tests::field(&status, name), 16).unwrap();
    const SYS_CHROOT: u64 = 1 << 18;
    for set in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(mask(set) & SYS_CHROOT, SYS_CHROOT, "{set}");
    }
    assert_eq!(mask("CapInh"), 0);
    assert_eq!(mask("CapAmb"), 0);
    assert_eq!(ampoule_tests::field(&status, "NoNewPrivs"), "1");
}

#[test]
fn a_process_can_be_described_by_a_file() {
    let container = running(Bundle::sleeping());
    let file = container.bundle.beside("process.json");
    let process = json!({
        "args": ["/bin/probe", "args", ",", "cwd"], "cwd": "/dev", "env": ["PATH=/bin"], "user": { "uid": 7, "gid": 7 }
    });
    fs::write(&file, process.to_string()).unwrap();
    let answers =
        container.call(&["exec", "--process", file.to_str().unwrap(), &container.id]).ok().answers();
    assert_eq!(answers[1], "/dev");
    fs::write(&file, r#"{"args":["x"],"cwd":7}"#).unwrap();
    let outcome = container.call(&["exec", "-p", file.to_str().unwrap(), &container.id]);
    assert_eq!(outcome.code, 255, "{outcome}");
    assert!(outcome.stderr.contains("cwd"), "{outcome}");
}

#[test]
fn detached_it_writes_its_pid_and_runs_on() {
    let container = running(Bundle::sleeping());
    let file = container.bundle.beside("exec.pid");
    exec(&container, &["--detach", "--pid-file", file.to_str().unwrap()], &["sleep", "1000"]).ok();
    let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(args, b"/bin/probe\0sleep\x001000\0");
    container.kill("KILL").ok();
    wait_for("its end with the init", || !ampoule_tests::pids_mentioning(&container.id).contains(&pid));
}

#[test]
fn its_pidfd_goes_to_the_socket() {
    ampoule_only!("runc 1.1 knows no --pidfd-socket");
    let container = running(Bundle::sleeping());
    let socket = ConsoleSocket::listen(&container.bundle.beside("pidfd"));
    let file = container.bundle.beside("exec.pid");
    let [socket_path, file_path] = [socket.path(), &file].map(|path| path.to_str().unwrap());
    exec(
        &container,
        &["--detach", "--pidfd-socket", socket_path, "--pid-file", file_path],
        &["sleep", "1000"],
    )
    .ok();
    assert_eq!(socket.receive_pidfd().to_string(), fs::read_to_string(&file).unwrap());
}

#[test]
fn preserved_descriptors_are_passed_and_no_others() {
    let container = running(Bundle::sleeping());
    let inner = container.command(&["exec", "--preserve-fds", "1", &container.id, "/bin/probe", "fds"]);
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "exec \"$@\" 3</dev/null 4</dev/null", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    let fds = container.spawn(command, "exec").finish().ok().answer();
    let names: Vec<_> = fds.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["0", "1", "2", "3"], "{fds}");
}

#[test]
fn a_terminal_goes_to_the_console_socket() {
    let container = running(Bundle::sleeping());
    let socket = ConsoleSocket::listen(&container.bundle.beside("console"));
    let flags = ["--tty", "--detach", "--console-socket", socket.path().to_str().unwrap()];
    exec(&container, &flags, &["tty"]).ok();
    let said = socket.receive().expect("controlling");
    assert!(said.contains("\"controlling\":true"), "{said}");
    assert!(said.contains("/dev/pts/"), "{said}");
}

#[test]
fn a_file_and_tty_go_together_as_conmon_says_them() {
    let container = running(Bundle::sleeping());
    let socket = ConsoleSocket::listen(&container.bundle.beside("console"));
    let file = container.bundle.beside("process.json");
    let process = json!({ "terminal": true, "args": ["/bin/probe", "line"], "cwd": "/", "user": { "uid": 0, "gid": 0 } });
    fs::write(&file, process.to_string()).unwrap();
    let [socket_path, file] = [socket.path(), &file].map(|path| path.to_str().unwrap());
    let args =
        ["exec", "--process", file, "--detach", "--tty", "--console-socket", socket_path, &container.id];
    container.call(&args).ok();
    let mut terminal = socket.receive();
    terminal.type_keys("words\n");
    terminal.expect("\"words\"");
}

#[test]
fn a_stopped_container_takes_no_process() {
    let container = Container::of(Bundle::asking(&["cwd"]));
    container.launch();
    container.wait_status("stopped");
    let outcome = exec(&container, &[], &["cwd"]).saying("stopped container");
    assert_eq!(outcome.code, 255);
}

#[test]
fn a_created_container_takes_one() {
    let container = Container::of(Bundle::sleeping());
    container.create().ok();
    assert_eq!(exec(&container, &[], &["cwd"]).ok().answer(), "/");
    assert_eq!(container.status(), "created");
}

#[test]
fn a_paused_container_takes_one_only_if_told_so() {
    let container = running(Bundle::sleeping());
    container.call(&["pause", &container.id]).ok();
    let outcome = exec(&container, &[], &["cwd"]).saying("cannot exec in a paused container");
    assert_eq!(outcome.code, 255);
    ampoule_only!("runc 1.1 knows no --ignore-paused in every build");
    let mut args = vec!["exec", "--ignore-paused", container.id.as_str()];
    args.extend(["/bin/probe", "cwd"]);
    let call = container.spawn(container.command(&args), "insisting");
    std::thread::sleep(std::time::Duration::from_millis(100));
    container.call(&["resume", &container.id]).ok();
    assert_eq!(call.finish().ok().answer(), "/");
}

#[test]
fn a_container_that_divided_its_cgroup_takes_one() {
    ampoule_only!("runc 1.1 gives up on a hybrid host");
    let controller = ["pids", "hugetlb"].into_iter().find(|c| has_cgroup_v2_controller(c));
    require!(controller.is_some(), "a v2 controller", named "v1 may have them all");
    let container = running(Bundle::sleeping());
    let own = container.cgroups().dir("").to_owned();
    let below = own.join("below");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("cgroup.procs"), container.pid().to_string()).unwrap();
    fs::write(own.join("cgroup.subtree_control"), format!("+{}", controller.unwrap())).unwrap();
    let text = exec(&container, &[], &["cat", "/proc/self/cgroup"]).ok().text();
    let line = text.lines().find(|line| line.starts_with("0::")).unwrap();
    assert!(line.ends_with("/below"), "{text}");
    let beside = own.join("beside");
    fs::create_dir(&beside).unwrap();
    let text = exec(&container, &["--cgroup", ":beside"], &["cat", "/proc/self/cgroup"]);
    // v1 has no such groups, and they are meant, too.
    if text.code == 0 {
        assert!(text.text().contains("/beside"), "{text}");
    } else {
        text.saying("--cgroup :beside: there is no");
    }
}

#[test]
fn a_cgroup_can_be_named_for_some_controllers_of_v1() {
    require!(has_cgroup_v1("pids"), "the v1 pids controller", named "v2 has one hierarchy for all of them");
    let container = running(Bundle::sleeping());
    let below = container.cgroups().dir("pids").join("below");
    fs::create_dir(&below).unwrap();
    let text = exec(&container, &["--cgroup", "pids:below"], &["cat", "/proc/self/cgroup"]).ok().text();
    let ends_below = |name: &str| text.lines().any(|l| l.contains(name) && l.ends_with("/below"));
    assert!(ends_below(":pids:") && !ends_below(":memory:"), "{text}");
}

#[test]
fn a_path_that_leaves_the_cgroup_is_refused() {
    let container = running(Bundle::sleeping());
    for path in ["../x", "a/../../x", "/.."] {
        let outcome = exec(&container, &["--cgroup", path], &["cwd"]);
        assert_ne!(outcome.code, 0, "{path}: {outcome}");
    }
}

#[test]
fn nothing_of_the_runtimes_is_open_in_it() {
    let container = running(Bundle::sleeping());
    let fds = exec(&container, &[], &["fds"]).ok().answer();
    let names: Vec<_> = fds.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["0", "1", "2"], "{fds}");
}

#[test]
fn many_at_once_all_run() {
    let container = running(Bundle::sleeping());
    std::thread::scope(|scope| {
        for n in 0..20 {
            let container = &container;
            scope.spawn(move || {
                let code = n.to_string();
                let mut command = container.command(&["exec", &container.id, "/bin/probe", "exit", &code]);
                let status = command.stdout(std::process::Stdio::null()).status().unwrap();
                assert_eq!(status.code(), Some(n));
            });
        }
    });
}

#[test]
fn the_bundle_may_be_gone_by_then() {
    ampoule_only!("runc reads the bundle's config.json again");
    let container = running(Bundle::sleeping());
    fs::remove_file(container.bundle.beside("config.json")).unwrap();
    assert_eq!(exec(&container, &[], &["cwd"]).ok().answer(), "/");
}
