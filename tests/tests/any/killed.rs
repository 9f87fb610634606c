//! A runtime that is killed at any moment leaves something that `delete --force` removes completely.

use ampoule_tests::{
    Bundle, Container, Layout, NO_PROC, TESTED_ON_V2, ampoule_only, has_only_cgroup_v2, is_root, repeats,
    require,
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::{Duration, Instant};

/// How many moments are tried, spread evenly over the time that the verb takes when it is left alone.
const MOMENTS: usize = 40;

/// Prepares a container, calls a verb, kills the runtime after a while, and wants everything gone after
/// `delete --force`. The times differ by chance, so that no two runs try the same moments.
fn kill_at_many_moments(layout: Layout, bundle: fn() -> Bundle, before: &[&str], verb: &str) {
    let prepare = || {
        let container = Container::on(layout, bundle());
        container.bundle.write();
        for earlier in before {
            call(&container, earlier).finish().ok();
        }
        container
    };
    let whole = {
        let container = prepare();
        let began = Instant::now();
        let call = call(&container, verb);
        // `run` in the foreground never ends here: until its program is up is what counts.
        if verb == "run" {
            container.wait_status("running")
        } else {
            drop(call.finish().ok())
        }
        began.elapsed()
    };
    let moments = repeats(MOMENTS) as u32;
    for moment in 0..moments {
        let container = prepare();
        let jitter = Duration::from_nanos(u64::from(std::process::id() % 100 + moment * 37) * 1000);
        let delay = whole * moment / moments + jitter;
        let call = call(&container, verb);
        std::thread::sleep(delay);
        call.signal(Signal::SIGKILL);
        let outcome = call.finish();
        let deleted = container.delete_force();
        assert_eq!(deleted.code, 0, "killed {verb} after {delay:?} ({outcome}): {deleted}");
        assert_eq!(container.leftovers(), [""; 0], "killed {verb} after {delay:?}");
        // And the id is as good as new.
        if moment % 10 == 0 {
            container.create().ok();
        }
    }
}

fn call(container: &Container, verb: &str) -> ampoule_tests::Call {
    let making = container.args_for(verb, &[]);
    let args = match verb {
        "create" | "run" => making,
        "delete" => vec!["delete", "--force", &container.id],
        "kill" => vec!["kill", &container.id, "KILL"],
        verb => vec![verb, &container.id],
    };
    container.spawn(container.command(&args), &format!("{verb}-killed"))
}

const WHY: &str = "runc 1.1, killed between the clone and its state file, leaves what no one can delete";

#[test]
fn create_can_be_killed_at_any_moment() {
    ampoule_only!(WHY);
    kill_at_many_moments(Layout::Host, Bundle::sleeping, &[], "create");
}

#[test]
fn create_on_v2_can_be_killed_at_any_moment() {
    ampoule_only!(WHY);
    require!(!has_only_cgroup_v2(), "cgroup v1", named TESTED_ON_V2);
    kill_at_many_moments(Layout::PureV2, Bundle::sleeping, &[], "create");
}

#[test]
fn run_can_be_killed_at_any_moment() {
    ampoule_only!(WHY);
    kill_at_many_moments(Layout::Host, Bundle::sleeping, &[], "run");
}

#[test]
fn start_can_be_killed_at_any_moment() {
    kill_at_many_moments(Layout::Host, Bundle::sleeping, &["create"], "start");
}

#[test]
fn delete_can_be_killed_at_any_moment() {
    kill_at_many_moments(Layout::Host, Bundle::sleeping, &["create", "start"], "delete");
}

#[test]
fn create_without_a_pid_namespace_can_be_killed_at_any_moment() {
    require!(is_root(), "root", named NO_PROC);
    ampoule_only!(WHY);
    // Nothing but the cgroup holds the processes together here.
    let bundle = || Bundle::asking(&["spawn", "2", ",", "sleep", "1000"]).without_namespace("pid");
    kill_at_many_moments(Layout::Host, bundle, &[], "run");
}

#[test]
fn create_with_a_user_namespace_can_be_killed_at_any_moment() {
    ampoule_only!(WHY);
    let bundle = || Bundle::sleeping().with_user_namespace();
    kill_at_many_moments(Layout::Host, bundle, &[], "create");
}

#[test]
fn create_with_a_hook_can_be_killed_at_any_moment() {
    ampoule_only!(WHY);
    let bundle = || {
        let bundle = Bundle::sleeping();
        let program = bundle.rootfs().join("bin/probe");
        let hook = json!([{ "path": program, "args": ["probe", "cwd"] }]);
        bundle.with(|c| c["hooks"] = json!({ "createRuntime": hook, "createContainer": hook }))
    };
    kill_at_many_moments(Layout::Host, bundle, &[], "create");
}
