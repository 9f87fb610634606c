//! What can't be read is an error. It is never taken for what is not there.

use ampoule_tests::{
    Bundle, Container, NO_MOUNTS, Outcome, Runtime, ampoule_only, deny_syscall, has_cgroup_v1,
    has_only_cgroup_v2, is_root, require,
};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

/// A file of the container's state that nobody can open, root neither (ELOOP), until dropped.
struct Unreadable(PathBuf);

impl Unreadable {
    fn new(container: &Container, name: &str) -> Self {
        let path = container.state_root().join(&container.id).join(name);
        fs::rename(&path, path.with_extension("aside")).unwrap();
        symlink(&path, &path).unwrap();
        Self(path)
    }
}

impl Drop for Unreadable {
    fn drop(&mut self) {
        fs::rename(self.0.with_extension("aside"), &self.0).unwrap();
    }
}

const WHY: &str = "runc keeps other files";

#[test]
fn delete_removes_nothing_of_a_container_whose_record_it_cannot_read() {
    ampoule_only!(WHY);
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let cgroups = container.cgroups();
    let pid = container.pid();
    for name in ["state.json", "init"] {
        let unreadable = Unreadable::new(&container, name);
        container.delete_force().fails().saying(name).saying("symbolic link");
        container.delete().fails();
        assert!(fs::exists(format!("/proc/{pid}/exe")).unwrap(), "{name}");
        drop(unreadable);
    }
    container.kill("KILL").ok();
    container.wait_status("stopped");
    let unreadable = Unreadable::new(&container, "state.json");
    container.delete().fails().saying("symbolic link");
    container.delete_force().fails().saying("symbolic link");
    // systemd removes a scope's as soon as it is empty.
    let is_scope = !Runtime::get().flags().is_empty();
    assert!(is_scope || cgroups.dirs().all(|dir| dir.exists()), "{cgroups:?}");
    drop(unreadable);
    container.delete().ok();
}

#[test]
fn run_removes_nothing_of_a_container_whose_record_it_cannot_read_at_its_end() {
    ampoule_only!(WHY);
    let container = Container::of(Bundle::sleeping());
    let run = container.start_run();
    container.wait_status("running");
    let (cgroups, init) = (container.cgroups(), Pid::from_raw(container.pid()));
    let unreadable = Unreadable::new(&container, "state.json");
    kill(init, Signal::SIGKILL).unwrap();
    run.finish().fails().saying("symbolic link");
    // systemd removes a scope's as soon as it is empty.
    let is_scope = !Runtime::get().flags().is_empty();
    assert!(is_scope || cgroups.dirs().all(|dir| dir.exists()), "{cgroups:?}");
    drop(unreadable);
    container.delete().ok();
}

/// A call of the runtime after a shell has done something to its surroundings.
fn call_after(container: &Container, script: &str, args: &[&str]) -> Outcome {
    let call = container.command(args);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{script} && exec \"$0\" \"$@\"")]);
    command.arg(call.get_program()).args(call.get_args());
    container.spawn(command, "call-after").finish()
}

/// The verbs that ask what the container is doing; none may think that it has ended.
#[track_caller]
fn is_not_taken_for_stopped(container: &Container, script: &str) {
    let id = &container.id;
    let pid = container.pid();
    for verb in
        [&["state", id][..], &["delete", id], &["exec", id, "/bin/probe"], &["kill", id], &["pause", id]]
    {
        let outcome = call_after(container, script, verb);
        let said = (outcome.stdout.clone() + &outcome.stderr).replace("is not stopped", "");
        assert!(!said.contains("stopped"), "{script}: {outcome}");
        assert!(outcome.code != 0 || verb[0] != "delete", "{script}: {outcome}");
    }
    assert!(fs::exists(format!("/proc/{pid}/exe")).unwrap(), "{script}");
    // With enough descriptors it was paused.
    container.call(&["resume", id]);
    assert_eq!(container.status(), "running", "{script}");
}

#[test]
fn a_container_whose_process_cannot_be_looked_at_is_not_taken_for_stopped() {
    require!(is_root(), "root", named NO_MOUNTS);
    ampoule_only!(WHY);
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let pid = container.pid();
    is_not_taken_for_stopped(&container, &format!("mount --bind /dev/null /proc/{pid}/stat"));
    is_not_taken_for_stopped(&container, "mount -t tmpfs none /proc");
}

#[test]
fn a_container_is_not_taken_for_stopped_for_want_of_descriptors() {
    ampoule_only!(WHY);
    let container = Container::of(Bundle::sleeping());
    container.launch();
    for most in 3..10 {
        is_not_taken_for_stopped(&container, &format!("ulimit -n {most}"));
    }
}

/// The file that tells whether the container is frozen.
fn freezer_file(container: &Container) -> PathBuf {
    let (controller, file) =
        if has_cgroup_v1("freezer") { ("freezer", "freezer.state") } else { ("", "cgroup.events") };
    container.cgroups().dir(controller).join(file)
}

#[test]
fn a_freezer_that_cannot_be_read_is_an_error_and_leaves_nobody_frozen() {
    require!(is_root(), "root", named NO_MOUNTS);
    ampoule_only!(WHY);
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let (id, file) = (&container.id, freezer_file(&container));
    let (dir, name) =
        (file.parent().unwrap().display().to_string(), file.file_name().unwrap().to_str().unwrap());
    // The memory of a process has nothing at 0 (EIO).
    let script = format!("mount --bind /proc/$$/mem {}", file.display());
    for verb in [&["kill", "--all", id, "USR1"][..], &["pause", id], &["state", id]] {
        call_after(&container, &script, verb).fails().saying(name).saying(&dir);
        assert_eq!(container.status(), "running", "{verb:?}");
    }
    container.call(&["pause", id]).ok();
    call_after(&container, &script, &["resume", id]).fails().saying(name).saying(&dir);
    assert_eq!(container.status(), "paused");
}

#[test]
fn files_of_which_it_cannot_be_told_whether_they_are_there_are_an_error() {
    ampoule_only!(WHY);
    let container = Container::of(Bundle::sleeping());
    container.launch();
    for verb in [&["kill", "--all", &container.id, "USR1"][..], &["pause", &container.id]] {
        let mut call = container.command(verb);
        for number in [
            #[cfg(target_arch = "x86_64")]
            libc::SYS_stat,
            libc::SYS_newfstatat,
            libc::SYS_statx,
        ] {
            deny_syscall(&mut call, number, None, Errno::EIO);
        }
        container.spawn(call, "call").finish().fails().saying("stat");
        assert_eq!(container.status(), "running", "{verb:?}");
    }
}

#[test]
fn list_shows_a_container_that_it_cannot_read() {
    ampoule_only!("runc 1.1 leaves it out");
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let listed = |words: &str| {
        let outcome = container.call(&["list"]).fails().saying(words).saying(&container.id);
        let row = outcome.stdout.lines().nth(1).unwrap_or_default();
        let row: Vec<_> = row.split_whitespace().collect();
        assert_eq!(row, [&container.id, "0", "unreadable", "-", "-", "-"], "{outcome}");
        let json = container.call(&["list", "--format", "json"]).fails().stdout;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json[0]["id"], &json[0]["status"]), (&json!(container.id), &json!("unreadable")));
        assert_eq!(container.call(&["list", "--quiet"]).ok().stdout, format!("{}\n", container.id));
    };
    for name in ["state.json", "init"] {
        let unreadable = Unreadable::new(&container, name);
        listed("symbolic link");
        drop(unreadable);
    }
    let record = container.state_root().join(&container.id).join("state.json");
    let whole = fs::read(&record).unwrap();
    fs::write(&record, &whole[..whole.len() / 2]).unwrap();
    listed("cut short");
    fs::write(&record, whole).unwrap();
    container.call(&["list"]).ok();
    // Not yet more than a name: it is just being made.
    fs::create_dir(container.state_root().join("other")).unwrap();
    let json = container.call(&["list", "--format", "json"]).ok().stdout;
    assert!(!json.contains("other"), "{json}");
    fs::remove_dir(container.state_root().join("other")).unwrap();
}

#[test]
fn a_host_whose_cgroups_cannot_be_read_makes_no_container_without_one() {
    require!(is_root(), "root", named NO_MOUNTS);
    ampoule_only!(WHY);
    let container = Container::of(Bundle::asking(&["cwd"]));
    for file in ["cgroup", "mountinfo"] {
        if file == "mountinfo" && has_only_cgroup_v2() {
            // There the mount tells it all.
            continue;
        }
        let script = format!("mount --bind /proc/$$/mem /proc/$$/{file}");
        let making = container.args_for("run", &[]);
        call_after(&container, &script, &making).fails().saying(&format!("read /proc/self/{file}"));
        assert_eq!(container.leftovers(), [""; 0], "{file}");
    }
}
