//! What the caller lends a container as stdin, stdout and stderr: what becomes the payload's own, and what doesn't.

use ampoule_tests::{Bundle, Call, Container, ampoule_only, is_root, require};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

const WHOEVER: &str = "whoever gives a file away";

fn owner(path: &Path) -> u32 {
    fs::metadata(path).unwrap().uid()
}

/// Of user 1234, and what it is asked.
fn of_a_user(questions: &[&str]) -> Container {
    Container::of(
        Bundle::asking(questions).with(|c| c["process"]["user"] = json!({ "uid": 1234, "gid": 1234 })),
    )
}

/// `run`, and `exec` in one that runs: calls without streams yet. Detached, for otherwise runc lends pipes of its own.
fn each_verb(try_one: impl Fn(&Container, &str, Command)) {
    let container = of_a_user(&["cwd"]);
    try_one(&container, "run", container.command(&container.args_for("run", &["--detach"])));
    let container = of_a_user(&["sleep", "1000"]);
    container.launch();
    let exec = container.command(&["exec", "--detach", &container.id, "/bin/probe", "cwd"]);
    try_one(&container, "exec", exec);
}

#[test]
fn a_file_that_was_lent_for_reading_stays_its_owners() {
    require!(is_root(), "root", named WHOEVER);
    ampoule_only!("runc 1.1 gives it to the container's user");
    each_verb(|container, verb, mut call| {
        let file = container.bundle.beside("secret");
        fs::write(&file, "of the host").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        call.stdin(File::open(&file).unwrap());
        container.spawn(call, "lent").finish().ok();
        assert_eq!(owner(&file), 0, "{verb}");
    });
}

#[test]
fn a_device_that_was_lent_stays_its_owners() {
    require!(is_root(), "root", named WHOEVER);
    ampoule_only!("runc 1.1 gives it to the container's user, unless it is /dev/null");
    each_verb(|container, verb, mut call| {
        let zero = container.bundle.beside("zero");
        mknod(&zero, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, makedev(1, 5)).unwrap();
        call.stdin(OpenOptions::new().read(true).write(true).open(&zero).unwrap());
        container.spawn(call, "lent").finish().ok();
        assert_eq!(owner(&zero), 0, "{verb}");
    });
}

#[test]
fn files_to_write_to_and_pipes_are_the_users_who_may_open_them_again() {
    require!(is_root(), "root", named WHOEVER);
    each_verb(|container, verb, mut call| {
        let [file, fifo] = ["file", "fifo"].map(|name| container.bundle.beside(name));
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let pipe = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        call.stdin(pipe).stdout(File::create(&file).unwrap()).stderr(Stdio::null());
        Call::start_with_streams(call).finish().ok();
        assert_eq!((owner(&file), owner(&fifo)), (1234, 1234), "{verb}");
    });
}
