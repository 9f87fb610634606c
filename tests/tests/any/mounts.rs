//! Mounts: what is mounted where, in which order, and what it does to the root file system.

use ampoule_tests::{Bundle, Container, Layout, Mount, Runtime, id_outside, is_root, require};
use serde_json::{Value, json};
use std::fs;

fn asking() -> Bundle {
    Bundle::asking(&["cat", "/proc/self/mountinfo"])
}

fn seen(bundle: Bundle) -> Vec<Mount> {
    Mount::parse(&Container::of(bundle).run().ok().text())
}

fn tmpfs(destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options })
}

fn bind(source: &std::path::Path, destination: &str) -> Value {
    json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind"] })
}

#[test]
fn the_default_mounts_are_there_with_their_options() {
    let mounts = seen(asking());
    let cases: [(&str, &str, &[&str]); 6] = [
        ("/proc", "proc", &["rw", "relatime"]),
        ("/dev", "tmpfs", &["rw", "nosuid"]),
        ("/dev/pts", "devpts", &["nosuid", "noexec"]),
        ("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev"]),
        ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", &["ro", "nosuid", "noexec", "nodev"]),
    ];
    for (target, kind, options) in cases {
        let mount = Mount::at(&mounts, target);
        assert_eq!(mount.kind, kind);
        for option in options {
            assert!(mount.has(option), "{option}: {mount:?}");
        }
    }
    let pts = &Mount::at(&mounts, "/dev/pts").super_options;
    for option in [&format!("gid={}", id_outside(5)), "mode=620", "ptmxmode=666"] {
        assert!(pts.contains(option), "{option}: {pts:?}");
    }
    assert!(Mount::at(&mounts, "/dev").super_options.contains("size=65536k"));
}

#[test]
fn no_mount_of_the_host_is_seen_inside() {
    let bundle = asking();
    let host = bundle.path().to_str().unwrap().to_owned();
    let mounts = seen(bundle);
    assert_eq!(mounts[0].target, "/");
    // Inside its file system, which need not be mounted at the host's root.
    let name = host.rsplit('/').next().unwrap();
    assert!(mounts[0].root.ends_with(&format!("{name}/rootfs")), "{:?}", mounts[0]);
    assert!(mounts.iter().all(|m| !m.target.starts_with(&host)), "{mounts:#?}");
}

#[test]
fn mounts_are_made_in_the_listed_order() {
    let bundle = asking()
        .adding("/mounts", tmpfs("/a", &["size=64k"]))
        .adding("/mounts", tmpfs("/a/b", &["size=128k"]))
        .adding("/mounts", tmpfs("/a", &["size=256k"]));
    let targets: Vec<_> =
        seen(bundle).into_iter().map(|m| m.target).filter(|t| t.starts_with("/a")).collect();
    assert_eq!(targets, ["/a", "/a/b", "/a"]);
}

#[test]
fn a_missing_destination_is_made() {
    let mounts = seen(asking().adding("/mounts", tmpfs("/not/yet/there", &[])));
    assert_eq!(Mount::at(&mounts, "/not/yet/there").kind, "tmpfs");
}

#[test]
fn a_relative_destination_is_below_the_root() {
    let mounts = seen(asking().adding("/mounts", tmpfs("relative/path", &[])));
    assert_eq!(Mount::at(&mounts, "/relative/path").kind, "tmpfs");
}

#[test]
fn a_file_is_bound_over_a_file_that_is_made_for_it() {
    let bundle = Bundle::asking(&["cat", "/etc/resolv.conf"]);
    let source = bundle.beside("resolv.conf");
    fs::write(&source, "nameserver 192.0.2.1\n").unwrap();
    let bundle = bundle.adding("/mounts", bind(&source, "/etc/resolv.conf"));
    assert_eq!(Container::of(bundle).run().ok().text(), "nameserver 192.0.2.1\n");
}

#[test]
fn a_bind_mount_is_writable_although_the_root_is_not() {
    let bundle = Bundle::asking(&["write", "/data/made", "text"]);
    let source = bundle.beside("data");
    fs::create_dir(&source).unwrap();
    let bundle = bundle.adding("/mounts", bind(&source, "/data"));
    let container = Container::of(bundle);
    assert_eq!(container.run().ok().answer(), "ok");
    assert_eq!(fs::read_to_string(source.join("made")).unwrap(), "text");
}

#[test]
fn a_relative_source_of_a_bind_mount_is_in_the_bundle() {
    let bundle = Bundle::asking(&["cat", "/data/file"]);
    fs::create_dir(bundle.beside("data")).unwrap();
    fs::write(bundle.beside("data/file"), "content").unwrap();
    let bundle = bundle.adding("/mounts", bind("data".as_ref(), "/data"));
    assert_eq!(Container::of(bundle).run().ok().text(), "content");
}

#[test]
fn a_bind_mount_needs_no_type_only_the_option() {
    let bundle = Bundle::asking(&["ls", "/data"]);
    fs::create_dir_all(bundle.beside("data/found")).unwrap();
    let source = bundle.beside("data");
    let bundle = bundle
        .adding("/mounts", json!({ "destination": "/data", "source": source, "options": ["bind", "ro"] }));
    assert_eq!(Container::of(bundle).run().ok().answer(), json!(["found"]));
}

#[test]
fn a_missing_source_is_named() {
    let bundle = Bundle::asking(&["cwd"]).adding("/mounts", bind("/nowhere/at-all".as_ref(), "/data"));
    Container::of(bundle).run().fails().saying("/nowhere/at-all").saying("no such file or directory");
}

#[test]
fn a_file_cannot_be_bound_on_a_directory_nor_the_other_way_round() {
    let bundle = || asking().with_file("/etc/there", "", 0o644);
    for (source, target) in [("config.json", "/etc"), ("rootfs", "/etc/there")] {
        let bundle = bundle();
        let source = bundle.beside(source);
        let bundle = bundle.adding("/mounts", bind(&source, target));
        Container::of(bundle).run().fails().saying("not a directory").saying(target);
    }
}

#[test]
fn an_unknown_file_system_is_named() {
    let bundle = Bundle::asking(&["cwd"])
        .adding("/mounts", json!({ "destination": "/data", "type": "nosuchfs", "source": "x" }));
    Container::of(bundle).run().fails().saying("/data").saying("no such device");
}

#[test]
fn a_link_in_the_destination_stays_inside_the_root() {
    let bundle = asking().with_dir("/real");
    std::os::unix::fs::symlink("/real", bundle.rootfs().join("link")).unwrap();
    std::os::unix::fs::symlink("../../../../../../real", bundle.rootfs().join("climber")).unwrap();
    let bundle =
        bundle.adding("/mounts", tmpfs("/link/one", &[])).adding("/mounts", tmpfs("/climber/two", &[]));
    let mounts = seen(bundle);
    Mount::at(&mounts, "/real/one");
    Mount::at(&mounts, "/real/two");
}

#[test]
fn proc_as_a_link_is_refused() {
    // CVE-2019-19921 and after: what is written to /proc must be procfs.
    let bundle = Bundle::asking(&["cwd"]).with_dir("/elsewhere");
    fs::remove_dir(bundle.rootfs().join("proc")).unwrap();
    std::os::unix::fs::symlink("/elsewhere", bundle.rootfs().join("proc")).unwrap();
    Container::of(bundle).run().fails();
}

#[test]
fn tmpcopyup_fills_a_tmpfs_with_what_it_hides() {
    require!(is_root(), "root", named "an ordinary user gives no file away");
    let bundle = Bundle::asking(&[
        "cat",
        "/data/file",
        ",",
        "stat",
        "/data/dir/inner",
        ",",
        "readlink",
        "/data/link",
        ",",
        "write",
        "/data/new",
        "x",
    ])
    .with_file("/data/file", "content", 0o644)
    .with_file("/data/dir/inner", "#!", 0o4751);
    std::os::unix::fs::symlink("file", bundle.rootfs().join("data/link")).unwrap();
    std::os::unix::fs::chown(bundle.rootfs().join("data/dir/inner"), Some(12), Some(34)).unwrap();
    let bundle = bundle.with_file("/data/dir/inner2", "", 0o600);
    let rootfs = bundle.rootfs();
    let container = Container::of(bundle.adding("/mounts", tmpfs("/data", &["tmpcopyup"])));
    let answers = container.run().ok().answers();
    assert_eq!(answers[0], "content");
    assert_eq!((&answers[1]["uid"], &answers[1]["gid"]), (&json!(12), &json!(34)));
    if Runtime::get().is_ampoule() {
        assert_eq!(answers[1]["mode"], "751", "chown(2) clears the set-uid bit; mode and owner are kept");
    }
    assert_eq!(answers[2], "file");
    assert_eq!(answers[3], "ok");
    assert!(!rootfs.join("data/new").exists(), "the hidden directory was written");
}

#[test]
fn a_mount_makes_no_noise_in_the_hosts_namespace() {
    let bundle = Bundle::sleeping();
    let source = bundle.beside("data");
    fs::create_dir(&source).unwrap();
    let bundle = bundle.adding("/mounts", bind(&source, "/data"));
    let path = bundle.path().to_owned();
    let container = Container::of(bundle);
    container.launch();
    let after = ampoule_tests::mountinfo();
    assert!(after.iter().all(|m| !m.target.starts_with(path.to_str().unwrap())), "{after:#?}");
}

#[test]
fn cgroup_mounts_show_each_v1_hierarchy_read_only() {
    ampoule_tests::require!(ampoule_tests::has_cgroup_v1("memory"), "cgroup v1", named "it is a v1 expectation");
    let mounts = seen(asking());
    for controller in ["memory", "pids", "devices", "freezer"] {
        let mount = Mount::at(&mounts, &format!("/sys/fs/cgroup/{controller}"));
        assert_eq!(mount.kind, "cgroup");
        assert!(
            mount.has("ro") && mount.has("nosuid") && mount.super_options.contains(controller),
            "{mount:?}"
        );
        // Without a cgroup namespace the runtime shows the container's own part only.
        assert_ne!(mount.root, "/");
    }
}

#[test]
fn a_cgroup_mount_on_a_v2_host_is_the_unified_one() {
    let container = Container::on(Layout::PureV2, asking().with_namespace("cgroup"));
    let mounts = Mount::parse(&container.run().ok().text());
    let mount = Mount::at(&mounts, "/sys/fs/cgroup");
    assert_eq!((mount.kind.as_str(), mount.root.as_str()), ("cgroup2", "/"));
    assert!(mount.has("ro") && mount.has("nosuid"), "{mount:?}");
}

#[test]
fn a_cgroup_mount_without_a_cgroup_namespace_shows_the_hosts_hierarchy() {
    let container = Container::on(Layout::PureV2, asking());
    let mounts = Mount::parse(&container.run().ok().text());
    let mount = Mount::at(&mounts, "/sys/fs/cgroup");
    assert_eq!(mount.kind, "cgroup2");
    // An ordinary user can bind no more than what is theirs of it.
    assert!(if is_root() { mount.root == "/" } else { mount.root.contains(&container.id) }, "{mount:?}");
    assert!(mount.has("ro"), "{mount:?}");
}
