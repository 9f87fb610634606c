//! The shim as a process: how it begins and ends, what it costs, what becomes of what it leaves behind.

use ampoule_tests::{Bundle, Runtime, Shim, call_timeout, repeats, shim_program, wait_for};
use containerd_shim_protos::api::*;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::types::introspection::RuntimeInfo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn it_is_one_small_thread_and_stays_so() {
    let shim = Shim::start(Bundle::sleeping());
    shim.launch();
    let mut ran = 0;
    let mut run = |count: usize| {
        for _ in 0..count {
            let name = format!("e{ran}");
            ran += 1;
            shim.exec(&shim.exec_request(&name, &["exit", "0"]));
            assert_eq!(shim.wait(&name), 0);
            shim.delete(&name).unwrap();
        }
        shim.memory("Private_Dirty")
    };
    // 10 000 in all; fewer where machines or runtimes are slow: emulated, an exec takes a fifth of a second.
    let step = if repeats(1000) < 1000 || !Runtime::get().is_ampoule() { 20 } else { 1000 };
    // The allocator's own memory goes up by some pages before it settles.
    let figures: Vec<u64> = (0..10).map(|_| run(step)).collect();
    assert_eq!(fs::read_dir(format!("/proc/{}/task", shim.pid)).unwrap().count(), 1);
    assert!(figures.iter().all(|kb| *kb <= 250), "private, in kB: {figures:?}");
    assert!(figures[9] <= figures[4] + 32, "it grows, in kB: {figures:?}");
}

#[test]
fn events_wait_for_a_containerd_that_is_away() {
    let mut shim = Shim::start(Bundle::asking(&["exit", "0"]));
    shim.events.stop();
    for _ in 0..20 {
        shim.launch();
        shim.wait("");
        shim.delete("").unwrap();
    }
    shim.launch();
    shim.wait("");
    assert_eq!(shim.events.received(), []);
    shim.events.listen();
    let all = || shim.events.topics(&shim.id);
    wait_for("all the events", || all().len() == 20 * 4 + 3);
    let mut expected = ["create", "start", "exit", "delete"].repeat(21);
    expected.pop();
    assert_eq!(all(), expected);
}

#[test]
fn a_pod_has_one_shim_which_ends_with_its_last_container() {
    let annotation = |c: &mut serde_json::Value| {
        c["annotations"] =
            serde_json::json!({ "io.kubernetes.cri.sandbox-id": std::process::id().to_string() });
    };
    let shim = Shim::start(Bundle::sleeping().with(annotation));
    let second = format!("{}-second", shim.id);
    // The same kind of path as the first one's, for the same driver.
    let cgroup = shim.bundle().config["linux"]["cgroupsPath"].as_str().unwrap().replace(&shim.id, &second);
    let bundle = Bundle::sleeping().with(annotation).with(|c| c["linux"]["cgroupsPath"] = cgroup.into());
    let address = shim.start_another(&second, &bundle).unwrap();
    assert_eq!(address, format!("unix://{}", shim.socket.display()));
    shim.launch();
    let request = shim.create_request_for(&second, &bundle);
    shim.launch_with(request);
    let id = || second.clone();
    let kill = KillRequest { id: id(), signal: 9, ..Default::default() };
    shim.tasks.kill(call_timeout(), &kill).unwrap();
    shim.tasks.wait(call_timeout(), &WaitRequest { id: id(), ..Default::default() }).unwrap();
    shim.tasks.delete(call_timeout(), &DeleteRequest { id: id(), ..Default::default() }).unwrap();
    shim.tasks.shutdown(call_timeout(), &ShutdownRequest { id: id(), ..Default::default() }).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(shim.state("").unwrap().status(), Status::RUNNING);
}

#[test]
fn it_ends_by_shutdown_alone_when_it_has_nothing_to_look_after() {
    let shim = Shim::start(Bundle::sleeping());
    shim.launch();
    let shutdown = ShutdownRequest { id: shim.id.clone(), now: true, ..Default::default() };
    shim.tasks.shutdown(call_timeout(), &shutdown).unwrap();
    kill(Pid::from_raw(shim.pid), Signal::SIGTERM).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(shim.state("").unwrap().status(), Status::RUNNING);
    shim.kill("", 9).unwrap();
    shim.wait("");
    shim.delete("").unwrap();
    shim.tasks.shutdown(call_timeout(), &shutdown).unwrap();
    wait_for("its end", || shim.leftovers().is_empty());
}

#[test]
fn a_dead_sockets_place_is_taken() {
    let shim = Shim::start(Bundle::sleeping());
    kill(Pid::from_raw(shim.pid), Signal::SIGKILL).unwrap();
    wait_for("its end", || {
        UnixListener::bind(shim.socket.with_extension("free")).is_ok() && {
            let _ = fs::remove_file(shim.socket.with_extension("free"));
            std::os::unix::net::UnixStream::connect(&shim.socket).is_err()
        }
    });
    assert!(shim.socket.exists());
    shim.start_another(&shim.id, shim.bundle()).unwrap();
    let tasks = shim.connect();
    let pid = tasks.connect(call_timeout(), &ConnectRequest::new()).unwrap().shim_pid;
    assert_ne!(pid as i32, shim.pid);
    tasks.shutdown(call_timeout(), &ShutdownRequest::new()).unwrap();
}

#[test]
fn what_a_killed_shim_leaves_is_removed_by_delete() {
    let shim = Shim::start(Bundle::sleeping());
    let pid = shim.launch();
    shim.exec(&shim.exec_request("e", &["sleep", "1000"]));
    kill(Pid::from_raw(shim.pid), Signal::SIGKILL).unwrap();
    wait_for("the shim's end", || std::os::unix::net::UnixStream::connect(&shim.socket).is_err());
    assert!(fs::exists(format!("/proc/{pid}")).unwrap(), "the container must outlive its shim");
    let mut command = Command::new(shim_program());
    command.args(["-namespace", "test", "-id", &shim.id, "-bundle"]).arg(shim.bundle().path()).arg("delete");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let answer = DeleteResponse::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!(
        (answer.exit_status, answer.pid as i32),
        (137, pid),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(answer.exited_at.seconds > 0);
    wait_for("nothing to be left", || shim.leftovers().is_empty());
}

#[test]
fn delete_of_what_never_was_is_no_error() {
    let dir = ampoule_tests::Scratch::new();
    let mut command = Command::new(shim_program());
    command.args(["-namespace", "test", "-id", "nobody", "delete"]).current_dir(dir.path());
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success());
    assert_eq!(DeleteResponse::parse_from_bytes(&output.stdout).unwrap().exit_status, 137);
}

#[test]
fn info_holds_the_runtimes_features() {
    let output = Command::new(shim_program()).arg("-info").stdin(Stdio::null()).output().unwrap();
    let info = RuntimeInfo::parse_from_bytes(&output.stdout).unwrap();
    let features: serde_json::Value = serde_json::from_slice(&info.features.value).unwrap();
    assert_eq!(info.features.type_url, "types.containerd.io/opencontainers/runtime-spec/1/features/Features");
    let namespaces = features["linux"]["namespaces"].as_array().unwrap();
    assert!(namespaces.iter().any(|name| name == "user"), "{features}");
    assert!(!info.version.version.is_empty());
}

#[test]
fn a_shim_that_nobody_comes_back_for_ends() {
    let shim = Shim::start(Bundle::sleeping());
    let other = format!("{}-other", shim.id);
    let bundle = Bundle::sleeping();
    let address = shim.start_another(&other, &bundle).unwrap();
    let socket = Path::new(address.strip_prefix("unix://").unwrap());
    assert_ne!(socket, shim.socket);
    let end = Instant::now() + Duration::from_secs(60) + ampoule_tests::patience();
    while socket.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(!socket.exists(), "it is still there");
    // Who is spoken to stays.
    shim.launch();
}

#[test]
fn a_call_of_the_runtime_ends_with_its_shim_and_what_it_has_made_is_deleted() {
    let bundle = Bundle::sleeping();
    let program = bundle.rootfs().join("bin/probe").display().to_string();
    let marks = bundle.beside("began").display().to_string();
    let script = format!("echo > {marks}; exec {program} sleep 1000");
    let hook = serde_json::json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
    let shim = Shim::start(bundle.with(|c| c["hooks"] = serde_json::json!({ "createRuntime": hook })));
    let (tasks, request) = (shim.connect(), shim.create_request());
    let create = std::thread::spawn(move || tasks.create(call_timeout(), &request).is_err());
    wait_for("the hook", || Path::new(&marks).exists());
    kill(Pid::from_raw(shim.pid), Signal::SIGKILL).unwrap();
    assert!(create.join().unwrap());
    let deleted = shim.delete_verb().ok();
    assert_eq!(deleted.stderr, "");
    wait_for("all to be gone", || shim.leftovers().is_empty());
    // And it stays so: nobody is left to go on with it.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(shim.leftovers(), [""; 0]);
}

/// The processor's time that a process has had, in clock ticks (fields 14 and 15 of proc_pid_stat(5)).
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2);
    fields.map(|field| field.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_connection_that_cannot_be_taken_waits_and_holds_up_nothing() {
    let shim = Shim::start(Bundle::sleeping());
    shim.launch();
    let limit = |most: &str| {
        let pid = shim.pid.to_string();
        let done = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={most}:")]).status();
        assert!(done.unwrap().success());
    };
    limit("3");
    let waiting = std::os::unix::net::UnixStream::connect(&shim.socket).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let before = ticks(shim.pid);
    std::thread::sleep(Duration::from_secs(1));
    let spent = ticks(shim.pid) - before;
    // Its first connection is served all the while.
    let state = shim.state("");
    limit("1024");
    assert_eq!(state.unwrap().status(), Status::RUNNING);
    assert!(spent < 20, "{spent} ticks in a second");
    drop(waiting);
    shim.connect().connect(call_timeout(), &ConnectRequest::new()).unwrap();
}

#[test]
fn delete_tells_a_note_that_it_cannot_read() {
    let shim = Shim::start(Bundle::sleeping());
    let pid = shim.launch();
    kill(Pid::from_raw(shim.pid), Signal::SIGKILL).unwrap();
    wait_for("the shim's end", || std::os::unix::net::UnixStream::connect(&shim.socket).is_err());
    let note = shim.bundle().beside("ampoule-shim.json");
    fs::rename(&note, note.with_extension("aside")).unwrap();
    std::os::unix::fs::symlink(&note, &note).unwrap();
    let deleted = shim.delete_verb();
    fs::rename(note.with_extension("aside"), &note).unwrap();
    deleted.saying("symbolic link").saying("ampoule-shim.json");
    assert!(fs::exists(format!("/proc/{pid}")).unwrap());
    assert_eq!(shim.delete_verb().ok().stderr, "");
    wait_for("nothing to be left", || shim.leftovers().is_empty());
}
