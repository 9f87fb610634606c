//! Every verb in every status that is made of two: none hangs, none says what is not so.

use ampoule_tests::{
    Bundle, Container, Layout, NO_PROC, Outcome, Runtime, ampoule_only, has_cgroup_v1, is_root,
    pids_mentioning, remove_cgroup, require, wait_for,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// What a verb gives: success, or failure with these words.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Succeeds,
    Fails(&'static str),
}
use Ending::{Fails, Succeeds};

const VERBS: [&str; 15] = [
    "state",
    "list",
    "ps",
    "create",
    "start",
    "exec",
    "pause",
    "resume",
    "update",
    "events",
    "kill",
    "kill KILL",
    "kill --all",
    "delete",
    "delete --force",
];

fn call(container: &Container, verb: &str) -> Outcome {
    let id = &*container.id;
    match verb {
        "list" => container.call(&["list"]),
        "create" => container.create(),
        "exec" => container.call(&["exec", id, "/bin/probe", "cwd"]),
        "update" => {
            let limits = container.bundle.beside("limits");
            fs::write(&limits, "{}").unwrap();
            container.call(&["update", "--resources", limits.to_str().unwrap(), id])
        }
        "events" => container.call(&["events", "--stats", id]),
        "kill" => container.kill("USR1"),
        "kill KILL" => container.kill("KILL"),
        "kill --all" => container.call(&["kill", "--all", id, "USR1"]),
        "delete --force" => container.delete_force(),
        verb => container.call(&[verb, id]),
    }
}

/// Calls each verb on a container of its own.
fn check(make: impl Fn() -> Combined, shown: &str, endings: [Ending; VERBS.len()]) {
    for (verb, ending) in VERBS.into_iter().zip(endings) {
        let combined = make();
        let container = &combined.container;
        assert_eq!(container.status(), shown);
        let outcome = call(container, verb);
        match ending {
            Succeeds => assert_eq!(outcome.code, 0, "{verb}: {outcome}"),
            Fails(words) => {
                assert_eq!(outcome.code, if verb == "exec" { 255 } else { 1 }, "{verb}: {outcome}");
                outcome.saying(words);
            }
        }
    }
}

/// A container, and a cgroup around it that was frozen.
struct Combined {
    container: Container,
    frozen: Option<(Layout, PathBuf)>,
}

impl Combined {
    fn of(container: Container) -> Self {
        Self { container, frozen: None }
    }
}

impl Drop for Combined {
    fn drop(&mut self) {
        if let Some((layout, dir)) = &self.frozen {
            freeze(*layout, dir, false);
            self.container.delete_force();
            // In every hierarchy, with the container's own inside gone.
            ampoule_tests::cgroups_named(&format!("{}-above", self.container.id))
                .iter()
                .rev()
                .for_each(|dir| remove_cgroup(dir));
        }
    }
}

/// Whether a container there is frozen by v1's freezer, in which even the killed stay.
fn has_v1_freezer(layout: Layout) -> bool {
    layout == Layout::Host && has_cgroup_v1("freezer")
}

fn freeze(layout: Layout, dir: &Path, frozen: bool) {
    let (file, words) = match has_v1_freezer(layout) {
        true => ("freezer.state", ["THAWED", "FROZEN"]),
        false => ("cgroup.freeze", ["0", "1"]),
    };
    fs::write(dir.join(file), words[usize::from(frozen)]).unwrap();
}

fn held() -> Combined {
    let container = Container::of(Bundle::sleeping());
    container.create().ok();
    container.call(&["pause", &container.id]).ok();
    Combined::of(container)
}

/// In a cgroup whose parent is frozen.
fn below_a_frozen_cgroup(layout: Layout, start: bool) -> Combined {
    let mut container = Container::on(layout, Bundle::sleeping());
    container.bundle.config["linux"]["cgroupsPath"] = json!(format!("/{id}-above/{id}", id = container.id));
    container.create().ok();
    if start {
        container.start().ok();
    }
    let controller = if has_v1_freezer(layout) { "freezer" } else { "" };
    let above = container.cgroups().dir(controller).parent().unwrap().to_owned();
    freeze(layout, &above, true);
    container.wait_status("paused");
    Combined { container, frozen: Some((layout, above)) }
}

/// Its init has ended, others of its cgroup have not.
fn orphaned() -> Combined {
    let bundle = Bundle::asking(&["spawn", "2", ",", "sleep", "1000"]).without_namespace("pid");
    let container = Container::of(bundle);
    container.launch();
    container.wait_output("sleeping");
    kill(Pid::from_raw(container.pid()), Signal::SIGKILL).unwrap();
    container.wait_status("stopped");
    Combined::of(container)
}

/// As one whose maker was killed before there was an init.
fn half_made() -> Combined {
    let container = Container::of(Bundle::sleeping());
    container.create().ok();
    kill(Pid::from_raw(container.pid()), Signal::SIGKILL).unwrap();
    container.wait_status("stopped");
    for name in ["init", "config.json", "gate"] {
        fs::remove_file(container.state_root().join(&container.id).join(name)).unwrap();
    }
    Combined::of(container)
}

const TAKEN: Ending = Fails("already exists");
const PAUSED: Ending = Fails("paused");
const STOPPED: Ending = Fails("stopped");
const ABOVE: Ending = Fails("is a cgroup above it frozen?");

#[test]
fn a_container_paused_while_created_takes_what_either_takes_but_start_and_exec() {
    ampoule_only!("runc 1.1 starts it, and waits for ever");
    require!(is_root() || !has_cgroup_v1("freezer"), "a freezer", named "cgroups");
    check(
        held,
        "paused",
        [
            Succeeds, Succeeds, Succeeds, TAKEN, PAUSED, PAUSED, PAUSED, Succeeds, Succeeds, Succeeds,
            Succeeds, Succeeds, Succeeds, Succeeds, Succeeds,
        ],
    );
}

#[test]
fn a_container_paused_while_created_is_created_again_once_it_is_resumed() {
    ampoule_only!("runc 1.1 says created all along");
    let Combined { ref container, .. } = held();
    // More often than its gate has room for those who look.
    for _ in 0..40 {
        assert_eq!(container.status(), "paused");
    }
    container.start().fails().saying("resume it first");
    container.call(&["resume", &container.id]).ok();
    assert_eq!(container.status(), "created");
    container.start().ok();
    container.wait_output("sleeping");
}

#[test]
fn a_container_below_a_frozen_cgroup_is_paused_and_no_verb_waits_for_its_thaw() {
    require!(is_root() && Runtime::get().flags().is_empty(), "cgroups by path", named "root's");
    ampoule_only!("runc 1.1 waits for ever");
    for layout in Layout::all() {
        let death = if has_v1_freezer(layout) { ABOVE } else { Succeeds };
        let mut endings = [
            Succeeds, Succeeds, Succeeds, TAKEN, PAUSED, PAUSED, PAUSED, ABOVE, Succeeds, Succeeds, Succeeds,
            death, Succeeds, PAUSED, death,
        ];
        check(|| below_a_frozen_cgroup(layout, true), "paused", endings);
        // A created one can be deleted.
        endings[13] = death;
        check(|| below_a_frozen_cgroup(layout, false), "paused", endings);
    }
}

#[test]
fn what_an_init_has_left_is_reached_by_all_and_by_delete() {
    require!(is_root(), "root", named NO_PROC);
    ampoule_only!("runc 1.1 has other words");
    check(
        orphaned,
        "stopped",
        [
            Succeeds, Succeeds, Succeeds, TAKEN, STOPPED, STOPPED, STOPPED, STOPPED, STOPPED, STOPPED,
            STOPPED, STOPPED, Succeeds, Succeeds, Succeeds,
        ],
    );
    let Combined { ref container, .. } = orphaned();
    assert_eq!(pids_mentioning(&container.id).len(), 2);
    container.call(&["kill", "--all", &container.id, "KILL"]).ok();
    wait_for("all to end", || pids_mentioning(&container.id).is_empty());
}

#[test]
fn a_half_made_container_is_stopped() {
    ampoule_only!("runc 1.1 keeps other files");
    check(
        half_made,
        "stopped",
        [
            Succeeds,
            Succeeds,
            Succeeds,
            TAKEN,
            STOPPED,
            Fails("config.json"),
            STOPPED,
            STOPPED,
            STOPPED,
            STOPPED,
            STOPPED,
            STOPPED,
            STOPPED,
            Succeeds,
            Succeeds,
        ],
    );
}
