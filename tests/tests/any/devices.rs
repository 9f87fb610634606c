//! Devices: the ones that every container has, and configured ones.

use ampoule_tests::{Bundle, Container, ask, is_root, repeats, require, while_exchanging};
use nix::sys::stat::{Mode, SFlag, mknod};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

#[test]
fn the_default_devices_exist_and_can_be_used() {
    let devices = [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ];
    for (name, number) in devices {
        let path = format!("/dev/{name}");
        let answers = ask(|b| b, &[&["stat", &path], &["open", &path, "rw"]]);
        let stat = &answers[0];
        assert_eq!(
            (&stat["type"], &stat["rdev"], &stat["mode"]),
            (&json!("char"), &json!(number), &json!("666"))
        );
        // An ordinary user's are the host's, whose owner their user namespace doesn't know.
        let owner = if is_root() { 0 } else { 65534 };
        assert_eq!((&stat["uid"], &stat["gid"]), (&json!(owner), &json!(owner)));
        // There is no terminal to open here: ENXIO, and not a refusal.
        let wanted = if name == "tty" { json!({ "error": "ENXIO" }) } else { json!("ok") };
        assert_eq!(answers[1], wanted, "{name}");
    }
}

/// A layer, or another container that shares the root, may exchange what is checked before it is changed.
#[test]
fn a_node_that_is_exchanged_for_a_link_meanwhile_changes_nothing_of_the_hosts() {
    require!(is_root(), "root", named "an ordinary user can make no device nodes");
    let bundle = Bundle::asking(&["stat", "/dev/null"]).writable().with(|c| {
        c["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    });
    let (dev, victim) = (bundle.rootfs().join("dev"), bundle.beside("victim"));
    fs::write(&victim, "").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
    let numbers = nix::sys::stat::makedev(1, 3);
    mknod(&dev.join("null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), numbers).unwrap();
    symlink(&victim, dev.join("other")).unwrap();
    let container = Container::of(bundle);
    while_exchanging(&dev.join("null"), &dev.join("other"), || {
        for _ in 0..repeats(300) {
            // It may find the link, and say so.
            let outcome = container.run();
            assert!(outcome.code == 0 || outcome.stderr.contains("/dev/null"), "{outcome}");
        }
    });
    let mode = fs::metadata(&victim).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "a file of the host's was changed");
}

#[test]
fn the_links_of_dev_are_there() {
    let links = [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
    ];
    for (link, target) in links {
        assert_eq!(ask(|b| b, &[&["readlink", link]]), [target], "{link}");
    }
}

#[test]
fn dev_has_nothing_else() {
    let names = ask(|b| b, &[&["ls", "/dev"]]).remove(0);
    let known = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero", // runc links /dev/core to /proc/kcore where that exists.
        "core",
    ];
    for name in names.as_array().unwrap() {
        assert!(known.contains(&name.as_str().unwrap()), "{name} in {names}");
    }
}

#[test]
fn a_configured_device_is_made_with_its_mode_and_owner() {
    require!(is_root(), "root", named "an ordinary user's devices are the host's, bound");
    let device = json!([
        { "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8 },
        { "path": "/dev/deep/disk", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600, "uid": 0, "gid": 0 },
        { "path": "/dev/pipe", "type": "p", "fileMode": 0o622, "uid": 0, "gid": 0 },
        { "path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0 },
    ]);
    let answers = ask(
        |b| b.with(|c| c["linux"]["devices"] = device),
        &[
            &["stat", "/dev/mine"],
            &["stat", "/dev/deep/disk"],
            &["stat", "/dev/pipe"],
            &["stat", "/dev/unbuffered"],
        ],
    );
    let is = |i: usize, kind: &str, rdev: &str, mode: &str| {
        let got = &answers[i];
        assert_eq!(
            (&got["type"], &got["rdev"], &got["mode"]),
            (&json!(kind), &json!(rdev), &json!(mode)),
            "{got}"
        );
    };
    is(0, "char", "1:3", "640");
    assert_eq!((&answers[0]["uid"], &answers[0]["gid"]), (&json!(7), &json!(8)));
    is(1, "block", "7:200", "600");
    is(2, "fifo", "0:0", "622");
    is(3, "char", "1:5", "666");
}

#[test]
fn a_device_without_a_mode_is_readable_and_writable_by_everyone() {
    require!(is_root(), "root", named "an ordinary user's devices are the host's, bound");
    let device = json!([{ "path": "/dev/mine", "type": "c", "major": 1, "minor": 3 }]);
    let answers = ask(|b| b.with(|c| c["linux"]["devices"] = device), &[&["stat", "/dev/mine"]]);
    assert_eq!(answers[0]["mode"], "666");
}

#[test]
fn the_umask_of_the_process_does_not_change_a_devices_mode() {
    require!(is_root(), "root", named "an ordinary user's devices are the host's, bound");
    let device = json!([{ "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0 }]);
    let answers = ask(
        |b| {
            b.with(|c| {
                c["linux"]["devices"] = device;
                c["process"]["user"]["umask"] = json!(0o77);
            })
        },
        &[&["stat", "/dev/mine"], &["stat", "/dev/null"]],
    );
    assert_eq!((&answers[0]["mode"], &answers[1]["mode"]), (&json!("666"), &json!("666")));
}

#[test]
fn a_configured_default_device_takes_the_configured_form() {
    require!(is_root(), "root", named "an ordinary user's devices are the host's, bound");
    let device = json!([{ "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o644, "uid": 3, "gid": 4 }]);
    // Whoever configures a default device answers for its access too, says runc.
    let rule = json!({ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" });
    let configured =
        |b: Bundle| b.with(|c| c["linux"]["devices"] = device).adding("/linux/resources/devices", rule);
    let answers = ask(configured, &[&["stat", "/dev/null"]]);
    assert_eq!(answers[0]["rdev"], "1:3");
    let got = (&answers[0]["mode"], &answers[0]["uid"]);
    assert_eq!(got, (&json!("644"), &json!(3)));
}

#[test]
fn a_device_outside_of_dev_is_made_in_the_root() {
    require!(is_root(), "root", named "an ordinary user's devices are the host's, bound");
    let device = json!([{ "path": "/opt/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0 }]);
    let answers = ask(|b| b.writable().with(|c| c["linux"]["devices"] = device), &[&["stat", "/opt/null"]]);
    assert_eq!(answers[0]["rdev"], "1:3");
}

#[test]
fn an_unknown_device_type_is_refused() {
    let device = json!([{ "path": "/dev/mine", "type": "x", "major": 1, "minor": 3 }]);
    Container::of(Bundle::asking(&["cwd"]).with(|c| c["linux"]["devices"] = device)).run().fails();
}

#[test]
fn dev_is_left_alone_when_it_is_the_hosts() {
    let bundle = Bundle::asking(&["ls", "/dev"]).with(|c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.push(json!({ "destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"] }));
    });
    let before = std::fs::read_dir("/dev").unwrap().count();
    let names = Container::of(bundle).run().ok().answer();
    assert!(names.as_array().unwrap().contains(&json!("kmsg")), "{names}");
    assert_eq!(std::fs::read_dir("/dev").unwrap().count(), before, "the host's /dev was changed");
}

#[test]
fn a_tmpfs_dev_asked_to_be_read_only_is_read_only_after_its_devices_are_made() {
    let bundle = Bundle::asking(&["stat", "/dev/null", ",", "write", "/dev/file", "x"]).with(|c| {
        c["mounts"][1]["options"].as_array_mut().unwrap().push(json!("ro"));
    });
    let answers = Container::of(bundle).run().ok().answers();
    assert_eq!(answers[0]["rdev"], "1:3");
    assert_eq!(answers[1], json!({ "error": "EROFS" }));
}
