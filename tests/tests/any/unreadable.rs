//! What can't be read is an error. It is never taken for what is not there.

use ampoule_tests::{Bundle, Container, ampoule_only};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

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
    assert!(cgroups.dirs().all(|dir| dir.exists()), "{cgroups:?}");
    drop(unreadable);
    container.delete().ok();
}

#[test]
fn run_removes_nothing_of_a_container_whose_record_it_cannot_read_at_its_end() {
    ampoule_only!(WHY);
    let container = Container::of(Bundle::sleeping());
    let run = container.run_along();
    container.wait_status("running");
    let (cgroups, init) = (container.cgroups(), Pid::from_raw(container.pid()));
    let unreadable = Unreadable::new(&container, "state.json");
    kill(init, Signal::SIGKILL).unwrap();
    run.finish().fails().saying("symbolic link");
    assert!(cgroups.dirs().all(|dir| dir.exists()), "{cgroups:?}");
    drop(unreadable);
    container.delete().ok();
}
