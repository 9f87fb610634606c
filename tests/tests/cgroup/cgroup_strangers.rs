//! Whoever is in a container's cgroups when it has ended is not the container's, and is left alone.

use ampoule_tests::{
    Bundle, Container, Layout, Runtime, ampoule_only, cgroups_named, has_cgroup_v1, is_root, pids_in,
    remove_cgroup, require,
};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

/// Two containers in one cgroup, of which the first has ended.
struct Two {
    ended: Container,
    lives: Container,
}

impl Two {
    /// `edit` is what is special of the first one's bundle.
    fn on(layout: Layout, edit: fn(Bundle) -> Bundle) -> Self {
        let mut ended = Container::on(layout, edit(Bundle::sleeping()));
        let mut lives = Container::on(layout, Bundle::sleeping());
        let path = json!(format!("/{}-{}", ended.id, lives.id));
        for one in [&mut ended, &mut lives] {
            one.bundle.config["linux"]["cgroupsPath"] = path.clone();
        }
        let two = Self { ended, lives };
        two.ended.launch();
        two.ended.wait_output("sleeping");
        let init = nix::unistd::Pid::from_raw(two.ended.pid());
        nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL).unwrap();
        two.ended.wait_status("stopped");
        two
    }

    /// The same, both with their state in one directory.
    fn of_one_store(layout: Layout, edit: fn(Bundle) -> Bundle) -> Self {
        let two = Self::on(layout, edit);
        fs::remove_dir(two.lives.state_root()).unwrap();
        symlink(two.ended.state_root(), two.lives.state_root()).unwrap();
        two
    }

    fn launch(&self) {
        self.lives.launch();
        self.lives.wait_output("sleeping");
    }

    /// Looks after the second one, and ends it.
    fn end(self, what: &str) {
        assert_eq!(self.lives.status(), "running", "{what}");
        self.lives.delete_force().ok();
        let name = format!("{}-{}", self.ended.id, self.lives.id);
        assert!(cgroups_named(&name).is_empty(), "{what}");
    }
}

const BY_PATH: &str = "a scope has a name of another form";

#[test]
fn delete_of_one_that_has_ended_leaves_another_that_was_made_in_its_cgroup() {
    require!(is_root() && Runtime::get().flags().is_empty(), "cgroups by path", named BY_PATH);
    for layout in Layout::all() {
        for verb in [&["delete"][..], &["delete", "--force"]] {
            let two = Two::on(layout, |bundle| bundle);
            two.launch();
            // The other one's program may divide its cgroup.
            let inner = cgroups_named(&two.lives.id)[0].join("inner");
            fs::create_dir(&inner).unwrap();
            let deleted = two.ended.call(&[verb, &[&two.ended.id]].concat()).ok();
            assert_eq!(two.ended.status(), "none");
            if Runtime::get().is_ampoule() {
                assert!(deleted.stderr.contains("its cgroup is left"), "{deleted}");
                assert!(deleted.stderr.contains(&two.lives.pid().to_string()), "{deleted}");
                assert!(inner.is_dir(), "runc 1.1 removes it");
            }
            two.end(&format!("{layout:?} {verb:?}"));
        }
    }
}

#[test]
fn kill_all_of_one_that_has_ended_finds_nobody() {
    require!(is_root() && Runtime::get().flags().is_empty(), "cgroups by path", named BY_PATH);
    ampoule_only!("runc 1.1 kills whoever is in its cgroup");
    for layout in Layout::all() {
        let two = Two::on(layout, |bundle| bundle);
        two.launch();
        for signal in ["KILL", "TERM"] {
            let outcome = two.ended.call(&["kill", "--all", &two.ended.id, signal]);
            outcome.fails().saying("container not running");
        }
        two.end("kill --all");
    }
}

#[test]
fn one_of_the_same_store_is_left_alone_by_one_without_a_pid_namespace_too() {
    require!(is_root() && Runtime::get().flags().is_empty(), "cgroups by path", named BY_PATH);
    ampoule_only!("runc 1.1 kills whoever is in its cgroup");
    for layout in Layout::all() {
        let two = Two::of_one_store(layout, |bundle| bundle.without_namespace("pid"));
        two.launch();
        let id = &two.ended.id;
        two.ended.call(&["kill", "--all", id, "KILL"]).fails().saying("container not running");
        let deleted = two.ended.delete().ok();
        assert!(deleted.stderr.contains("its cgroup is left"), "{deleted}");
        two.end("without a pid namespace");
    }
}

#[test]
fn one_of_the_same_store_is_left_alone_by_one_that_is_half_made_too() {
    require!(is_root() && Runtime::get().flags().is_empty(), "cgroups by path", named BY_PATH);
    ampoule_only!("runc 1.1 has no such file");
    for verb in [&["delete"][..], &["delete", "--force"]] {
        let two = Two::of_one_store(Layout::Host, |bundle| bundle);
        fs::remove_file(two.ended.state_root().join(&two.ended.id).join("init")).unwrap();
        two.launch();
        two.ended.call(&[verb, &[&two.ended.id]].concat()).ok();
        two.end("half made");
    }
}

#[test]
fn a_create_that_fails_for_a_process_in_its_cgroup_leaves_that_alone() {
    require!(is_root() && has_cgroup_v1("cpu") && has_cgroup_v1("freezer"), "v1", named "v2 has one hierarchy, which is looked at first");
    ampoule_only!("runc 1.1 shares it");
    let mut container = Container::of(Bundle::sleeping());
    let path = format!("{}-taken", container.id);
    container.bundle.config["linux"]["cgroupsPath"] = json!(format!("/{path}"));
    let dir = std::path::Path::new("/sys/fs/cgroup/cpu").join(&path);
    fs::create_dir(&dir).unwrap();
    // Whose list of processes is asked for before anything is made.
    fs::create_dir(std::path::Path::new("/sys/fs/cgroup/freezer").join(&path)).unwrap();
    let mut stranger = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
    fs::write(dir.join("cgroup.procs"), stranger.id().to_string()).unwrap();
    let created = container.create();
    let is_there = pids_in(&dir) == [stranger.id() as i32];
    let _ = stranger.kill();
    let _ = stranger.wait();
    container.delete_force();
    cgroups_named(&path).iter().rev().for_each(|dir| remove_cgroup(dir));
    assert!(is_there, "{created}");
    created.fails().saying("has processes in it");
}
