//! Signals: sent with `kill`, and forwarded by `run`.

use ampoule_tests::{Bundle, Container, NO_PROC, is_root, pids_mentioning, require, wait_for};
use nix::sys::signal::Signal;
use std::fs;

#[test]
fn signals_of_run_reach_the_program() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGQUIT] {
        let container = Container::of(Bundle::asking(&["signals", signal.as_str()]));
        let run = container.start_run();
        wait_for("the program", || {
            fs::read_to_string(container.bundle.beside("run.stdout")).is_ok_and(|t| t.contains("ready"))
        });
        run.signal(signal);
        let outcome = run.finish().ok();
        assert!(outcome.stdout.contains(signal.as_str()), "{outcome}");
    }
}

#[test]
fn a_program_that_a_forwarded_signal_kills_gives_128_and_the_signal() {
    require!(is_root(), "root", named NO_PROC);
    // Not PID 1 of a namespace, which the kernel would protect.
    let container = Container::of(Bundle::sleeping().without_namespace("pid"));
    let run = container.start_run();
    wait_for("the program", || {
        fs::read_to_string(container.bundle.beside("run.stdout")).is_ok_and(|t| t.contains("sleeping"))
    });
    run.signal(Signal::SIGTERM);
    assert_eq!(run.finish().code, 128 + 15);
}

#[test]
fn kill_takes_a_signal_by_name_short_name_and_number() {
    for name in ["SIGUSR1", "USR1", "usr1", "10"] {
        let container = Container::of(Bundle::asking(&["signals", "SIGUSR1"]));
        container.launch();
        container.wait_output("ready");
        container.kill(name).ok();
        container.wait_output("SIGUSR1");
    }
}

#[test]
fn kill_sends_sigterm_when_no_signal_is_named() {
    let container = Container::of(Bundle::asking(&["signals", "SIGTERM"]));
    container.launch();
    container.wait_output("ready");
    container.call(&["kill", &container.id]).ok();
    container.wait_output("SIGTERM");
}

#[test]
fn kill_refuses_what_is_no_signal() {
    let container = Container::of(Bundle::sleeping());
    container.launch();
    for name in ["SIGNOTHING", "0x9", "-1", "1000"] {
        let outcome = container.call(&["kill", "--", &container.id, name]);
        assert_ne!(outcome.code, 0, "{outcome}");
    }
    assert_eq!(container.status(), "running");
}

#[test]
fn kill_all_reaches_every_process_of_a_shared_pid_namespace() {
    require!(is_root(), "root", named NO_PROC);
    // 34 is the first real-time signal, which kills, too.
    for signal in ["KILL", "TERM", "34"] {
        let container =
            Container::of(Bundle::asking(&["spawn", "3", ",", "sleep", "1000"]).without_namespace("pid"));
        container.launch();
        container.wait_output("sleeping");
        let pids = ampoule_tests::pids_in(container.cgroups().dir("pids"));
        assert_eq!(pids.len(), 4, "{pids:?}");
        container.call(&["kill", "--all", &container.id, signal]).ok();
        wait_for("all to end", || pids.iter().all(|p| !pids_mentioning(&container.id).contains(p)));
    }
}

#[test]
fn a_program_that_a_real_time_signal_kills_gives_128_and_the_signal() {
    require!(is_root(), "root", named NO_PROC);
    let container = Container::of(Bundle::sleeping().without_namespace("pid"));
    let run = container.start_run();
    wait_for("the program", || run.stdout().contains("sleeping"));
    container.wait_status("running");
    container.kill("35").ok();
    assert_eq!(run.finish().code, 128 + 35);
    assert_eq!(container.leftovers(), [""; 0]);
}
