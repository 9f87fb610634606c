//! `pause` under load and in pods: orphans by the hundred thousand, other containers' orphans, and its own weight.

use ampoule_tests::{
    Bundle, Call, Container, Init, Scratch, as_pid_1, child_of, pause, probe, queue_signal, wait_for,
    wait_for_sigwait,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

/// A figure of /proc/PID/smaps_rollup, in kB.
fn memory(pid: i32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("read smaps_rollup");
    let line = text.lines().find(|line| line.starts_with(&format!("{name}:"))).expect(name);
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

fn children(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// How many of a process's children wait to be reaped.
fn zombies(pid: i32) -> usize {
    let is_zombie = |child: &String| {
        fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    };
    children(pid).iter().filter(|child| is_zombie(child)).count()
}

#[test]
fn a_hundred_thousand_orphans_are_reaped_and_no_signal_is_lost() {
    const EACH: &str = "50000";
    let scratch = Scratch::new();
    let script = format!("\"$0\" orphans {EACH} & \"$0\" orphans {EACH} & exec \"$0\" queued");
    let command = Init::ours().command(&[], &["sh", "-c", &script, probe().to_str().unwrap()]);
    let call = Call::start(as_pid_1(&command), scratch.path().join("load"));
    let pid = child_of(call.pid());
    wait_for("the command", || call.stdout().contains("ready"));

    let (mut sent, mut most, mut before, begin) = (0, 0, 0, Instant::now());
    while call.stdout().matches("orphans").count() < 2 {
        assert!(begin.elapsed() < Duration::from_secs(240), "the orphans take too long");
        queue_signal(pid, 40, sent).expect("send a signal");
        sent += 1;
        if sent == 100 {
            // Not at the start: by now it has done at least once all that it does.
            before = memory(pid, "Anonymous");
        }
        most = most.max(zombies(pid));
        std::thread::sleep(Duration::from_millis(2));
    }
    wait_for("the last orphan to be reaped", || zombies(pid) == 0);
    let (took, after) = (begin.elapsed(), memory(pid, "Anonymous"));
    queue_signal(pid, 40, -1).expect("send the last signal");
    let outcome = call.finish().ok();
    println!(
        "100000 orphans in {took:?}; at most {most} zombies; {sent} signals; {before} kB, then {after} kB"
    );
    let last = outcome.stdout.lines().last().unwrap_or_default();
    assert_eq!(last, json!({ "queued": sent }).to_string(), "{outcome}");
    assert!(sent > 100, "{sent} signals are too few to show anything");
    // Dozens, a few hundred when other tests keep pause from running.
    assert!(most < 1000, "{most} zombies at once");
    // What is its own: its share of the program's pages also rises when other tests' pauses end.
    assert!(after <= before, "it grew from {before} kB to {after} kB");
}

/// A container whose only file is pause.
fn pod() -> Container {
    let bundle = Bundle::asking(&[]).with(|c| c["process"]["args"] = json!(["/pause"]));
    fs::copy(pause(), bundle.rootfs().join("pause")).expect("install pause");
    let container = Container::of(bundle);
    container.launch();
    container
}

/// A container in the pid namespace of another.
fn beside(pid: i32, questions: &[&str]) -> Container {
    let joined = json!({ "type": "pid", "path": format!("/proc/{pid}/ns/pid") });
    Container::of(Bundle::asking(questions).without_namespace("pid").adding("/linux/namespaces", joined))
}

#[test]
fn its_weight_is_not_a_matter_of_luck() {
    // Where the kernel puts the arguments in the stack is random: one start of ten would be a page heavier.
    let scratch = Scratch::new();
    for _ in 0..50 {
        for mut command in [Init::ours().bare(&[]), Init::ours().command(&["-s"], &["sleep", "1000"])] {
            command.env_clear().env("PATH", "/bin:/usr/bin");
            let call = Call::start(command, scratch.path().join("pause"));
            wait_for_sigwait(call.pid());
            let pss = memory(call.pid(), "Pss");
            children(call.pid()).iter().for_each(|child| end(child.parse().unwrap()));
            end(call.pid());
            assert!(pss <= 16, "Pss is {pss} kB");
        }
    }
}

fn end(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("end a process");
}

#[test]
fn it_weighs_at_most_16_kb_in_a_container_and_ends_when_told() {
    let pod = pod();
    let pid = pod.pid();
    wait_for_sigwait(pid);
    let (pss, rss) = (memory(pid, "Pss"), memory(pid, "Rss"));
    println!("pause in a container: Pss {pss} kB, Rss {rss} kB");
    assert!(pss <= 16, "Pss is {pss} kB");
    pod.kill("TERM").ok();
    pod.wait_status("stopped");
    assert_eq!(pod.output().stderr, "Shutting down, got signal: Terminated\n");
}

#[test]
fn in_a_pod_orphans_of_another_container_are_reaped() {
    let pod = pod();
    let pid = pod.pid();
    let send = |signal| kill(Pid::from_raw(pid), signal).expect("signal pause");
    // Stopped, it shows whose orphans they become.
    send(Signal::SIGSTOP);
    let member = beside(pid, &["orphans", "500", ",", "sleep", "1000"]);
    member.launch();
    member.wait_output("sleeping");
    assert_eq!(zombies(pid), 500, "orphans of another container");
    send(Signal::SIGCONT);
    wait_for("the orphans to be reaped", || children(pid).is_empty());
    assert_eq!((pod.status(), member.status()), ("running".into(), "running".into()));
}
