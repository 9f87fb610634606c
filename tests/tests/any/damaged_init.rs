//! A container of which no init is on file, or none that can be read, is never taken for one that has ended.

use ampoule_tests::{Bundle, Container, ampoule_only, is_root, require};
use std::fs;
use std::path::PathBuf;

const WHY: &str = "runc 1.1 keeps all of it in one file";

fn running() -> (Container, PathBuf) {
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let file = container.state_root().join(&container.id).join("init");
    (container, file)
}

#[test]
fn a_damaged_init_is_an_error_and_no_container_that_has_ended() {
    ampoule_only!(WHY);
    for damage in ["\n", "rubbish\n", "rubbish", "12\n", "12 x\n", "-1 1\n"] {
        let (container, file) = running();
        let (whole, id) = (fs::read(&file).unwrap(), &container.id);
        fs::write(&file, damage).unwrap();
        for verb in [&["state", id][..], &["delete", id], &["kill", id], &["kill", "--all", id, "KILL"]] {
            container.call(verb).fails().saying("init: it is damaged");
        }
        assert!(container.call(&["list"]).fails().stdout.contains("unreadable"), "{damage:?}");
        fs::write(&file, whole).unwrap();
        assert_eq!(container.status(), "running", "{damage:?}");
    }
}

#[test]
fn a_container_with_a_damaged_init_is_ended_by_its_cgroup_when_that_is_forced() {
    require!(is_root(), "root", named "a cgroup is what is left to find it by");
    ampoule_only!(WHY);
    for damage in ["rubbish\n", "12 345", ""] {
        let (container, file) = running();
        fs::write(&file, damage).unwrap();
        container.delete_force().ok();
        assert_eq!(container.leftovers(), [""; 0], "{damage:?}");
    }
}

#[test]
fn delete_without_force_leaves_processes_whose_init_is_not_on_file() {
    require!(is_root(), "root", named "a cgroup is what is left to find it by");
    ampoule_only!(WHY);
    let (container, file) = running();
    let (whole, pid) = (fs::read(&file).unwrap(), container.pid());
    for beginning in [None, Some(""), Some("12"), Some("12 34")] {
        match beginning {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let refused = container.delete().fails().saying("init is not on file").saying("--force");
        assert!(refused.stderr.contains(&pid.to_string()), "{refused}");
    }
    fs::write(&file, whole).unwrap();
    assert_eq!(container.status(), "running");
    fs::remove_file(&file).unwrap();
    container.delete_force().ok();
    assert_eq!(container.leftovers(), [""; 0]);
}
