//! The root file system: read-only, masked and read-only paths, and the way into it.

use ampoule_tests::{Bundle, Container, Mount, NO_MOUNTS, is_root, require};
use serde_json::json;
use std::fs;

#[test]
fn a_read_only_root_cannot_be_written() {
    let answers = Container::of(Bundle::asking(&["write", "/file", "x", ",", "mkdir", "/tmp/dir"]))
        .run()
        .ok()
        .answers();
    assert_eq!(answers, [json!({ "error": "EROFS" }), json!({ "error": "EROFS" })]);
}

#[test]
fn a_writable_root_can_be_written_and_keeps_it() {
    let bundle = Bundle::asking(&["write", "/file", "text"]).writable();
    let file = bundle.rootfs().join("file");
    let container = Container::of(bundle);
    assert_eq!(container.run().ok().answer(), "ok");
    assert_eq!(fs::read_to_string(file).unwrap(), "text");
}

#[test]
fn nothing_of_the_host_is_above_the_root() {
    let answers = Container::of(Bundle::asking(&["ls", "/..", ",", "ls", "/"])).run().ok().answers();
    assert_eq!(answers[0], answers[1]);
    let names: Vec<_> = answers[1].as_array().unwrap().iter().filter_map(|n| n.as_str()).collect();
    assert!(names.contains(&"bin") && !names.contains(&"boot"), "{names:?}");
}

#[test]
fn masked_files_are_empty_and_masked_directories_too() {
    let bundle = Bundle::asking(&[
        "cat",
        "/etc/secret",
        ",",
        "ls",
        "/secrets",
        ",",
        "write",
        "/secrets/x",
        "x",
        ",",
        "cat",
        "/proc/keys",
        ",",
        "ls",
        "/sys/firmware",
    ])
    .with_file("/etc/secret", "secret", 0o644)
    .with_file("/secrets/one", "secret", 0o644)
    .writable()
    .adding("/linux/maskedPaths", json!("/etc/secret"))
    .adding("/linux/maskedPaths", json!("/secrets"))
    .adding("/linux/maskedPaths", json!("/not/there"));
    let host = bundle.rootfs().join("etc/secret");
    let container = Container::of(bundle);
    let answers = container.run().ok().answers();
    assert_eq!(answers, [json!(""), json!([]), json!({ "error": "EROFS" }), json!(""), json!([])]);
    assert_eq!(fs::read_to_string(host).unwrap(), "secret");
}

#[test]
fn without_masked_paths_nothing_is_masked() {
    let bundle = Bundle::asking(&["cat", "/proc/timer_list"]).with(|c| c["linux"]["maskedPaths"] = json!([]));
    // Root of the user namespace that owns it may read it, or is refused: but it is not empty.
    let answer = Container::of(bundle).run().ok().answer();
    assert_ne!(answer, "");
}

#[test]
fn a_masked_link_masks_nothing_outside_the_root() {
    let bundle = Bundle::asking(&["cwd"]).writable().adding("/linux/maskedPaths", json!("/link"));
    let outside = bundle.beside("outside");
    fs::write(&outside, "content").unwrap();
    std::os::unix::fs::symlink(&outside, bundle.rootfs().join("link")).unwrap();
    let container = Container::of(bundle);
    container.run();
    assert_eq!(fs::read_to_string(outside).unwrap(), "content");
}

#[test]
fn read_only_paths_are_read_only_with_all_below() {
    let bundle = Bundle::asking(&[
        "write",
        "/data/file",
        "x",
        ",",
        "write",
        "/free/file",
        "x",
        ",",
        "write",
        "/proc/sys/kernel/shmmni",
        "1",
        ",",
        "cat",
        "/proc/self/mountinfo",
    ])
    .writable()
    .with_dir("/data")
    .with_dir("/free")
    .adding("/linux/readonlyPaths", json!("/data"))
    .adding("/linux/readonlyPaths", json!("/not/there"));
    let answers = Container::of(bundle).run().ok().answers();
    assert_eq!(&answers[..3], [json!({ "error": "EROFS" }), json!("ok"), json!({ "error": "EROFS" })]);
    let mounts = Mount::parse(answers[3].as_str().unwrap());
    let paths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
    for path in paths.into_iter().filter(|p| std::path::Path::new(p).exists()) {
        let mount = mounts.iter().rfind(|m| m.target == path).unwrap_or_else(|| panic!("{path} is no mount"));
        assert!(mount.has("ro"), "{mount:?}");
    }
}

#[test]
fn a_read_only_path_keeps_the_flags_of_the_mount_below_it() {
    let bundle = Bundle::asking(&["cat", "/proc/self/mountinfo"])
        .adding(
            "/mounts",
            json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs",
                                   "options": ["nosuid", "nodev", "noexec", "mode=755"] }),
        )
        .adding("/linux/readonlyPaths", json!("/data"));
    let mounts = Mount::parse(&Container::of(bundle).run().ok().text());
    let mount = mounts.iter().rfind(|m| m.target == "/data").unwrap();
    for flag in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(mount.has(flag), "{flag}: {mount:?}");
    }
}

#[test]
fn a_root_path_may_be_absolute() {
    let bundle = Bundle::asking(&["cwd"]);
    let root = bundle.rootfs();
    Container::of(bundle.with(|c| c["root"]["path"] = json!(root))).run().ok();
}

#[test]
fn a_root_path_may_have_any_name() {
    let bundle = Bundle::asking(&["cwd"]).with(|c| c["root"]["path"] = json!("an odd náme, with blanks"));
    fs::rename(bundle.rootfs(), bundle.beside("an odd náme, with blanks")).unwrap();
    Container::of(bundle).run().ok();
}

#[test]
fn no_pivot_changes_the_root_all_the_same() {
    let bundle = Bundle::asking(&["ls", "/", ",", "write", "/file", "x", ",", "cat", "/proc/self/mountinfo"]);
    let answers = Container::of(bundle).run_with(&["--no-pivot"]).ok().answers();
    let names: Vec<_> = answers[0].as_array().unwrap().iter().filter_map(|n| n.as_str()).collect();
    assert!(names.contains(&"bin") && !names.contains(&"boot"), "{names:?}");
    assert_eq!(answers[1], json!({ "error": "EROFS" }));
    // The host's mounts are gone, not just out of sight.
    let mounts = Mount::parse(answers[2].as_str().unwrap());
    assert_eq!(mounts[0].target, "/", "{mounts:#?}");
}

#[test]
fn a_root_on_a_file_system_of_its_own_works() {
    require!(is_root(), "root", named NO_MOUNTS);
    let bundle = Bundle::asking(&["cwd"]);
    let tmpfs = ampoule_tests::Scratch::new();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("root"), tmpfs.path(), Some("tmpfs"), flags, None::<&str>).unwrap();
    for dir in ["bin", "proc", "dev", "sys"] {
        fs::create_dir(tmpfs.path().join(dir)).unwrap();
    }
    fs::copy(bundle.rootfs().join("bin/probe"), tmpfs.path().join("bin/probe")).unwrap();
    let path = tmpfs.path().to_owned();
    Container::of(bundle.with(|c| c["root"]["path"] = json!(path))).run().ok();
}
