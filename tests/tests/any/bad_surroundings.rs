//! What is wrong around config.json: the bundle, the state directory, the container itself.

use ampoule_tests::{
    Bundle, Container, NO_MOUNTS, Runtime, Scratch, ampoule_only, deny_syscall, is_root, require,
};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use std::fs;
use std::path::PathBuf;

/// `create` with this text as config.json, which must fail and leave nothing.
fn create_from(text: &[u8]) -> ampoule_tests::Outcome {
    let container = Container::of(Bundle::sleeping());
    fs::write(container.bundle.beside("config.json"), text).unwrap();
    let outcome =
        container.call(&["create", "--bundle", container.bundle.path().to_str().unwrap(), &container.id]);
    assert_eq!(container.leftovers(), [""; 0]);
    let outcome = outcome.fails();
    if Runtime::get().is_ampoule() { outcome.saying("config.json: ") } else { outcome }
}

#[test]
fn what_is_no_json_is_refused() {
    create_from(b"");
    create_from(b"{");
    create_from(b"[]");
    if Runtime::get().is_ampoule() {
        // runc 1.1 dereferences a null pointer.
        create_from(b"null");
    }
    create_from(b"\0\xff\xfe not text");
    create_from(b"{\"ociVersion\": \"1.0.2\", \"process\": {\"args\": [\"sh\"");
}

#[test]
fn a_syntax_error_is_found_by_line_and_column() {
    ampoule_only!("runc 1.1 tells a character, not where it is");
    create_from(b"{\n  \"ociVersion\": \"1.0.2\",\n  oops\n}").saying("line 3").saying("column");
}

#[test]
fn text_after_the_config_is_refused() {
    ampoule_only!("runc 1.1 reads one value and ignores the rest");
    let config = ampoule_tests::default_spec().to_string();
    create_from(format!("{config} trailing").as_bytes()).saying("trailing");
}

#[test]
fn endless_nesting_is_refused_and_does_not_overflow_the_stack() {
    create_from("[".repeat(1_000_000).as_bytes());
    create_from(format!("{{\"process\":{}", "{\"a\":".repeat(200_000)).as_bytes());
}

#[test]
fn a_config_beyond_all_measure_is_refused_in_bounded_memory() {
    ampoule_only!("runc 1.1 reads without a bound");
    let container = Container::of(Bundle::sleeping());
    std::os::unix::fs::symlink("/dev/zero", container.bundle.beside("config.json")).unwrap();
    container
        .call(&["create", "--bundle", container.bundle.path().to_str().unwrap(), &container.id])
        .fails()
        .saying("config.json")
        .saying("MiB");
    // The test's own copy of the config must not follow the link on the way out.
    fs::remove_file(container.bundle.beside("config.json")).unwrap();
}

#[test]
fn a_config_that_is_a_fifo_is_refused_and_not_waited_for() {
    ampoule_only!("runc 1.1 waits for somebody who writes");
    for verb in ["create", "run", "plan"] {
        let container = Container::of(Bundle::sleeping());
        nix::unistd::mkfifo(&container.bundle.beside("config.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let call =
            container.call(&[verb, "--bundle", container.bundle.path().to_str().unwrap(), &container.id]);
        call.fails().saying("config.json").saying("fifo");
        assert_eq!(container.leftovers(), [""; 0]);
    }
}

#[test]
fn a_bundle_without_a_config_is_refused() {
    let container = Container::of(Bundle::sleeping());
    let bundle = container.bundle.path().to_str().unwrap();
    container.call(&["create", "--bundle", bundle, &container.id]).fails().saying("config.json");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_bundle_that_does_not_exist_is_refused() {
    let container = Container::of(Bundle::sleeping());
    container.call(&["create", "--bundle", "/not/a/bundle", &container.id]).fails().saying("/not/a/bundle");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_missing_root_file_system_is_named() {
    let container = Container::of(Bundle::sleeping().with(|c| c["root"]["path"] = json!("nowhere")));
    container.create().fails().saying("nowhere").saying("no such file or directory");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_root_that_is_a_file_is_refused() {
    let container = Container::of(Bundle::sleeping().with(|c| c["root"]["path"] = json!("file")));
    fs::write(container.bundle.beside("file"), "").unwrap();
    container.create().fails().saying("not a directory");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn an_unknown_verb_or_flag_is_refused_with_a_usage() {
    let container = Container::of(Bundle::sleeping());
    for args in [&["conjure"][..], &["create", "--sideways", "x"], &["create"], &["state"], &["kill"]] {
        let outcome = container.call(args);
        assert_ne!(outcome.code, 0, "{outcome}");
        assert!(!(outcome.stderr.clone() + &outcome.stdout).is_empty(), "{outcome}");
    }
}

/// A file system for the state directory, which takes root; unmounted on drop.
struct StateOn(PathBuf);

impl StateOn {
    fn mounted(container: &Container, options: &str, flags: MsFlags) -> Self {
        let path = container.state_root();
        mount(Some("state"), &path, Some("tmpfs"), flags, Some(options)).unwrap();
        Self(path)
    }
}

impl Drop for StateOn {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_read_only_state_directory_is_an_error_that_leaves_nothing() {
    require!(is_root(), "root", named NO_MOUNTS);
    let container = Container::of(Bundle::sleeping());
    let state = StateOn::mounted(&container, "size=1m", MsFlags::MS_RDONLY);
    container.create().fails().saying("read-only file system");
    drop(state);
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_full_state_directory_is_an_error_that_leaves_nothing() {
    require!(is_root(), "root", named NO_MOUNTS);
    let container = Container::of(Bundle::sleeping());
    let state = StateOn::mounted(&container, "size=1m,nr_inodes=1000", MsFlags::empty());
    let _ = fs::write(container.state_root().join(".filler"), vec![1; 2 << 20]);
    let outcome = container.create().fails();
    // runc 1.1 has lost the reason by then: "unable to store init state: %!w(<nil>)".
    if Runtime::get().is_ampoule() {
        outcome.saying("no space left on device");
    }
    let left: Vec<_> =
        fs::read_dir(container.state_root()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, [".filler"]);
    drop(state);
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_state_directory_without_a_free_inode_is_an_error_that_leaves_nothing() {
    require!(is_root(), "root", named NO_MOUNTS);
    let container = Container::of(Bundle::sleeping());
    let state = StateOn::mounted(&container, "size=1m,nr_inodes=2", MsFlags::empty());
    container.create().fails().saying("no space left on device");
    drop(state);
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_state_file_of_rubbish_can_be_force_deleted() {
    ampoule_only!("runc 1.1 cannot delete what it cannot read");
    for (rubbish, is_called) in
        [("", "cut short"), ("{", "cut short"), ("null", "damaged"), ("{\"pid\": \"none\"}", "damaged")]
    {
        let container = Container::of(Bundle::sleeping());
        container.launch();
        let pid = container.pid();
        let file = container.state_root().join(&container.id).join("state.json");
        assert!(file.exists(), "{} is not where the state is", file.display());
        fs::write(&file, rubbish).unwrap();
        container.call(&["state", &container.id]).fails().saying(is_called);
        container.call(&["list"]);
        container.delete_force().ok();
        assert_eq!(container.leftovers(), [""; 0], "with {rubbish:?}");
        assert!(!fs::exists(format!("/proc/{pid}/exe")).unwrap());
    }
}

#[test]
fn a_damaged_record_is_not_taken_for_a_creation_that_made_nothing() {
    ampoule_only!("runc 1.1 cannot delete what it cannot read");
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let dir = container.state_root().join(&container.id);
    let [record, init] = ["state.json", "init"].map(|name| fs::read(dir.join(name)).unwrap());
    fs::write(dir.join("state.json"), "null").unwrap();
    fs::remove_file(dir.join("init")).unwrap();
    // Its cgroups would be left, and its program run on, known to nobody.
    container.call(&["delete", "--force", &container.id]).fails().saying("cgroups are not known");
    fs::write(dir.join("state.json"), record).unwrap();
    fs::write(dir.join("init"), init).unwrap();
    assert_eq!(container.status(), "running");
    container.delete_force().ok();
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_container_whose_process_was_killed_by_the_host_is_stopped() {
    let container = Container::of(Bundle::sleeping());
    container.launch();
    let pid = nix::unistd::Pid::from_raw(container.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    container.wait_status("stopped");
    container.kill("TERM").fails().saying("container not running");
    container.delete().ok();
}

#[test]
fn a_container_whose_bundle_is_gone_can_be_deleted() {
    let container = Container::of(Bundle::sleeping());
    container.launch();
    fs::remove_dir_all(container.bundle.rootfs()).unwrap();
    fs::remove_file(container.bundle.beside("config.json")).unwrap();
    assert_eq!(container.status(), "running");
    container.delete_force().ok();
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn the_state_directory_is_for_root_only() {
    use std::os::unix::fs::PermissionsExt;
    let container = Container::of(Bundle::sleeping());
    container.create().ok();
    let mode = fs::metadata(container.state_root().join(&container.id)).unwrap().permissions().mode() & 0o777;
    // CVE-2021-41103: others may at most pass through.
    assert_eq!(mode & 0o066, 0, "{mode:o}");
}

#[test]
fn a_state_root_that_does_not_exist_yet_is_made() {
    let scratch = Scratch::new();
    let root = scratch.path().join("not/yet");
    let container = Container::of(Bundle::asking(&["cwd"]));
    let making = container.args_for("run", &[]);
    let mut command = std::process::Command::new(Runtime::get().program());
    command.arg("--root").arg(&root).args(making);
    assert_eq!(container.spawn(command, "run").finish().ok().answer(), "/");
    assert!(root.is_dir());
}

#[test]
fn a_state_directory_that_cannot_be_locked_is_an_error_that_leaves_nothing() {
    ampoule_only!("runc locks nothing");
    let container = Container::of(Bundle::sleeping());
    let mut create = container.command(&container.args_for("create", &[]));
    deny_syscall(&mut create, libc::SYS_flock, None, Errno::ENOLCK);
    container.spawn(create, "create").finish().fails().saying("locks available");
    assert_eq!(container.leftovers(), [""; 0]);
    // The state directory is opened, and opened again for its lock.
    for most in 4..8 {
        let create = container.command(&container.args_for("create", &[]));
        let mut few = std::process::Command::new("sh");
        few.arg("-c").arg(format!("ulimit -n {most} && exec \"$0\" \"$@\""));
        few.arg(create.get_program()).args(create.get_args());
        let outcome = container.spawn(few, "create").finish();
        assert!(outcome.code == 1 && !outcome.stderr.contains("already exists"), "{most}: {outcome}");
        assert_eq!(container.leftovers(), [""; 0], "{most}");
    }
}
