//! Checkpoint and restore: what a container is afterwards, and what it had of the host's.

use ampoule_tests::criu::{OutputLines, WHY, works};
use ampoule_tests::{
    Bundle, Call, ConsoleSocket, Container, Mount, Runtime, Terminal, ampoule_only, require, wait_for,
};
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Stdio};

fn counting() -> Bundle {
    Bundle::asking(&["count"])
}

/// Runs it until it has counted a little, saves it, and brings it back.
#[track_caller]
fn there_and_back(container: &Container) -> (Vec<u64>, Vec<u64>) {
    let before = container.run_piped();
    before.wait(3);
    container.checkpoint(&[]).ok();
    let before = OutputLines::numbers(&before.all());
    let (restored, after) = container.restore(&[]);
    restored.ok();
    (before, OutputLines::numbers(&after.wait(3)))
}

/// A process's mounts, without what is a number of the kernel's.
fn mounts(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("read mountinfo");
    let shown = |m: &Mount| format!("{} {} {} {:?}", m.target, m.kind, m.root, m.options);
    let mut all: Vec<_> = Mount::parse(&text).iter().map(shown).collect();
    all.sort();
    all
}

fn identity(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read status");
    let of = ["Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Umask"];
    of.map(|name| ampoule_tests::field(&status, name)).join(" / ")
}

#[test]
fn a_counter_goes_on_where_it_was() {
    require!(works(), "CRIU", named WHY);
    let container = Container::of(counting());
    let (before, after) = there_and_back(&container);
    assert_eq!(after[0], before[before.len() - 1] + 1, "{before:?} {after:?}");
    assert_eq!(container.status(), "running");
    container.kill("KILL").ok();
    container.wait_status("stopped");
    container.delete().ok();
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_saved_container_is_gone_unless_it_is_left_running() {
    require!(works(), "CRIU", named WHY);
    let container = Container::of(counting());
    let stream = container.run_piped();
    stream.wait(2);
    container.checkpoint(&["--leave-running"]).ok();
    assert_eq!(container.status(), "running");
    let seen = stream.lines().len();
    stream.wait(seen + 2);
    container.checkpoint(&[]).ok();
    assert_eq!(container.status(), "none");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn it_comes_back_twice() {
    require!(works(), "CRIU", named WHY);
    let container = Container::of(counting());
    let (_, first) = there_and_back(&container);
    container.checkpoint(&[]).ok();
    let (restored, stream) = container.restore(&[]);
    restored.ok();
    assert!(OutputLines::numbers(&stream.wait(1))[0] > first[0]);
}

#[test]
fn its_mounts_identity_and_limits_are_as_before() {
    require!(works(), "CRIU", named WHY);
    ampoule_only!("runc 1.1 brings a read-only root back writable, and shows a cgroup's mount from its top");
    let container = Container::of(counting().with(|c| {
        c["linux"]["resources"]["pids"] = json!({ "limit": 33 });
        c["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        c["process"]["user"]["umask"] = json!(0o27);
        c["process"]["oomScoreAdj"] = json!(77);
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }],
        });
    }));
    let look = |pid: i32| {
        let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("read the score");
        let limits = [("pids", "pids.max"), ("memory", "cgroup.procs")];
        let limits = limits.map(|(controller, file)| container.cgroups().read(controller, file));
        (mounts(pid), identity(pid), score, limits[0].clone())
    };
    let stream = container.run_piped();
    stream.wait(1);
    let open = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).expect("read its descriptors").count();
    let files = open(container.pid());
    let (before, dir) = (look(container.pid()), container.cgroups().dir("pids").to_owned());
    container.checkpoint(&[]).ok();
    let (restored, stream) = container.restore(&[]);
    restored.ok();
    stream.wait(1);
    assert_eq!(look(container.pid()), before);
    // Nothing of CRIU's, or of the runtime's.
    assert_eq!(open(container.pid()), files);
    assert_eq!(container.cgroups().dir("pids"), dir);
    assert_eq!(ampoule_tests::pids_in(&dir), [container.pid()]);
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    assert!(ampoule_tests::field(&status, "NSpid").ends_with(" 1"), "{status}");
}

#[test]
fn a_restore_tells_its_pid() {
    require!(works(), "CRIU", named WHY);
    let container = Container::of(counting());
    container.run_piped().wait(1);
    container.checkpoint(&[]).ok();
    let file = container.bundle.beside("pid");
    let (restored, stream) = container.restore(&["--no-subreaper", "--pid-file", file.to_str().unwrap()]);
    restored.ok();
    stream.wait(1);
    assert_eq!(fs::read_to_string(file).unwrap(), container.pid().to_string());
}

#[test]
fn exec_pause_and_kill_work_afterwards() {
    require!(works(), "CRIU", named WHY);
    let container = Container::of(counting());
    there_and_back(&container);
    let init = fs::read_link(format!("/proc/{}/ns/time", container.pid()));
    let seen = container.ask(&["ns"]);
    // runc learned that in 1.2.
    assert!(!Runtime::get().is_ampoule() || seen["time"] == init.unwrap().to_str().unwrap(), "{seen}");
    container.call(&["pause", &container.id]).ok();
    assert_eq!(container.status(), "paused");
    container.call(&["resume", &container.id]).ok();
    container.kill("KILL").ok();
    container.wait_status("stopped");
}

#[test]
fn a_new_limit_in_config_json_holds_after_the_restore() {
    require!(works(), "CRIU", named WHY);
    let mut container = Container::of(counting());
    container.run_piped().wait(1);
    container.checkpoint(&[]).ok();
    container.bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 21 });
    container.restore(&[]).0.ok();
    assert_eq!(container.cgroups().read("pids", "pids.max"), "21");
}

#[test]
fn only_what_has_changed_since_the_parent_is_saved() {
    require!(works(), "CRIU", named WHY);
    let container = Container::of(Bundle::asking(&["alloc", "8", ",", "count"]));
    let stream = container.run_piped();
    stream.wait(2);
    let parent = container.bundle.beside("parent");
    let call = container.call(&[
        "checkpoint",
        "--pre-dump",
        "--image-path",
        parent.to_str().unwrap(),
        &container.id,
    ]);
    let tracked = ["can't do that", "missing features"].iter().all(|lack| !call.stderr.contains(lack));
    require!(tracked, "soft-dirty pages", named "some kernels don't tell which pages have changed");
    call.ok();
    let seen = stream.lines().len();
    stream.wait(seen + 2);
    container.checkpoint(&["--parent-path", "../parent"]).ok();
    let size = |dir: &std::path::Path| -> u64 {
        let pages = fs::read_dir(dir)
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with("pages-"));
        pages.map(|e| e.metadata().unwrap().len()).sum()
    };
    assert!(size(&container.images()) < size(&parent), "the parent was of no use");
    let (restored, stream) = container.restore(&[]);
    restored.ok();
    stream.wait(1);
}

#[test]
fn a_bind_mount_comes_back_also_where_a_link_leads_to_it() {
    require!(works(), "CRIU", named WHY);
    let bundle = counting().with_dir("/real");
    std::os::unix::fs::symlink("/real", bundle.rootfs().join("link")).unwrap();
    let (dir, file) = (bundle.beside("dir"), bundle.beside("file"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("inside"), "of the directory").unwrap();
    fs::write(&file, "of the file").unwrap();
    let bundle = bundle
        .adding("/mounts", json!({ "destination": "/link/dir", "source": dir, "options": ["rbind", "ro"] }))
        .adding("/mounts", json!({ "destination": "/real/dir/file", "source": file, "options": ["bind"] }));
    let container = Container::of(bundle);
    fs::write(container.bundle.beside("dir/file"), "hidden").unwrap();
    there_and_back(&container);
    assert_eq!(container.ask(&["cat", "/real/dir/inside"]), "of the directory");
    assert_eq!(container.ask(&["cat", "/link/dir/file"]), "of the file");
    assert_eq!(container.ask(&["write", "/real/dir/inside", "x"])["error"], "EROFS");
}

#[test]
fn a_user_namespace_comes_back_with_its_maps() {
    require!(works(), "CRIU", named WHY);
    ampoule_only!("runc 1.1 leaves the images to root alone, and CRIU reads them from inside");
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let container = Container::of(counting().with_namespace("user").with(|c| {
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
    }));
    there_and_back(&container);
    let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", container.pid())).unwrap();
    assert_eq!(read("uid_map").split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    assert!(ampoule_tests::field(&read("status"), "Uid").starts_with("100000 "));
    assert_eq!(
        container.ask(&["readlink", "/proc/self/ns/user"]),
        container.ask(&["readlink", "/proc/1/ns/user"])
    );
}

#[test]
fn criu_has_options_of_its_own_in_a_file_that_is_annotated() {
    require!(works(), "CRIU", named WHY);
    let mut container = Container::of(counting());
    let file = container.bundle.beside("criu.conf");
    fs::write(&file, "log-file another.log\n").unwrap();
    container.bundle.config["annotations"]["org.criu.config"] = json!(file);
    container.run_piped().wait(1);
    container.checkpoint(&[]).ok();
    assert!(container.images().join("another.log").exists());
}

#[test]
fn what_a_tmpfs_held_is_in_it_again() {
    require!(works(), "CRIU", named WHY);
    let container = Container::of(counting());
    container.run_piped().wait(1);
    container.ask(&["write", "/dev/shm/kept", "this"]);
    container.checkpoint(&[]).ok();
    container.restore(&[]).0.ok();
    assert_eq!(container.ask(&["cat", "/dev/shm/kept"]), "this");
}

#[test]
fn namespaces_that_were_joined_are_joined_again() {
    require!(works(), "CRIU", named WHY);
    let flags = ["--net", "--ipc", "--uts", "sleep", "1000"];
    let mut holder = Command::new("unshare").args(flags).stdin(Stdio::null()).spawn().expect("start unshare");
    let (own, pid) = (std::process::id(), holder.id());
    let of = |pid: u32| {
        ["net", "ipc", "uts"].map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap_or_default())
    };
    wait_for("new namespaces", || of(pid).iter().zip(of(own)).all(|(theirs, own)| *theirs != own));
    let joined = of(pid);
    let kinds = [("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    let bundle = kinds.iter().fold(counting(), |bundle, (kind, name)| {
        let path = format!("/proc/{pid}/ns/{name}");
        bundle.without_namespace(kind).adding("/linux/namespaces", json!({ "type": kind, "path": path }))
    });
    let container = Container::of(bundle);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        there_and_back(&container);
        of(container.pid() as u32)
    }));
    holder.kill().and_then(|()| holder.wait()).expect("end unshare");
    assert_eq!(outcome.unwrap(), joined);
}

#[test]
fn an_open_tcp_connection_is_saved_where_the_caller_allows_it() {
    require!(works(), "CRIU", named WHY);
    ampoule_only!("runc brings the container's network back without its lo");
    let container = Container::of(Bundle::asking(&["talk"]));
    let stream = container.run_piped();
    stream.wait(2);
    let refused = container.checkpoint(&[]).fails();
    let asks = !refused.stderr.contains("Can't get 1:16 opt");
    require!(asks, "a newer CRIU", named "4.1 asks TCP sockets what Linux 6.16 has for unix sockets alone");
    refused.saying("--tcp-established");
    let seen = stream.lines().len();
    stream.wait(seen + 2);
    container.checkpoint(&["--tcp-established"]).ok();
    let before = OutputLines::numbers(&stream.all());
    let (restored, stream) = container.restore(&["--tcp-established"]);
    restored.ok();
    assert_eq!(OutputLines::numbers(&stream.wait(3))[0], before[before.len() - 1] + 1);
}

#[test]
fn hooks_run_when_the_namespaces_are_there_and_when_it_is_gone() {
    require!(works(), "CRIU", named WHY);
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let bundle = counting();
    let told = bundle.beside("told");
    let bundle = kinds.iter().fold(bundle.with(|c| c["hooks"] = json!({})), |bundle, kind| {
        let inside = *kind == "startContainer";
        let script = format!("echo {kind} $(cat) >> {}", told.display());
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
        if inside { bundle } else { bundle.adding(&format!("/hooks/{kind}"), hook) }
    });
    let container = Container::of(bundle);
    container.run_piped().wait(1);
    let _ = fs::remove_file(&told);
    container.checkpoint(&[]).ok();
    container.restore(&[]).0.ok();
    let text = fs::read_to_string(&told).unwrap();
    let ran: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(ran, ["poststop", "prestart", "createRuntime"], "{text}");
    let state: Value = serde_json::from_str(text.lines().last().unwrap().split_once(' ').unwrap().1).unwrap();
    assert_eq!(state["pid"], container.pid());
}

#[test]
fn a_terminal_comes_back_over_the_console_socket() {
    require!(works(), "CRIU", named WHY);
    let container = Container::of(Bundle::asking(&["echo"]).with(|c| c["process"]["terminal"] = json!(true)));
    let socket = ConsoleSocket::listen(&container.bundle.beside("console"));
    let flags = ["--detach", "--console-socket", socket.path().to_str().unwrap()];
    container.run_with(&flags).ok();
    let mut terminal = socket.receive();
    terminal.expect("listening");
    terminal.type_keys("one\n");
    terminal.expect("0: one");
    container.checkpoint(&[]).ok();
    container.restore(&flags[1..]).0.ok();
    let mut terminal = socket.receive();
    terminal.type_keys("two\n");
    terminal.expect("1: two");
}

#[test]
fn a_terminal_comes_back_in_the_foreground() {
    require!(works(), "CRIU", named WHY);
    let container = Container::of(Bundle::asking(&["echo"]).with(|c| c["process"]["terminal"] = json!(true)));
    let mut first = Terminal::open(24, 80);
    let run = container.run_in(&first);
    first.expect("listening");
    container.checkpoint(&[]).ok();
    // Killed, as far as it can see.
    assert_eq!(run.finish().code, 137);
    let mut second = Terminal::open(30, 90);
    let images = container.images();
    let mut command =
        container.command(&container.args_for("restore", &["--image-path", images.to_str().unwrap()]));
    second.attach(&mut command);
    let restored = std::thread::spawn(move || command.status().expect("start the runtime"));
    second.type_keys("again\n");
    second.expect("0: again");
    second.type_keys("\n");
    second.expect("bye");
    assert_eq!(restored.join().unwrap().code(), Some(0));
    assert_eq!(container.status(), "none");
}

#[test]
fn output_in_a_file_of_the_hosts_goes_on_there() {
    require!(works(), "CRIU", named WHY);
    ampoule_only!("runc knows pipes only");
    let container = Container::of(counting());
    container.run_with(&["--detach"]).ok();
    container.wait_output("3");
    container.checkpoint(&[]).ok();
    let said = container.output().stdout.lines().count();
    let images = container.images();
    let call = container.args_for("restore", &["--detach", "--image-path", images.to_str().unwrap()]);
    let mut command = container.command(&call);
    let end = |name| fs::OpenOptions::new().append(true).open(container.bundle.beside(name)).unwrap();
    command.stdout(end("run.stdout")).stderr(end("run.stderr"));
    assert_eq!(Call::start_with_streams(command).finish().code, 0, "{}", container.output());
    wait_for("more output", || container.output().stdout.lines().count() > said + 2);
    let numbers: Vec<String> = container.output().stdout.lines().map(str::to_owned).collect();
    let wanted: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(OutputLines::numbers(&numbers), wanted);
}

#[test]
fn a_paused_container_runs_after_its_restore() {
    require!(works(), "CRIU", named WHY);
    let container = Container::of(counting());
    container.run_piped().wait(1);
    container.call(&["pause", &container.id]).ok();
    container.checkpoint(&[]).ok();
    let (restored, stream) = container.restore(&[]);
    restored.ok();
    stream.wait(2);
    assert_eq!(container.status(), "running");
}
