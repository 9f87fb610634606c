//! `events`: what a container uses, and when it ran out of memory.

use ampoule_tests::{
    Bundle, Call, Container, Layout, ON_V1, Outcome, Runtime, ampoule_only, cgroups_named, has_cgroup_v1,
    has_cgroup_v2_controller, patience, remove_cgroup, repeats, require, wait_for,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

fn with_memory(questions: &[&str], megabytes: u64) -> Bundle {
    Bundle::asking(questions).with(|c| {
        c["linux"]["resources"]["memory"] = json!({ "limit": megabytes * MIB, "swap": megabytes * MIB });
    })
}

/// The one line of `events --stats`, without its envelope.
#[track_caller]
fn stats(container: &Container) -> Value {
    let mut answer = container.call(&["events", "--stats", &container.id]).ok().answer();
    assert_eq!((&answer["type"], &answer["id"]), (&json!("stats"), &json!(container.id)), "{answer}");
    answer["data"].take()
}

/// `events`, going on, and what it has told so far.
struct Events<'a> {
    call: Call,
    container: &'a Container,
}

impl<'a> Events<'a> {
    /// Begun, and watching: the first line has come.
    fn of(container: &'a Container, interval: &str) -> Self {
        let call = container
            .spawn(container.command(&["events", "--interval", interval, &container.id]), "events-on");
        let events = Self { call, container };
        wait_for("a line of events", || !events.lines().is_empty());
        events
    }

    fn path(&self) -> std::path::PathBuf {
        self.container.bundle.beside("events-on.stdout")
    }

    /// The complete lines.
    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path()).unwrap_or_default();
        let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        complete.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }

    fn ooms(&self) -> Vec<Value> {
        self.lines().into_iter().filter(|l| l["type"] == "oom").collect()
    }

    /// runc's end only with the cgroup, which is there until the container is deleted.
    fn finish(self) -> Outcome {
        if !Runtime::get().is_ampoule() {
            self.container.delete_force().ok();
        }
        self.call.finish()
    }
}

fn has_memory() -> bool {
    has_cgroup_v1("memory") || has_cgroup_v2_controller("memory")
}

/// How many periods of its CPU quota a container has begun, by the kernel's word.
fn periods(container: &Container) -> u64 {
    let controller = if has_cgroup_v1("cpu") { "cpu" } else { "" };
    let text = container.cgroups().read(controller, "cpu.stat");
    text.lines().find_map(|l| l.strip_prefix("nr_periods ")?.parse().ok()).expect("nr_periods")
}

#[test]
fn stats_tell_what_the_container_uses() {
    require!(has_memory(), "a memory controller");
    let container =
        Container::of(with_memory(&["alloc", "16", ",", "spawn", "2", ",", "sleep", "1000"], 64).with(|c| {
            c["linux"]["resources"]["pids"] = json!({ "limit": 50 });
            c["linux"]["resources"]["cpu"] = json!({ "quota": 5_000, "period": 10_000 });
        }));
    container.launch();
    container.wait_output("sleeping");
    let before = periods(&container);
    let stats = stats(&container);
    let after = periods(&container);
    let keys: Vec<_> = stats.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["blkio", "cpu", "cpuset", "hugetlb", "intel_rdt", "memory", "network_interfaces", "pids"];
    assert_eq!(keys, expected);
    assert_eq!(stats["pids"], json!({ "current": 3, "limit": 50 }));
    let memory = &stats["memory"];
    assert_eq!(memory["usage"]["limit"], 64 * MIB, "{memory}");
    let used = memory["usage"]["usage"].as_u64().unwrap();
    assert!(used > 0 && used < 64 * MIB, "{memory}");
    if let Some(max) = memory["usage"]["max"].as_u64() {
        assert!((16 * MIB..=64 * MIB).contains(&max), "{memory}");
    }
    for part in ["swap", "kernel", "kernelTCP"] {
        assert!(memory[part]["limit"].is_u64() && memory[part]["failcnt"].is_u64(), "{part}: {memory}");
    }
    // A huge page may save some of them.
    assert!(memory["raw"]["pgfault"].as_u64().unwrap() >= 8 * MIB / 4096, "{memory}");
    let usage = &stats["cpu"]["usage"];
    let total = usage["total"].as_u64().unwrap();
    assert!((500_000..60_000_000_000).contains(&total), "{usage}: touching 16 MiB takes time");
    assert!(usage["user"].is_u64() && usage["kernel"].is_u64(), "{usage}");
    let told = stats["cpu"]["throttling"]["periods"].as_u64().unwrap_or(0);
    assert!((before..=after).contains(&told), "{stats}: between {before} and {after}");
    assert_eq!(stats["network_interfaces"], Value::Null);
    assert_eq!(stats["intel_rdt"], json!({}));
    if has_cgroup_v1("cpuacct") {
        let sum: u64 = usage["percpu"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
        assert!(sum >= total, "{usage}: read later than the total");
        assert_eq!(usage["percpu_user"].as_array().unwrap().len(), usage["percpu"].as_array().unwrap().len());
        let cpus = container.cgroups().read("cpuset", "cpuset.cpus");
        let first: u64 = cpus.split(['-', ',']).next().unwrap().parse().unwrap();
        assert_eq!(stats["cpuset"]["cpus"][0], first, "{stats}");
    }
}

#[test]
fn without_controllers_v2_counts_time_and_processes() {
    let bundle = Bundle::asking(&["alloc", "4", ",", "spawn", "2", ",", "sleep", "1000"]);
    let container = Container::on(Layout::PureV2, bundle);
    container.launch();
    container.wait_output("sleeping");
    require!(!has_cgroup_v2_controller("memory"), "a v2 without controllers", named "only hybrid hosts have one");
    ampoule_only!("runc 1.1 wants the pids controller");
    let stats = stats(&container);
    assert_eq!(stats["pids"]["current"], 3, "{stats}");
    assert!(stats["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{stats}");
    assert_eq!(stats["memory"]["usage"], json!({ "limit": 0, "failcnt": 0 }));
    if std::path::Path::new("/proc/pressure/cpu").exists() {
        assert!(stats["cpu"]["psi"]["some"]["avg10"].is_f64(), "{stats}");
        assert!(stats["memory"]["psi"]["full"]["total"].is_u64(), "{stats}");
    }
}

#[test]
fn a_line_comes_each_interval_until_the_container_ends() {
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let start = Instant::now();
    let events = Events::of(&container, "100ms");
    wait_for("three lines", || events.lines().len() >= 3);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300), "three lines after {took:?}");
    let lines = events.lines();
    assert!(lines.iter().all(|l| l["type"] == "stats" && l["id"] == json!(container.id)), "{lines:?}");
    assert!(lines.iter().all(|l| l["data"]["cpu"]["usage"]["total"].is_u64()), "{lines:?}");
    container.kill("KILL").ok();
    container.wait_status("stopped");
    let outcome = events.finish().ok();
    assert_eq!(outcome.stderr, "", "{outcome}");
}

#[test]
fn one_that_never_has_a_line_to_write_notices_the_end_too() {
    ampoule_only!("runc's ends with the cgroup");
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let call = container.spawn(container.command(&["events", "--interval", "100h", &container.id]), "events");
    wait_for("events to watch", || {
        fs::read_to_string(format!("/proc/{}/wchan", call.pid())).is_ok_and(|name| name.contains("poll"))
    });
    container.kill("KILL").ok();
    assert_eq!(call.finish().ok().stdout, "");
}

#[test]
fn each_process_that_is_killed_for_want_of_memory_is_told() {
    require!(has_memory(), "a memory controller");
    let container = Container::of(with_memory(&["sleep", "1000"], 32));
    container.launch();
    let events = Events::of(&container, "50ms");
    assert_eq!(events.ooms(), [Value::Null; 0]);
    for kills in 1..=2 {
        assert_eq!(container.call(&["exec", &container.id, "/bin/probe", "alloc", "128"]).code, 128 + 9);
        wait_for("an oom line", || events.ooms().len() >= kills);
    }
    assert_eq!(events.ooms()[0], json!({ "type": "oom", "id": container.id }));
    container.call(&["exec", &container.id, "/bin/probe", "alloc", "2"]).ok();
    if Runtime::get().is_ampoule() {
        let lines = events.lines().len();
        wait_for("more lines", || events.lines().len() > lines + 2);
        assert_eq!(events.ooms().len(), 2, "one for each kill");
    }
    container.kill("KILL").ok();
    events.finish().ok();
}

#[test]
fn the_last_news_may_be_that_the_init_was_killed() {
    require!(has_memory(), "a memory controller");
    let container = Container::of(with_memory(&["alloc", "128"], 32));
    container.create().ok();
    let events = Events::of(&container, "50ms");
    container.start().ok();
    container.wait_status("stopped");
    if !Runtime::get().is_ampoule() {
        wait_for("an oom line", || !events.ooms().is_empty());
    }
    let outcome = events.finish().ok();
    let last = outcome.stdout.lines().rfind(|l| l.contains(r#""type":"oom""#));
    assert!(last.is_some(), "{outcome}");
}

#[test]
fn a_kill_is_told_although_its_cgroup_is_gone() {
    // systemd removes a scope's as soon as it is empty, and who reads may come later.
    require!(has_cgroup_v2_controller("memory"), "the v2 memory controller", named ON_V1);
    ampoule_only!("runc's news are gone with it");
    let mut container = Container::of(with_memory(&["alloc", "128"], 32));
    let systemd = Runtime::get().flags().contains(&"--systemd-cgroup");
    let parent = format!("{}-parent", container.id);
    if !systemd {
        container.bundle.config["linux"]["cgroupsPath"] = json!(format!("/{parent}/{}", container.id));
    }
    container.create().ok();
    let dir = container.cgroups().dir("").to_owned();
    let events = Events::of(&container, "50ms");
    events.call.signal(Signal::SIGSTOP);
    container.start().ok();
    container.wait_status("stopped");
    if !systemd {
        remove_cgroup(&dir);
    }
    wait_for("the cgroup to go", || !dir.exists());
    events.call.signal(Signal::SIGCONT);
    let outcome = events.finish().ok();
    assert_eq!(outcome.stdout.matches(r#""type":"oom""#).count(), 1, "{outcome}");
    container.delete().ok();
    cgroups_named(&parent).iter().for_each(|dir| remove_cgroup(dir));
}

#[test]
fn a_created_and_a_paused_container_tell_too() {
    let container = Container::of(Bundle::sleeping());
    container.create().ok();
    assert_eq!(stats(&container)["pids"]["current"].as_u64().map(|n| n > 0), Some(true));
    container.start().ok();
    container.call(&["pause", &container.id]).ok();
    assert_eq!(stats(&container)["pids"]["current"], 1);
    container.call(&["resume", &container.id]).ok();
}

/// Starts it with a reader, who goes away after one line unless `interval` lets none come.
fn left_alone(container: &Container, interval: &str, lines: usize) {
    let mut command = container.command(&["events", "--interval", interval, &container.id]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..lines {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with(r#"{"type":"stats""#), "{line}");
    }
    drop(reader);
    let end = Instant::now() + patience();
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it goes on with nobody reading");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn it_ends_when_its_reader_goes_away() {
    let container = Container::of(Bundle::sleeping());
    container.launch();
    left_alone(&container, "20ms", 1);
    if Runtime::get().is_ampoule() {
        left_alone(&container, "1h", 0);
    }
}

#[test]
fn it_ends_when_it_is_told_to() {
    let container = Container::of(Bundle::sleeping());
    container.launch();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let events = Events::of(&container, "20ms");
        events.call.signal(signal);
        assert_eq!(events.call.finish().code, 128 + signal as i32);
    }
    assert_eq!(container.status(), "running");
}

#[test]
fn it_needs_no_more_memory_after_thousands_of_lines() {
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let events = Events::of(&container, "1ms");
    let line = fs::read_to_string(events.path()).unwrap().lines().next().unwrap().len() as u64;
    let resident = |lines| {
        let len = || fs::metadata(events.path()).unwrap().len();
        wait_for(&format!("{lines} lines"), || len() > lines * line);
        let status = fs::read_to_string(format!("/proc/{}/status", events.call.pid())).unwrap();
        ampoule_tests::field(&status, "VmRSS").trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    // Emulated CPUs write 15 a second.
    let (few, many) = (repeats(1000).max(250), repeats(3000).max(750));
    let (early, late) = (resident(few as u64), resident(many as u64));
    // A Go program collects its garbage when it likes.
    let room = if Runtime::get().is_ampoule() { 16 } else { 16 << 10 };
    assert!(late <= early + room, "{early} kB after {few} lines, {late} kB after {many}");
    container.kill("KILL").ok();
    events.finish().ok();
}

#[test]
fn a_time_that_is_none_is_an_error() {
    let container = Container::of(Bundle::sleeping());
    container.launch();
    for time in ["0", "0s", "-1s"] {
        let outcome = container.call(&["events", "--stats", "--interval", time, &container.id]);
        outcome.fails().saying("greater than 0");
    }
    for time in ["5", "soon", "", "1h2"] {
        container.call(&["events", "--stats", "--interval", time, &container.id]).fails();
    }
    container.call(&["events", "--stats", "--interval", "1m30.5s", &container.id]).ok();
}

#[test]
fn a_container_that_is_not_running_is_an_error() {
    let container = Container::of(Bundle::asking(&["cwd"]));
    container.bundle.write();
    container.call(&["events", &container.id]).fails().saying("does not exist");
    container.launch();
    container.wait_status("stopped");
    let words = format!("container with id {} is not running", container.id);
    container.call(&["events", &container.id]).fails().saying(&words);
    container.call(&["events", "--stats", &container.id]).fails().saying(&words);
}
