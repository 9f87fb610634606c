//! Many containers at once, and nothing left of them.

use ampoule_tests::{
    Bundle, Container, Layout, Runtime, Scratch, TESTED_ON_V2, ampoule_only, cgroups_named,
    has_only_cgroup_v2, mountinfo, repeats, require,
};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const AT_ONCE: usize = 8;

/// One life: create, start, kill, delete, each of which must succeed. Returns the id.
fn live_once(layout: Layout) -> String {
    let container = Container::on(layout, Bundle::sleeping());
    container.create().ok();
    container.start().ok();
    container.kill("KILL").ok();
    container.wait_status("stopped");
    container.delete().ok();
    assert_eq!(container.leftovers(), [""; 0]);
    container.id.clone()
}

fn live_many(layout: Layout, cycles: usize) {
    let next = AtomicUsize::new(0);
    let ids = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < cycles {
                    let id = live_once(layout);
                    ids.lock().unwrap().push(id);
                }
            });
        }
    });
    // Once more when all are gone: nothing may have come back, as a mount that another namespace held.
    let ids = ids.into_inner().unwrap();
    assert_eq!(ids.len(), cycles);
    let left = |text: &str| ids.iter().any(|id| text.contains(id.as_str()));
    let cgroups = cgroups_named("at-").into_iter().filter(|c| left(&c.to_string_lossy()));
    assert_eq!(cgroups.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
    let mounts = mountinfo().into_iter().filter(|m| left(&m.target) || left(&m.root));
    assert_eq!(mounts.collect::<Vec<_>>(), []);
    for id in &ids {
        assert_eq!(ampoule_tests::pids_mentioning(id), [0; 0]);
    }
}

#[test]
fn two_hundred_lives_eight_at_a_time_leave_nothing() {
    live_many(Layout::Host, repeats(200));
}

#[test]
fn forty_lives_on_v2_eight_at_a_time_leave_nothing() {
    require!(!has_only_cgroup_v2(), "cgroup v1", named TESTED_ON_V2);
    live_many(Layout::PureV2, repeats(40));
}

#[test]
fn containers_that_share_a_state_root_do_not_disturb_each_other() {
    ampoule_only!("runc 1.1's list fails when a container vanishes while it looks");
    let home = Scratch::new();
    let root = home.path().join("state");
    let call = |args: &[&str], container: &Container| {
        let mut command = std::process::Command::new(ampoule_tests::Runtime::get().program());
        command.arg("--root").arg(&root).args(args);
        container.spawn(command, args[0]).finish()
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                for _ in 0..5 {
                    let container = Container::of(Bundle::sleeping());
                    call(&container.args_for("create", &[]), &container).ok();
                    call(&["start", &container.id], &container).ok();
                    // The others come and go meanwhile: neither may make this one fail or vanish.
                    let list = call(&["list", "-q"], &container).ok();
                    assert!(list.stdout.lines().any(|id| id == container.id), "{list}");
                    call(&["delete", "--force", &container.id], &container).ok();
                }
            });
        }
    });
    let left: Vec<_> = std::fs::read_dir(&root).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn only_one_of_many_gets_an_id() {
    ampoule_only!("runc 1.1 takes no lock, and two that create the same id may both fail");
    let container = Container::of(Bundle::sleeping());
    let making = container.args_for("create", &[]);
    let calls: Vec<_> =
        (0..AT_ONCE).map(|i| container.spawn(container.command(&making), &format!("create-{i}"))).collect();
    let outcomes: Vec<_> = calls.into_iter().map(ampoule_tests::Call::finish).collect();
    let won = outcomes.iter().filter(|o| o.code == 0).count();
    assert_eq!(won, 1, "{outcomes:#?}");
    for lost in outcomes.into_iter().filter(|o| o.code != 0) {
        lost.saying("exist");
    }
    assert_eq!(container.status(), "created");
}

/// Whoever waits for the lock of a directory that he has made may get that of another one.
#[test]
fn creates_and_deletes_of_one_id_at_once_leave_nothing() {
    let container = Container::of(Bundle::sleeping());
    let (create, delete) = (container.args_for("create", &[]), ["delete", "--force", &*container.id]);
    let made = AtomicUsize::new(0);
    let rounds = repeats(300);
    std::thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (container, made, create) = (&container, &made, &create);
            scope.spawn(move || {
                for _ in 0..rounds {
                    let args = if worker % 2 == 0 { &create[..] } else { &delete };
                    let outcome = container.spawn(container.command(args), &format!("{worker}")).finish();
                    made.fetch_add(usize::from(worker % 2 == 0 && outcome.code == 0), Ordering::Relaxed);
                    let is_taken = outcome.stderr.contains("container with given ID already exists");
                    assert!(outcome.code == 0 || is_taken || !Runtime::get().is_ampoule(), "{outcome}");
                }
            });
        }
    });
    assert!(made.load(Ordering::Relaxed) > 0);
    container.delete_force();
    assert_eq!(container.leftovers(), [""; 0]);
}
