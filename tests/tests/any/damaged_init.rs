//! A container of which no init is on file, or none that can be read, is never taken for one that has ended. Neither is one
//! with something else in place of its files.

use ampoule_tests::{Bundle, Container, ampoule_only, is_root, require};
use nix::sys::stat::Mode;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

const WHY: &str = "runc 1.1 keeps all of it in one file";

fn running() -> (Container, PathBuf) {
    launched(Bundle::sleeping())
}

fn launched(bundle: Bundle) -> (Container, PathBuf) {
    let container = Container::of(bundle);
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
fn without_a_pid_namespace_a_damaged_init_is_ended_by_its_cgroup_when_that_is_forced() {
    require!(is_root(), "root", named "a cgroup is what is left to find it by");
    ampoule_only!(WHY);
    for damage in ["rubbish\n", "12 345", ""] {
        let (container, file) = launched(Bundle::sleeping().without_namespace("pid"));
        fs::write(&file, damage).unwrap();
        container.delete_force().ok();
        assert_eq!(container.leftovers(), [""; 0], "{damage:?}");
    }
}

#[test]
fn with_a_pid_namespace_nobody_is_ended_for_being_in_the_cgroup_of_a_damaged_init() {
    require!(is_root(), "root", named "a cgroup is what is left to find it by");
    ampoule_only!(WHY);
    let (container, file) = running();
    let (whole, pid) = (fs::read(&file).unwrap(), container.pid());
    fs::write(&file, "rubbish\n").unwrap();
    let refused = container.delete_force().fails().saying("init is damaged on file").saying("try again");
    assert!(refused.stderr.contains(&pid.to_string()), "{refused}");
    fs::write(&file, whole).unwrap();
    assert_eq!(container.status(), "running");
    fs::write(&file, "rubbish\n").unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    container.delete_force().ok();
    assert_eq!(container.leftovers(), [""; 0]);
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
    let forced = container.delete_force().ok().saying("its cgroup is left");
    assert!(forced.stderr.contains(&pid.to_string()), "{forced}");
    assert!(fs::exists(format!("/proc/{pid}/exe")).unwrap(), "{forced}");
    container.clean_up();
}

#[test]
fn no_verb_waits_for_what_is_in_place_of_a_file_of_the_container() {
    ampoule_only!(WHY);
    let (container, init) = running();
    let id = &container.id;
    for name in ["state.json", "init", "config.json"] {
        let file = init.with_file_name(name);
        let aside = file.with_extension("aside");
        for kind in ["fifo", "directory", "link", "socket"] {
            fs::rename(&file, &aside).unwrap();
            match kind {
                "fifo" => nix::unistd::mkfifo(&file, Mode::S_IRWXU).unwrap(),
                "directory" => fs::create_dir(&file).unwrap(),
                "link" => symlink("/dev/zero", &file).unwrap(),
                _ => drop(UnixListener::bind(&file).unwrap()),
            }
            let verbs = [
                &["state", id][..],
                &["start", id],
                &["kill", id],
                &["pause", id],
                &["delete", "-f", id],
                &["exec", id, "x"],
            ];
            for verb in verbs {
                if name != "config.json" || verb[0] == "exec" {
                    let refused = container.call(verb).saying(name).saying("not a regular file");
                    assert!(refused.code > 0, "{refused}");
                }
            }
            if kind == "directory" { fs::remove_dir(&file) } else { fs::remove_file(&file) }.unwrap();
            fs::rename(&aside, &file).unwrap();
        }
    }
    assert_eq!(container.status(), "running");
}

#[test]
fn what_is_no_directory_is_no_container_and_is_not_removed() {
    ampoule_only!(WHY);
    let container = Container::of(Bundle::sleeping());
    let path = container.state_root().join(&container.id);
    for kind in ["a file", "a symbolic link"] {
        match kind {
            "a file" => fs::write(&path, "").unwrap(),
            _ => symlink("/", &path).unwrap(),
        }
        let rm = format!("rm {}", path.display());
        container.delete_force().fails().saying(kind).saying(&rm);
        container.create().fails().saying(kind).saying(&rm);
        fs::remove_file(&path).unwrap();
    }
}
