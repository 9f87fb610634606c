//! SIGTERM, SIGINT and SIGHUP end a verb that waits, and what it has made is removed.

use ampoule_tests::{
    Bundle, Call, Container, Layout, ampoule_only, descendants_of, ignore_signal, is_root, pids_mentioning,
    require, wait_for,
};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::Mode;
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Long before anything else would end the wait.
#[track_caller]
fn ends_soon(call: Call, signal: Signal) -> ampoule_tests::Outcome {
    call.signal(signal);
    let sent = Instant::now();
    let outcome = call.finish();
    assert!(sent.elapsed() < Duration::from_secs(5), "{signal}, after {:?}: {outcome}", sent.elapsed());
    outcome
}

/// A bundle with a hook that ends only by a signal, and the file that it makes first.
fn with_a_hook_that_waits(kind: &str) -> Bundle {
    let bundle = Bundle::sleeping();
    let program = bundle.rootfs().join("bin/probe").display().to_string();
    let script = format!("echo > {}; exec {program} sleep 1000", bundle.beside("began").display());
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
    bundle.with(|c| c["hooks"] = json!({ kind: hook }))
}

#[test]
fn a_hook_that_does_not_end_does_with_create_and_run() {
    ampoule_only!("runc 1.1 dies, and leaves the hook and the container");
    for (signal, verb) in ENDING.into_iter().flat_map(|signal| [(signal, "create"), (signal, "run")]) {
        let container = Container::of(with_a_hook_that_waits("createRuntime"));
        let began = container.bundle.beside("began");
        let call = container.spawn(container.command(&container.args_for(verb, &[])), verb);
        wait_for("the hook", || began.exists());
        ends_soon(call, signal).fails().saying(&format!("ended by {signal}")).saying("createRuntime");
        assert_eq!(container.leftovers(), [""; 0], "{verb}, {signal}");
    }
}

#[test]
fn so_does_a_hook_of_any_kind() {
    ampoule_only!("runc 1.1 dies, and leaves the hook and the container");
    let before = ["prestart", "createRuntime", "createContainer"].map(|kind| (kind, "create"));
    for (kind, verb) in before.into_iter().chain([("poststart", "run")]) {
        let container = Container::of(with_a_hook_that_waits(kind));
        let call = container.spawn(container.command(&container.args_for(verb, &[])), verb);
        wait_for("the hook", || container.bundle.beside("began").exists());
        ends_soon(call, Signal::SIGTERM).fails();
        assert_eq!(container.leftovers(), [""; 0], "{kind}");
    }
    // In the container's own root there is no program but the probe.
    let hook = json!([{ "path": "/bin/probe", "args": ["probe", "sleep", "1000"] }]);
    let container =
        Container::of(Bundle::sleeping().with(|c| c["hooks"] = json!({ "startContainer": hook })));
    let call = container.start_run();
    wait_for("the hook", || descendants_of(call.pid()).len() == 2);
    ends_soon(call, Signal::SIGTERM).fails();
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn so_does_a_poststop_hook_and_the_rest_goes_all_the_same() {
    ampoule_only!("runc 1.1 dies, and leaves the hook and the container");
    for signal in ENDING {
        let bundle = with_a_hook_that_waits("poststop")
            .with(|c| c["process"]["args"] = json!(["/bin/probe", "exit", "3"]));
        let container = Container::of(bundle);
        let call = container.start_run();
        wait_for("the hook", || container.bundle.beside("began").exists());
        let outcome = ends_soon(call, signal);
        assert_eq!(outcome.code, 3, "{outcome}");
        assert!(outcome.stderr.contains("poststop hook #0: /bin/sh: wait for its end"), "{outcome}");
        assert_eq!(container.leftovers(), [""; 0], "{signal}");
    }
}

#[test]
fn who_is_started_with_nohup_lives_on_when_the_terminal_hangs_up() {
    ampoule_only!("runc 1.1 leaves signals as they are");
    let container = Container::of(with_a_hook_that_waits("createRuntime"));
    container.bundle.write();
    let mut create = container.command(&container.args_for("create", &[]));
    ignore_signal(&mut create, Signal::SIGHUP);
    let call = container.spawn(create, "create");
    wait_for("the hook", || container.bundle.beside("began").exists());
    call.signal(Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(300));
    ends_soon(call, Signal::SIGTERM).fails().saying("ended by SIGTERM");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_poststart_hook_that_does_not_end_does_with_start() {
    ampoule_only!("runc 1.1 leaves the hook");
    let container = Container::of(with_a_hook_that_waits("poststart"));
    container.create().ok();
    let call = container.spawn(container.command(&["start", &container.id]), "start");
    wait_for("the hook", || container.bundle.beside("began").exists());
    let hook = || pids_mentioning(container.bundle.rootfs().to_str().unwrap());
    wait_for("its program", || !hook().is_empty());
    ends_soon(call, Signal::SIGTERM);
    wait_for("its end", || hook().is_empty());
}

/// How many processes are in the container's own cgroups: one that is frozen on its way through them is not in all.
fn processes(container: &Container) -> usize {
    let cgroups = container.cgroups();
    let own = cgroups.dirs().filter(|dir| dir.to_string_lossy().contains(&container.id));
    own.map(|dir| ampoule_tests::pids_in(dir).len()).max().unwrap()
}

#[test]
fn exec_ends_that_waits_for_a_paused_container_and_its_process_never_runs() {
    require!(is_root(), "root", named "processes by cgroup");
    ampoule_only!("runc 1.1 leaves its process");
    for (layout, (signal, flags)) in Layout::all().into_iter().flat_map(|layout| {
        ENDING.into_iter().zip([&[][..], &["--detach"], &[]]).map(move |call| (layout, call))
    }) {
        let container = Container::on(layout, Bundle::sleeping());
        container.launch();
        container.wait_output("sleeping");
        container.call(&["pause", &container.id]).ok();
        let args = [&["exec", "--ignore-paused"][..], flags, &[&container.id, "/bin/probe", "sleep", "77"]];
        let call = container.spawn(container.command(&args.concat()), "exec");
        wait_for("its process", || processes(&container) == 2);
        let outcome = ends_soon(call, signal);
        assert_eq!(outcome.code, 255, "{outcome}");
        let outcome = outcome.saying(&format!("ended by {signal}"));
        container.call(&["resume", &container.id]).ok();
        wait_for("the end of its process", || processes(&container) == 1);
        assert_eq!(outcome.stdout, "");
    }
}

#[test]
fn a_verb_ends_that_waits_for_another() {
    ampoule_only!("runc 1.1 has no locks");
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let directory = File::open(container.state_root().join(&container.id)).unwrap();
    let lock = Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
    for (signal, verb) in ENDING.into_iter().cycle().zip(["start", "pause", "resume", "delete", "update"]) {
        let call = container.spawn(container.command(&[verb, &container.id]), verb);
        wait_for("it to wait", || waits_for_the_lock(&call, &container));
        assert_ne!(ends_soon(call, signal).code, 0, "{verb}");
    }
    drop(lock);
    assert_eq!(container.status(), "running");
}

/// Whether a call has the container's directory open, and again for its lock.
fn waits_for_the_lock(call: &Call, container: &Container) -> bool {
    let directory = container.state_root().join(&container.id);
    let open = fs::read_dir(format!("/proc/{}/fd", call.pid())).into_iter().flatten().flatten();
    open.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == directory)).count() == 2
}

/// A pipe that is full, and that nobody reads. It lives as long as the handle.
fn full_pipe(container: &Container) -> (File, PathBuf) {
    let path = container.bundle.beside("full");
    nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let mut pipe =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    while pipe.write(&[b'.'; 4096]).is_ok() {}
    (pipe, path)
}

fn to_a_full_pipe(mut command: Command, path: &Path) -> Call {
    command.stderr(OpenOptions::new().write(true).open(path).unwrap()).stdout(Stdio::null());
    let call = Call::start_with_streams(command);
    std::thread::sleep(Duration::from_millis(200));
    call
}

#[test]
fn a_verb_ends_whose_report_nobody_reads() {
    ampoule_only!("runc 1.1 leaves signals as they are");
    for signal in ENDING {
        let container = Container::of(Bundle::sleeping());
        let (_pipe, path) = full_pipe(&container);
        let making = container.args_for("create", &[]);
        let create = container.command(&[&["--debug"], &making[..]].concat());
        assert_eq!(ends_soon(to_a_full_pipe(create, &path), signal).code, 1);
        let log = ["--debug", "--log", path.to_str().unwrap()];
        let call = container.spawn(container.command(&[&log, &making[..]].concat()), "create");
        std::thread::sleep(Duration::from_millis(200));
        ends_soon(call, signal).fails().saying(&format!("ended by {signal}"));
        assert_eq!(container.leftovers(), [""; 0], "{signal}");
        // The last word, of an error that came without a signal.
        let create = container.command(&["create", "--bundle", "/nowhere", &container.id]);
        assert_eq!(ends_soon(to_a_full_pipe(create, &path), signal).code, 1);
        container.launch();
        let exec = container.command(&["--debug", "exec", &container.id, "/bin/probe", "cwd"]);
        assert_eq!(ends_soon(to_a_full_pipe(exec, &path), signal).code, 255);
    }
}

/// A socket at which as many wait as may, and nobody is let in.
fn busy_socket(path: &Path) -> Vec<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let make = || socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    let (listener, address) = (make(), UnixAddr::new(path).unwrap());
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let mut all = vec![listener];
    loop {
        let one = make();
        match connect(one.as_raw_fd(), &address) {
            Ok(()) => all.push(one),
            Err(e) => {
                assert_eq!(e, Errno::EAGAIN);
                return all;
            }
        }
    }
}

#[test]
fn a_verb_ends_that_waits_at_a_socket_where_nobody_is_let_in() {
    ampoule_only!("runc 1.1 gives up at once");
    for (flag, is_terminal) in [("--console-socket", true), ("--pidfd-socket", false)] {
        for signal in ENDING {
            let container =
                Container::of(Bundle::sleeping().with(|c| c["process"]["terminal"] = json!(is_terminal)));
            let path = container.bundle.beside("busy");
            let _all = busy_socket(&path);
            let making = container.args_for("create", &[flag, path.to_str().unwrap()]);
            let call = container.spawn(container.command(&making), "create");
            std::thread::sleep(Duration::from_millis(200));
            ends_soon(call, signal).fails().saying(&format!("ended by {signal}"));
            assert_eq!(container.leftovers(), [""; 0], "{flag}, {signal}");
        }
    }
}
