//! Which verb is allowed in which status: every pair.

use ampoule_tests::{Bundle, Container, Layout, Outcome, Runtime, wait_for};
use std::time::Duration;

/// What a verb gives in a status: success, or failure with these words.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Succeeds,
    Fails(&'static str),
}
use Ending::{Fails, Succeeds};

/// Brings a container into a status.
fn container_that_is(status: &str) -> Container {
    // The program of a stopped container ends by itself; any other sleeps.
    let container =
        Container::of(if status == "stopped" { Bundle::asking(&["cwd"]) } else { Bundle::sleeping() });
    match status {
        "none" => container.bundle.write(),
        "created" => drop(container.create().ok()),
        _ => container.launch(),
    }
    if status == "paused" {
        container.cgroups().freeze(true);
    }
    if status != "none" {
        container.wait_status(status);
    }
    container
}

fn call(container: &Container, verb: &str) -> Outcome {
    match verb {
        "create" => container.create(),
        "run" => container.run_with(&["--detach"]),
        "kill" => container.kill("USR1"),
        "delete --force" => container.delete_force(),
        verb => container.call(&[verb, &container.id]),
    }
}

/// Checks one verb in every status, each in a fresh container; `Err` words are looked for in any case.
fn check(verb: &str, endings: [(&str, Ending); 5]) {
    for (status, ending) in endings {
        let container = container_that_is(status);
        let outcome = call(&container, verb);
        match ending {
            Succeeds => assert_eq!(outcome.code, 0, "{verb} when {status}: {outcome}"),
            Fails(words) => {
                assert_eq!(outcome.code, 1, "{verb} when {status}: {outcome}");
                if Runtime::get().is_ampoule() {
                    outcome.saying(words).saying(&format!("ampoule: {verb} {}: ", container.id));
                }
            }
        }
    }
}

#[test]
fn create_wants_a_free_id() {
    let taken = Fails("already exists");
    check(
        "create",
        [("none", Succeeds), ("created", taken), ("running", taken), ("paused", taken), ("stopped", taken)],
    );
}

#[test]
fn run_wants_a_free_id() {
    let taken = Fails("already exists");
    check(
        "run",
        [("none", Succeeds), ("created", taken), ("running", taken), ("paused", taken), ("stopped", taken)],
    );
}

#[test]
fn start_wants_a_created_container() {
    check(
        "start",
        [
            ("none", Fails("does not exist")),
            ("created", Succeeds),
            ("running", Fails("running")),
            ("paused", Fails("paused")),
            ("stopped", Fails("stopped")),
        ],
    );
}

#[test]
fn state_wants_a_container() {
    check(
        "state",
        [
            ("none", Fails("does not exist")),
            ("created", Succeeds),
            ("running", Succeeds),
            ("paused", Succeeds),
            ("stopped", Succeeds),
        ],
    );
}

#[test]
fn ps_wants_a_container() {
    check(
        "ps",
        [
            ("none", Fails("does not exist")),
            ("created", Succeeds),
            ("running", Succeeds),
            ("paused", Succeeds),
            ("stopped", Succeeds),
        ],
    );
}

#[test]
fn kill_wants_a_live_container() {
    check(
        "kill",
        [
            ("none", Fails("does not exist")),
            ("created", Succeeds),
            ("running", Succeeds),
            ("paused", Succeeds),
            ("stopped", Fails("container not running")),
        ],
    );
}

#[test]
fn pause_wants_a_running_container() {
    check(
        "pause",
        [
            ("none", Fails("does not exist")),
            ("created", Succeeds),
            ("running", Succeeds),
            ("paused", Fails("container not running")),
            ("stopped", Fails("container not running")),
        ],
    );
}

#[test]
fn resume_wants_a_paused_container() {
    check(
        "resume",
        [
            ("none", Fails("does not exist")),
            ("created", Fails("container not paused")),
            ("running", Fails("container not paused")),
            ("paused", Succeeds),
            ("stopped", Fails("container not paused")),
        ],
    );
}

#[test]
fn a_paused_container_makes_no_progress_until_it_is_resumed() {
    for layout in Layout::all() {
        let container = Container::on(layout, Bundle::asking(&["count"]));
        container.launch();
        let exec = container.command(&["exec", &container.id, "/bin/probe", "count"]);
        let other = container.spawn(exec, "other");
        let counted = || [container.output().stdout, other.stdout()].map(|text| text.lines().count());
        wait_for("both to count", || counted().iter().all(|n| *n > 3));
        container.call(&["pause", &container.id]).ok();
        assert_eq!(container.status(), "paused");
        let before = counted();
        // A hundred times as long as one step.
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(counted(), before, "{layout:?}");
        container.call(&["resume", &container.id]).ok();
        assert_eq!(container.status(), "running");
        wait_for("both to go on", || counted().iter().zip(before).all(|(now, before)| *now > before + 3));
        container.kill("KILL").ok();
        container.wait_status("stopped");
    }
}

#[test]
fn delete_wants_a_stopped_container() {
    // runc deletes a created one too: nothing of the user's has run yet.
    check(
        "delete",
        [
            ("none", Fails("does not exist")),
            ("created", Succeeds),
            ("running", Fails("running")),
            ("paused", Fails("paused")),
            ("stopped", Succeeds),
        ],
    );
}

#[test]
fn forced_delete_works_always() {
    check(
        "delete --force",
        [
            ("none", Succeeds),
            ("created", Succeeds),
            ("running", Succeeds),
            ("paused", Succeeds),
            ("stopped", Succeeds),
        ],
    );
}

#[test]
fn the_status_after_each_verb_is_the_next_one() {
    let container = Container::of(Bundle::sleeping());
    assert_eq!(container.status(), "none");
    container.create().ok();
    assert_eq!(container.status(), "created");
    container.start().ok();
    assert_eq!(container.status(), "running");
    container.kill("KILL").ok();
    container.wait_status("stopped");
    container.delete().ok();
    assert_eq!(container.status(), "none");
}

#[test]
fn a_created_container_that_is_killed_is_stopped_and_can_be_deleted() {
    let container = Container::of(Bundle::sleeping());
    container.create().ok();
    container.kill("KILL").ok();
    container.wait_status("stopped");
    container.start().fails();
    container.delete().ok();
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_frozen_container_is_paused() {
    let container = container_that_is("paused");
    container.cgroups().freeze(false);
    container.wait_status("running");
}

#[test]
fn an_id_is_free_again_after_delete() {
    let container = Container::of(Bundle::sleeping());
    for _ in 0..3 {
        container.launch();
        container.delete_force().ok();
    }
}

#[test]
fn an_invalid_id_is_refused_by_every_verb() {
    let container = Container::of(Bundle::sleeping());
    container.bundle.write();
    let bundle = container.bundle.path().to_str().unwrap().to_owned();
    for id in ["", ".", "..", "../escape", "a/b", "a b", "ünï", "new\nline"] {
        for args in [vec!["create", "--bundle", &bundle, id], vec!["run", "--bundle", &bundle, id]] {
            let outcome = container.call(&args).fails();
            if Runtime::get().is_ampoule() {
                outcome.saying("invalid");
            }
        }
        for verb in ["state", "start", "kill", "delete"] {
            let outcome = container.call(&[verb, id]);
            assert_ne!(outcome.code, 0, "{outcome}");
        }
    }
    assert_eq!(container.leftovers(), [""; 0]);
}
