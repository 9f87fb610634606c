//! Whoever is in a container's cgroups without being in its pid namespace is not the container's, and is left alone.

use ampoule_tests::{
    Bundle, Container, Layout, Runtime, ampoule_only, cgroups_named, has_cgroup_v1, is_root, pids_in,
    remove_cgroup, require,
};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

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

/// A process of the host's.
struct Stranger(Child);

impl Stranger {
    fn in_all(dirs: &[PathBuf]) -> Self {
        let stranger = Self(Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap());
        move_into(dirs, stranger.0.id() as i32);
        stranger
    }

    #[track_caller]
    fn assert_lives(&mut self, what: &str) {
        assert!(self.0.try_wait().unwrap().is_none(), "{what}");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn move_into(dirs: &[PathBuf], pid: i32) {
    dirs.iter().for_each(|dir| fs::write(dir.join("cgroup.procs"), pid.to_string()).unwrap());
}

fn running(layout: Layout, bundle: Bundle) -> Container {
    let container = Container::on(layout, bundle);
    container.launch();
    container.wait_output("sleeping");
    container
}

/// By hand, once nobody is in them who is to stay.
fn remove_all(name: &str) {
    cgroups_named(name).iter().rev().for_each(|dir| remove_cgroup(dir));
}

#[test]
fn no_verb_ends_a_process_of_the_host_in_the_cgroup_of_one_that_runs() {
    require!(is_root() && Runtime::get().flags().is_empty(), "cgroups by path", named BY_PATH);
    ampoule_only!("runc 1.1 kills whoever is in its cgroup");
    for layout in Layout::all() {
        let verbs: [&[&str]; 5] =
            [&["kill", "--all", "TERM"], &["kill", "--all", "KILL"], &["kill", "KILL"], &["delete"], &[]];
        for verb in verbs {
            let container = running(layout, Bundle::sleeping());
            let (id, dirs) = (&*container.id, cgroups_named(&container.id));
            let mut stranger = Stranger::in_all(&dirs);
            match verb {
                ["kill", flags @ .., signal] => {
                    container.call(&[&["kill"], flags, &[id, signal]].concat()).ok();
                }
                [.., _] => drop(container.kill("KILL").ok()),
                [] => {}
            }
            if verb.last() != Some(&"TERM") && !verb.is_empty() {
                container.wait_status("stopped");
                stranger.assert_lives(&format!("{verb:?}"));
                container.delete().ok();
            }
            stranger.assert_lives(&format!("{verb:?}"));
            let deleted = container.delete_force().ok();
            stranger.assert_lives(&format!("{verb:?} {deleted}"));
            assert_eq!(container.status(), "none");
            drop(stranger);
            remove_all(id);
        }
    }
}

#[test]
fn delete_of_a_paused_one_leaves_a_process_of_the_host_that_was_paused_with_it() {
    require!(is_root() && Runtime::get().flags().is_empty(), "cgroups by path", named BY_PATH);
    ampoule_only!("runc 1.1 fails, for it can't remove the cgroup");
    let container = running(Layout::Host, Bundle::sleeping());
    let mut stranger = Stranger::in_all(&cgroups_named(&container.id));
    container.call(&["pause", &container.id]).ok();
    let deleted = container.delete_force().ok().saying("its cgroup is left");
    stranger.assert_lives(&deleted.stderr);
    drop(stranger);
    remove_all(&container.id);
}

#[test]
fn delete_of_one_leaves_another_that_lives_in_a_cgroup_below() {
    require!(is_root() && Runtime::get().flags().is_empty(), "cgroups by path", named BY_PATH);
    ampoule_only!("runc 1.1 fails, for it can't remove the cgroup");
    for layout in Layout::all() {
        let outer = running(layout, Bundle::sleeping());
        let nested = running(layout, Bundle::sleeping());
        let dirs: Vec<_> = cgroups_named(&outer.id).iter().map(|dir| dir.join("inner")).collect();
        for dir in &dirs {
            fs::create_dir(dir).unwrap();
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(value) = fs::read(dir.parent().unwrap().join(file)) {
                    let _ = fs::write(dir.join(file), value);
                }
            }
        }
        move_into(&dirs, nested.pid());
        let deleted = outer.delete_force().ok();
        assert_eq!(nested.status(), "running", "{deleted}");
        nested.delete_force().ok();
        remove_all(&outer.id);
    }
}

/// A container without a pid namespace, and a process of the host in its cgroup.
fn without_pid_namespace() -> (Container, Vec<PathBuf>, Stranger) {
    let container = running(Layout::Host, Bundle::sleeping().without_namespace("pid"));
    let dirs = cgroups_named(&container.id);
    let stranger = Stranger::in_all(&dirs);
    (container, dirs, stranger)
}

/// Puts on record of another one that it is in the same cgroups.
fn say_it_shares(container: &Container, other: &str) {
    let file = |id: &str| container.state_root().join(id).join("state.json");
    let record: Value = serde_json::from_slice(&fs::read(file(&container.id)).unwrap()).unwrap();
    fs::write(file(other), serde_json::to_vec(&record).unwrap()).unwrap();
}

#[test]
fn one_without_a_pid_namespace_ends_all_in_its_cgroup_but_not_beside_one_that_is_being_made_there() {
    require!(is_root() && Runtime::get().flags().is_empty(), "cgroups by path", named BY_PATH);
    ampoule_only!("runc 1.1 kills whoever is in its cgroup");
    let (container, _, mut stranger) = without_pid_namespace();
    let other = container.state_root().join("other");
    fs::create_dir(&other).unwrap();
    say_it_shares(&container, "other");
    let lock = Flock::lock(File::open(&other).unwrap(), FlockArg::LockExclusive).unwrap();
    container.kill("KILL").ok();
    stranger.assert_lives("kill");
    let deleted = container.delete_force().ok().saying("its cgroup is left");
    stranger.assert_lives(&deleted.stderr);
    drop((lock, stranger));
    fs::remove_dir_all(other).unwrap();
    remove_all(&container.id);

    let (container, _, mut stranger) = without_pid_namespace();
    container.delete_force().ok();
    assert!(stranger.0.try_wait().unwrap().is_some(), "nobody is known who is to be spared");
}

#[test]
fn one_without_a_pid_namespace_leaves_another_of_its_store_that_was_made_in_its_cgroup_at_the_same_time() {
    require!(is_root() && Runtime::get().flags().is_empty(), "cgroups by path", named BY_PATH);
    ampoule_only!("runc 1.1 kills whoever is in its cgroup");
    for verb in [&["kill", "--all"][..], &["kill"], &["delete", "--force"]] {
        let container = running(Layout::Host, Bundle::sleeping().without_namespace("pid"));
        let other = Container::of(Bundle::sleeping());
        fs::remove_dir(other.state_root()).unwrap();
        symlink(container.state_root(), other.state_root()).unwrap();
        other.launch();
        move_into(&cgroups_named(&container.id), other.pid());
        remove_all(&other.id);
        say_it_shares(&container, &other.id);
        let signal: &[&str] = if verb[0] == "kill" { &["KILL"] } else { &[] };
        container.call(&[verb, &[&container.id], signal].concat()).ok();
        assert_eq!(other.status(), "running", "{verb:?}");
        container.delete_force().ok();
        assert_eq!(other.status(), "running", "{verb:?}");
        other.delete_force().ok();
    }
}

#[test]
fn a_neighbor_that_cannot_be_read_keeps_nobody_from_being_ended() {
    require!(is_root() && Runtime::get().flags().is_empty(), "cgroups by path", named BY_PATH);
    ampoule_only!("runc 1.1 does not look at them");
    let (container, _, mut stranger) = without_pid_namespace();
    let store = container.state_root();
    for name in ["damaged", "directory", "fifo", "link", "device"] {
        fs::create_dir(store.join(name)).unwrap();
        let record = store.join(name).join("state.json");
        match name {
            "damaged" => fs::write(record, "rubbish").unwrap(),
            "directory" => fs::create_dir(record).unwrap(),
            "fifo" => nix::unistd::mkfifo(&record, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            "link" => symlink("/dev/zero", record).unwrap(),
            _ => assert!(Command::new("mknod").arg(record).args(["c", "1", "5"]).status().unwrap().success()),
        }
    }
    container.kill("KILL").ok();
    container.wait_status("stopped");
    container.call(&["kill", "--all", &container.id, "KILL"]).ok();
    container.delete().ok();
    assert!(stranger.0.try_wait().unwrap().is_some(), "nobody is known who is to be spared");
    for entry in fs::read_dir(&store).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
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
    // With a child of its caller's, too, whose place it has taken: that is not the new process.
    for script in ["exec \"$0\" \"$@\"", "sleep 1 >/dev/null 2>&1 & exec \"$0\" \"$@\""] {
        // Whose list of processes is asked for before anything is made.
        fs::create_dir(std::path::Path::new("/sys/fs/cgroup/freezer").join(&path)).unwrap();
        let stranger = Stranger::in_all(std::slice::from_ref(&dir));
        let create = container.command(&container.args_for("create", &[]));
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(create.get_program()).args(create.get_args());
        let created = container.spawn(shell, "create").finish();
        let is_there = pids_in(&dir) == [stranger.0.id() as i32];
        drop(stranger);
        container.delete_force();
        assert!(is_there, "{created}");
        created.fails().saying("has processes in it");
    }
    remove_all(&path);
}
