//! containerd's containers, through our own shim.

use ampoule_tests::engines::{NO_ENGINE, pack_tree};
use ampoule_tests::{
    Bundle, HostContainerd, Terminal, ampoule_only, has_containerd, patience, repeats, require, wait_for,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// A containerd, and a root file system with the probe in it.
macro_rules! containerd {
    () => {{
        ampoule_only!("the shim that containerd finds runs ampoule, whatever is under test");
        require!(has_containerd(), "containerd", named NO_ENGINE);
        let bundle = Bundle::sleeping();
        let rootfs = bundle.rootfs().to_str().unwrap().to_owned();
        (HostContainerd::start(), rootfs, bundle)
    }};
}

/// How many lines of `ctr events` tell each topic of each container.
fn count(events: &str) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for line in events.lines() {
        let Some(topic) = line.split_whitespace().find(|word| word.starts_with("/tasks/")) else { continue };
        let Some((_, rest)) = line.split_once("\"container_id\":\"") else { continue };
        let id = rest.split('"').next().unwrap_or_default();
        *counts.entry((id.to_owned(), topic.to_owned())).or_default() += 1;
    }
    counts
}

#[test]
fn a_container_runs_and_its_exit_code_comes_back() {
    let (containerd, rootfs, _bundle) = containerd!();
    let run =
        |id, questions: &[&str]| containerd.ctr(&containerd.run_args(&["--rm"], &rootfs, id, questions));
    let outcome = run("one", &["cwd"]).ok();
    assert_eq!(outcome.stdout, "\"/\"\n");
    assert_eq!(run("two", &["exit", "7"]).code, 7);
    wait_for("nothing to be left", || containerd.leftovers().is_empty());
}

#[test]
fn hundreds_of_containers_leave_nothing_and_have_one_exit_each_in_order() {
    let (containerd, rootfs, _bundle) = containerd!();
    let events = containerd.call(&["events"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    // An emulated machine takes five seconds for each.
    let rounds = if repeats(500) < 500 { 20 } else { 500 };
    for n in 0..rounds {
        containerd.ctr(&containerd.run_args(&["--rm"], &rootfs, &format!("c{n}"), &["exit", "0"])).ok();
    }
    wait_for("nothing to be left", || containerd.leftovers().is_empty());
    wait_for("the last event", || {
        let counts = count(&events.stdout());
        counts.contains_key(&(format!("c{}", rounds - 1), "/tasks/delete".to_owned()))
    });
    let heard = events.stdout();
    for n in 0..rounds {
        let id = format!("\"container_id\":\"c{n}\"");
        let topics: Vec<&str> = heard
            .lines()
            .filter(|line| line.contains(&id))
            .filter_map(|line| line.split_whitespace().find(|word| word.starts_with("/tasks/")))
            .collect();
        assert_eq!(topics, ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"], "c{n}");
    }
}

#[test]
fn execs_at_once_each_have_their_code_and_output() {
    let (containerd, rootfs, _bundle) = containerd!();
    containerd.ctr(&containerd.run_args(&["-d"], &rootfs, "box", &["sleep", "1000"])).ok();
    std::thread::scope(|scope| {
        for n in 0..20 {
            let containerd = &containerd;
            scope.spawn(move || {
                let (name, code) = (format!("e{n}"), n.to_string());
                let args =
                    ["task", "exec", "--exec-id", &name, "box", "/bin/probe", "args", ",", "exit", &code];
                let outcome = containerd.ctr(&args);
                assert_eq!(outcome.code, n, "{outcome}");
                assert!(outcome.stdout.contains(&format!("\"{code}\"")), "{outcome}");
            });
        }
    });
    containerd.ctr(&["task", "kill", "-s", "KILL", "box"]).ok();
    wait_for("its end", || containerd.status("box") == "STOPPED");
    containerd.ctr(&["task", "rm", "box"]);
    wait_for("nothing to be left", || containerd.leftovers().is_empty());
}

#[test]
fn an_exec_that_leaves_a_child_behind_returns() {
    let (containerd, rootfs, _bundle) = containerd!();
    containerd.ctr(&containerd.run_args(&["-d"], &rootfs, "box", &["sleep", "1000"])).ok();
    let args = ["task", "exec", "--exec-id", "e", "box", "/bin/probe", "linger", "1000"];
    let outcome = containerd.ctr(&args).ok();
    assert!(outcome.stdout.contains("left"), "{outcome}");
}

#[test]
fn a_task_can_be_paused_resumed_measured_listed_and_killed() {
    let (containerd, rootfs, _bundle) = containerd!();
    containerd.ctr(&containerd.run_args(&["-d"], &rootfs, "box", &["sleep", "1000"])).ok();
    assert_eq!(containerd.status("box"), "RUNNING");
    containerd.ctr(&["task", "pause", "box"]).ok();
    assert_eq!(containerd.status("box"), "PAUSED");
    containerd.ctr(&["task", "resume", "box"]).ok();
    assert_eq!(containerd.status("box"), "RUNNING");
    let metrics = containerd.ctr(&["task", "metrics", "box"]).ok().stdout;
    assert!(metrics.contains("pids.current"), "{metrics}");
    assert_eq!(containerd.ctr(&["task", "ps", "box"]).ok().stdout.lines().count(), 2);
    containerd.ctr(&["task", "kill", "-s", "TERM", "box"]).ok();
    containerd.ctr(&["task", "kill", "-s", "KILL", "box"]);
    wait_for("its end", || containerd.status("box") == "STOPPED");
    // ctr ends with the task's own code.
    assert_eq!(containerd.ctr(&["task", "rm", "box"]).code, 0);
    wait_for("nothing to be left", || containerd.leftovers().is_empty());
}

#[test]
fn a_terminal_follows_its_window() {
    let (containerd, rootfs, _bundle) = containerd!();
    let mut terminal = Terminal::open(24, 80);
    let mut command = containerd.command(&containerd.run_args(&["--rm", "-t"], &rootfs, "tty", &["winch"]));
    terminal.attach(&mut command);
    let mut child = command.spawn().unwrap();
    terminal.expect("80");
    terminal.resize(33, 101);
    let seen = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // ctr listens for the signal only some time after it has set the first size.
        scope.spawn(|| {
            while !seen.load(Ordering::Relaxed) {
                kill(Pid::from_raw(child.id() as i32), Signal::SIGWINCH).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        });
        terminal.expect("101");
        seen.store(true, Ordering::Relaxed);
    });
    let _ = child.kill();
    let _ = child.wait();
}

/// More seconds than a ctr takes to be gone, once it has started a container.
fn a_while() -> u64 {
    patience().as_secs().div_ceil(20)
}

#[test]
fn what_was_written_while_nobody_read_comes_with_attach() {
    let (containerd, rootfs, _bundle) = containerd!();
    let [before, after] = [a_while(), 3 * a_while()].map(|seconds| seconds.to_string());
    let questions = ["sleep", &before, ",", "cwd", ",", "sleep", &after];
    containerd.ctr(&containerd.run_args(&["-d"], &rootfs, "box", &questions)).ok();
    // ctr itself reads until it has gone.
    std::thread::sleep(std::time::Duration::from_millis(1500 * a_while()));
    let outcome = containerd.ctr(&["task", "attach", "box"]);
    assert!(outcome.stdout.contains("\"/\"\n"), "{outcome}");
}

#[test]
fn containers_outlive_a_killed_containerd_which_finds_them_again() {
    let (mut containerd, rootfs, _bundle) = containerd!();
    let many = repeats(100).max(10);
    for n in 0..many {
        let id = format!("c{n}");
        containerd.ctr(&containerd.run_args(&["-d"], &rootfs, &id, &["sleep", "1000"])).ok();
    }
    containerd.ctr(&containerd.run_args(&["-d"], &rootfs, "short", &["sleep", "2", ",", "exit", "9"])).ok();
    let shims = containerd.shims();
    assert_eq!(shims.len(), many + 1);
    let pids: BTreeMap<String, String> = tasks(&containerd);
    containerd.kill();
    // The short one's end comes while nobody listens.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    containerd.resume();
    assert_eq!(containerd.shims(), shims);
    wait_for("the exit that came meanwhile", || containerd.status("short") == "STOPPED");
    let after = tasks(&containerd);
    assert_eq!(after, pids, "{}", containerd.log());
    assert_eq!(containerd.status("c0"), "RUNNING");
    let events = containerd.call(&["events"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let outcome = containerd.ctr(&["task", "exec", "--exec-id", "e", "c0", "/bin/probe", "cwd"]).ok();
    assert_eq!(outcome.stdout, "\"/\"\n");
    for n in 0..many {
        containerd.ctr(&["task", "kill", "-s", "KILL", &format!("c{n}")]).ok();
    }
    let exits = || {
        count(&events.stdout()).into_iter().filter(|((_, topic), n)| topic == "/tasks/exit" && *n > 0).count()
    };
    wait_for("every exit", || exits() == many);
    let mut remove = vec!["task".to_owned(), "rm".to_owned(), "short".to_owned()];
    remove.extend((0..many).map(|n| format!("c{n}")));
    containerd.ctr(&remove.iter().map(String::as_str).collect::<Vec<_>>());
    wait_for("nothing to be left", || containerd.leftovers().is_empty());
}

/// The ids and pids that containerd lists.
fn tasks(containerd: &HostContainerd) -> BTreeMap<String, String> {
    let list = containerd.ctr(&["task", "ls"]).ok().stdout;
    let words =
        list.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    words.filter(|w| w.len() > 1).map(|w| (w[0].clone(), w[1].clone())).collect()
}

#[test]
fn no_output_is_lost_when_containerd_is_killed() {
    let (mut containerd, rootfs, _bundle) = containerd!();
    // 3 MiB are more than any fifo holds: most of it is still to be written when containerd goes.
    let before = a_while().to_string();
    containerd.ctr(&containerd.run_args(&["-d"], &rootfs, "box", &["sleep", &before, ",", "gush", "3"])).ok();
    containerd.kill();
    // ctr itself reads until it has gone; the writing begins after that.
    std::thread::sleep(std::time::Duration::from_millis(1500 * a_while()));
    containerd.resume();
    assert_eq!(containerd.status("box"), "RUNNING", "it was to wait for a reader");
    let mut attach = containerd.command(&["task", "attach", "box"]);
    let output =
        attach.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).output().unwrap();
    assert!(output.stdout.len() >= 3 << 20, "{}", output.stdout.len());
    let written = &output.stdout[output.stdout.len() - (3 << 20)..];
    for (n, eight) in written.as_chunks().0.iter().enumerate() {
        assert_eq!(u64::from_le_bytes(*eight), n as u64);
    }
}

#[test]
fn a_killed_shims_container_is_cleaned_up() {
    let (containerd, rootfs, _bundle) = containerd!();
    let events = containerd.call(&["events"]);
    containerd.ctr(&containerd.run_args(&["-d"], &rootfs, "box", &["sleep", "1000"])).ok();
    let shims = containerd.shims();
    assert_eq!(shims.len(), 1);
    kill(Pid::from_raw(shims[0]), Signal::SIGKILL).unwrap();
    wait_for("containerd to notice", || containerd.status("box") == "none");
    wait_for("nothing to be left", || containerd.leftovers().is_empty());
    wait_for("its exit", || {
        count(&events.stdout()).contains_key(&("box".to_owned(), "/tasks/exit".to_owned()))
    });
    assert!(events.stdout().contains("137"), "{}", events.stdout());
}

/// Imports an image of the probe.
fn import(containerd: &HostContainerd, bundle: &Bundle) -> &'static str {
    let (archive, name) = (bundle.beside("image.tar"), "localhost/probe:1");
    pack_tree(&["--cmd", "/bin/probe", "--ref", name], &bundle.rootfs(), &archive);
    containerd.ctr(&["image", "import", archive.to_str().unwrap()]).ok();
    name
}

#[test]
fn an_image_runs_on_the_mounts_of_its_snapshot() {
    let (containerd, _, bundle) = containerd!();
    let name = import(&containerd, &bundle);
    let run = [
        "run",
        "-d",
        "--runtime",
        ampoule_tests::RUNTIME_TYPE,
        name,
        "imaged",
        "/bin/probe",
        "sleep",
        "1000",
    ];
    containerd.ctr(&run).ok();
    assert_eq!(containerd.status("imaged"), "RUNNING");
    containerd.ctr(&["task", "kill", "-s", "KILL", "imaged"]).ok();
    wait_for("its end", || containerd.status("imaged") == "STOPPED");
    containerd.ctr(&["task", "rm", "imaged"]);
    containerd.ctr(&["container", "rm", "imaged"]).ok();
    wait_for("nothing to be left", || containerd.leftovers().is_empty());
}

#[test]
fn a_user_namespace_has_an_images_files() {
    let (containerd, _, bundle) = containerd!();
    let version = Command::new("containerd").arg("--version").output().unwrap().stdout;
    let is_new = String::from_utf8_lossy(&version).contains("/v2 ");
    require!(is_new, "containerd 2", named "the place v2-containerd-2 has one; older ones change all owners themselves");
    let name = import(&containerd, &bundle);
    let mut run = vec!["run", "--rm", "--runtime", ampoule_tests::RUNTIME_TYPE, "--remap-labels"];
    run.extend(["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", name, "mapped", "/bin/probe"]);
    run.extend(["stat", "/bin/probe", ",", "write", "/new", "text", ",", "stat", "/new"]);
    let outcome = containerd.ctr(&run).ok();
    for file in [0, 2].map(|n| outcome.answers()[n].clone()) {
        assert_eq!((&file["uid"], &file["gid"]), (&0.into(), &0.into()), "{outcome}");
    }
    wait_for("nothing to be left", || containerd.leftovers().is_empty());
}
