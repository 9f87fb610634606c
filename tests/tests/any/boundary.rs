//! Ways out of a container that were found in this runtime, and what else has their shape: each is tried, and leads nowhere.

use ampoule_tests::{
    Bundle, Container, FOREIGN_NAMESPACES, NO_MOUNTS, ampoule_only, ask, is_root, repeats, require,
    while_exchanging,
};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

#[test]
fn a_process_that_waits_for_its_start_shows_its_neighbors_nothing_of_the_hosts() {
    require!(is_root(), "root", named FOREIGN_NAMESPACES);
    ampoule_only!("runc 1.1 keeps its own environment in its parked init");
    let first = Container::of(Bundle::sleeping());
    first.launch();
    let shared = format!("/proc/{}/ns/pid", first.pid());
    let join = |bundle: Bundle| {
        bundle.without_namespace("pid").adding("/linux/namespaces", json!({ "type": "pid", "path": shared }))
    };
    let victim = Container::of(join(Bundle::sleeping()));
    let mut create = victim.command(&victim.args_for("create", &[]));
    create.env("TOKEN_OF_THE_HOST", "secret");
    victim.spawn(create, "create").finish().ok();
    let environment = fs::read(format!("/proc/{}/environ", victim.pid())).unwrap();
    assert!(environment.iter().all(|byte| *byte == 0), "{}", String::from_utf8_lossy(&environment));
    let inside = victim.inner_pid();
    let of = |what: &str| format!("/proc/{inside}/{what}");
    let questions: [&[&str]; 5] = [
        &["cat", &of("environ")],
        &["open", &of("mem"), "rw"],
        &["readlink", &of("fd/0")],
        &["readlink", &of("root")],
        &["readlink", &of("cwd")],
    ];
    for answer in ask(join, &questions) {
        assert_eq!(answer, json!({ "error": "EACCES" }));
    }
}

#[test]
fn what_hides_a_file_cannot_be_changed_for_the_host() {
    require!(is_root(), "root", named "an ordinary user owns no /dev/null");
    ampoule_only!("runc 1.1 masks with a writable bind mount of /dev/null");
    // The mode that it has: nothing would be changed.
    let answers = ask(|b| b, &[&["chmod", "/proc/keys", "666"], &["cat", "/proc/keys"]]);
    assert_eq!(answers, [json!({ "error": "EROFS" }), json!("")]);
    // Root of a user namespace may be the host's root.
    let as_itself = |bundle: Bundle| {
        bundle.with_user_namespace().with(|config| {
            for kind in ["uidMappings", "gidMappings"] {
                config["linux"][kind] = json!([{ "containerID": 0, "hostID": 0, "size": 100_000 }]);
            }
        })
    };
    let answers = ask(as_itself, &[&["chmod", "/dev/zero", "666"], &["open", "/dev/zero", "rw"]]);
    assert_eq!(answers, [json!({ "error": "EROFS" }), json!("ok")]);
    // Root of any other is nobody there, and may still touch it.
    let answers =
        ask(Bundle::with_user_namespace, &[&["chmod", "/dev/zero", "666"], &["open", "/dev/zero", "rw"]]);
    assert_eq!(answers, [json!({ "error": "EPERM" }), json!("ok")]);
}

#[test]
fn without_pivot_root_no_whole_procfs_or_sysfs_is_left_for_a_namespace_inside() {
    require!(is_root(), "root", named "an ordinary user's namespaces hide nothing that he sees elsewhere");
    let container = Container::of(Bundle::asking(&["unmasked", "/tmp"]).writable());
    assert_eq!(container.run().ok().answers(), [json!([])]);
    assert_eq!(container.run_with(&["--no-pivot"]).ok().answers(), [json!([])]);
}

#[test]
fn restrictions_of_the_root_itself_take_effect_or_are_refused() {
    ampoule_only!("runc 1.1 mounts above what a path starts at, without effect");
    let linked = |bundle: Bundle| {
        symlink("/", bundle.rootfs().join("top")).unwrap();
        bundle.writable()
    };
    for path in ["/", "/top", "/top/."] {
        let readonly = |bundle| linked(bundle).with(|c| c["linux"]["readonlyPaths"] = json!([path]));
        let answers = ask(readonly, &[&["write", "/file", "x"], &["write", "/dev/shm/x", "x"]]);
        assert_eq!(answers, [json!({ "error": "EROFS" }), json!({ "error": "EROFS" })], "{path}");
        let masked = linked(Bundle::sleeping()).with(|c| c["linux"]["maskedPaths"] = json!([path]));
        Container::of(masked).create().fails().saying("linux.maskedPaths");
        let tmpfs = json!({ "destination": path, "type": "tmpfs", "source": "tmpfs" });
        Container::of(linked(Bundle::sleeping()).adding("/mounts", tmpfs)).create().fails().saying("mounts[");
    }
}

#[test]
fn restrictions_hold_for_files_that_are_mounts_themselves() {
    let bundle = |bundle: Bundle| {
        let file = bundle.beside("file");
        fs::write(&file, "secret").unwrap();
        ["/masked", "/readonly", "/twice"]
            .iter()
            .fold(bundle.writable(), |bundle, path| {
                let bind =
                    json!({ "destination": path, "type": "bind", "source": file, "options": ["bind"] });
                bundle.adding("/mounts", bind)
            })
            .with(|config| {
                config["linux"]["maskedPaths"] = json!(["/masked", "/twice"]);
                config["linux"]["readonlyPaths"] = json!(["/readonly", "/twice"]);
            })
    };
    let questions: [&[&str]; 4] =
        [&["cat", "/masked"], &["cat", "/readonly"], &["open", "/readonly", "rw"], &["cat", "/twice"]];
    let answers = ask(bundle, &questions);
    assert_eq!(answers, [json!(""), json!("secret"), json!({ "error": "EROFS" }), json!("")]);
}

/// Links of the image's give one mount several names, and the last one on a place is the one that shows.
#[test]
fn restrictions_hold_whatever_the_mounts_are_called() {
    require!(is_root(), "root", named NO_MOUNTS);
    ampoule_only!("runc 1.1 refuses a procfs or sysfs that is not on /proc or /sys");
    let linked = |bundle: Bundle, link: &str, to: &str| {
        symlink(to, bundle.rootfs().join(link)).unwrap();
        bundle.writable()
    };
    let sysfs = json!({ "destination": "/s", "type": "sysfs", "source": "sysfs" });
    let second = |bundle| {
        linked(bundle, "s", "sys").adding("/mounts", sysfs.clone()).with(|config| {
            config["linux"]["maskedPaths"] = json!(["/sys/kernel"]);
        })
    };
    assert_eq!(ask(second, &[&["ls", "/sys/kernel"]]), [json!([])]);
    let proc = json!({ "destination": "/p", "type": "proc", "source": "proc" });
    let second = |bundle| linked(bundle, "p", "proc").adding("/mounts", proc.clone());
    let questions: [&[&str]; 2] = [&["cat", "/proc/keys"], &["open", "/proc/sys/kernel/domainname", "rw"]];
    assert_eq!(ask(second, &questions), [json!(""), json!({ "error": "EROFS" })]);
    // A volume that is shown twice, and what a later mount hides.
    let volume = |bundle: Bundle| {
        let volume = bundle.beside("volume");
        fs::create_dir_all(&volume).unwrap();
        fs::write(volume.join("secret"), "secret").unwrap();
        symlink("/", volume.join("top")).unwrap();
        let bind =
            |to: &str| json!({ "destination": to, "type": "bind", "source": volume, "options": ["rbind"] });
        linked(bundle, "d2", "data")
            .with_dir("/data")
            .adding("/mounts", bind("/data"))
            .adding("/mounts", bind("/d2"))
    };
    let masked = |bundle| volume(bundle).with(|c| c["linux"]["maskedPaths"] = json!(["/data/secret"]));
    assert_eq!(ask(masked, &[&["cat", "/data/secret"]]), [json!("")]);
    let readonly = |bundle| volume(bundle).with(|c| c["linux"]["readonlyPaths"] = json!(["/data/top"]));
    assert_eq!(ask(readonly, &[&["write", "/file", "x"]]), [json!({ "error": "EROFS" })]);
    let refused = volume(Bundle::sleeping()).with(|c| c["linux"]["maskedPaths"] = json!(["/data/top"]));
    Container::of(refused).create().fails().saying("linux.maskedPaths");
    let tmpfs = json!({ "destination": "/data/top", "type": "tmpfs", "source": "tmpfs" });
    Container::of(volume(Bundle::sleeping()).adding("/mounts", tmpfs)).create().fails().saying("mounts[");
    let covered = |bundle| {
        linked(bundle, "d", "dev")
            .adding("/mounts", json!({ "destination": "/d", "type": "tmpfs", "source": "tmpfs" }))
    };
    assert_eq!(ask(covered, &[&["open", "/dev/null", "rw"]]), [json!("ok")]);
}

#[test]
fn a_mount_costs_no_descriptor_once_it_is_attached() {
    ampoule_only!("it is about a table of ours");
    let tmpfs = |n: u32| json!({ "destination": format!("/m/{n}"), "type": "tmpfs", "source": "tmpfs" });
    let bundle = (0..40).fold(Bundle::sleeping().writable(), |bundle, n| bundle.adding("/mounts", tmpfs(n)));
    let bundle = bundle.with(|c| c["process"]["rlimits"] = json!([]));
    let container = Container::of(bundle);
    let create = container.command(&container.args_for("create", &[]));
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=50:50").arg(create.get_program()).args(create.get_args());
    container.spawn(limited, "create").finish().ok();
}

#[test]
fn a_directory_that_becomes_a_link_to_the_hosts_while_it_is_mounted_on_leads_nowhere() {
    let mut made = 0;
    for _ in 0..repeats(100) {
        let bundle = Bundle::sleeping()
            .writable()
            .with_dir("/data")
            .adding("/mounts", json!({ "destination": "/data/a/b", "type": "tmpfs", "source": "tmpfs" }));
        let (hosts, data) = (bundle.beside("hosts"), bundle.rootfs().join("data"));
        fs::create_dir(&hosts).unwrap();
        let link = bundle.beside("link");
        symlink(&hosts, &link).unwrap();
        let container = Container::of(bundle);
        made += u32::from(while_exchanging(&data, &link, || container.create()).code == 0);
        assert_eq!(fs::read_dir(&hosts).unwrap().count(), 0);
    }
    assert!(made > 0);
}

/// What is written to procfs goes to the kernel, whatever the image has at that place (CVE-2019-16884, CVE-2025-52881).
#[test]
fn what_is_meant_for_procfs_lands_in_no_file_of_the_images() {
    let files = ["sys/kernel/domainname", "sys/net/ipv4/ip_forward", "self/attr/keycreate", "self/setgroups"];
    let bundle = Bundle::sleeping().writable().with(|config| {
        config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/proc");
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    let bundle = files.iter().fold(bundle, |b, file| b.with_file(&format!("/proc/{file}"), "image's", 0o666));
    let container = Container::of(bundle);
    container.launch();
    for file in files {
        let text = fs::read_to_string(container.bundle.rootfs().join("proc").join(file)).unwrap();
        assert_eq!(text, "image's", "{file}");
    }
    let net = format!("--net=/proc/{}/ns/net", container.pid());
    let forward =
        Command::new("nsenter").args([&net, "cat", "/proc/sys/net/ipv4/ip_forward"]).output().unwrap();
    assert_eq!(forward.stdout, b"1\n");
}

/// CVE-2025-31133: what hides a file would show another one.
#[test]
fn a_dev_null_that_is_none_masks_nothing() {
    require!(is_root(), "root", named NO_MOUNTS);
    ampoule_only!("runc 1.1 takes whatever is there");
    let container = Container::of(Bundle::sleeping());
    container.bundle.write();
    let file = container.bundle.beside("file");
    fs::write(&file, "secret").unwrap();
    let create = container.command(&container.args_for("create", &[]));
    let mut elsewhere = Command::new("unshare");
    elsewhere.args(["-m", "sh", "-c", "mount --bind $0 /dev/null && exec \"$@\""]).arg(&file);
    elsewhere.arg(create.get_program()).args(create.get_args());
    container
        .spawn(elsewhere, "create")
        .finish()
        .fails()
        .saying("/dev/null of the host is not the null device");
    assert_eq!(container.leftovers(), [""; 0]);
}

/// Whoever else writes to the root filesystem exchanges what /proc is mounted on for a directory that looks like it.
#[test]
fn restrictions_land_in_the_procfs_that_was_mounted_or_the_container_is_not_made() {
    ampoule_only!("runc 1.1 looks for each path anew");
    let fake = ["version", "sys/kernel/hostname"];
    let mut made = 0;
    for _ in 0..repeats(60) {
        let mut bundle = Bundle::asking(&[
            "cat",
            "/proc/version",
            ",",
            "open",
            "/proc/sys/kernel/hostname",
            "rw",
            ",",
            "cat",
            "/fake/version",
            ",",
            "open",
            "/fake/sys/kernel/hostname",
            "rw",
        ]);
        for file in fake {
            bundle = bundle.with_file(&format!("/fake/{file}"), "fake", 0o644);
        }
        let bundle = bundle.with(|config| {
            config["linux"]["maskedPaths"].as_array_mut().unwrap().push(json!("/proc/version"));
        });
        let (proc, fake) = (bundle.rootfs().join("proc"), bundle.rootfs().join("fake"));
        fs::create_dir_all(&proc).unwrap();
        let container = Container::of(bundle);
        if while_exchanging(&proc, &fake, || container.create()).code != 0 {
            continue;
        }
        made += 1;
        container.start().ok();
        container.wait_status("stopped");
        let answers = container.output().answers();
        for pair in answers.chunks(2) {
            let masked = pair == [json!(""), json!({ "error": "EROFS" })];
            let looks_like_it = pair[0] == json!("fake");
            let is_none = pair[0] == json!({ "error": "ENOENT" });
            assert!(masked || looks_like_it || is_none, "{answers:?}");
        }
    }
    assert!(made > 0);
}

#[test]
fn a_passwd_file_that_is_none_keeps_nobody_waiting() {
    ampoule_only!("runc 1.1 waits for a writer");
    let bundle = Bundle::asking(&["env"]).with(|config| {
        config["process"]["env"] = json!(["PATH=/bin"]);
    });
    fs::create_dir_all(bundle.rootfs().join("etc")).unwrap();
    let passwd = bundle.rootfs().join("etc/passwd");
    let container = Container::of(bundle);
    let homeless = |outcome: ampoule_tests::Outcome| {
        assert!(outcome.ok().stdout.contains("\"HOME=/\""));
    };
    // A stream that nobody writes to, one without an end, a loop.
    for link in ["/dev/stdin", "/dev/null", "/dev/zero", "/dev/tty", "passwd"] {
        symlink(link, &passwd).unwrap();
        let mut run = container.command(&container.args_for("run", &[]));
        let (reader, _writer) = std::io::pipe().unwrap();
        run.stdin(reader);
        homeless(container.spawn(run, "run").finish());
        fs::remove_file(&passwd).unwrap();
    }
    mkfifo(&passwd, Mode::S_IRWXU).unwrap();
    homeless(container.run());
    let sleeping = Container::of(Bundle::sleeping().with(|c| c["process"]["env"] = json!(["PATH=/bin"])));
    fs::create_dir_all(sleeping.bundle.rootfs().join("etc")).unwrap();
    sleeping.launch();
    mkfifo(&sleeping.bundle.rootfs().join("etc/passwd"), Mode::S_IRWXU).unwrap();
    homeless(sleeping.call(&["exec", &sleeping.id, "probe", "env"]));
}

#[test]
fn what_is_copied_into_a_tmpfs_may_become_a_fifo_meanwhile() {
    ampoule_only!("it is about a race that runc 1.1 has, too");
    let mut bundle = Bundle::sleeping().adding(
        "/mounts",
        json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }),
    );
    for n in 0..200 {
        bundle = bundle.with_file(&format!("/data/{n}"), "text", 0o644);
    }
    let (file, fifo) = (bundle.rootfs().join("data/100"), bundle.rootfs().join("fifo"));
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let container = Container::of(bundle);
    let mut made = 0;
    for _ in 0..repeats(500) {
        // It may be refused; it has to end.
        let outcome = while_exchanging(&file, &fifo, || container.create());
        made += u32::from(outcome.code == 0);
        assert!(outcome.code == 0 || outcome.stderr.contains("100: it is no regular file"), "{outcome}");
        container.delete_force();
    }
    assert!(made > 0);
}

#[test]
fn a_filter_that_allows_nothing_ends_the_process() {
    require!(is_root(), "root", named NO_MOUNTS);
    let bundle = Bundle::asking(&["cwd"]).with(|config| {
        config["process"]["noNewPrivileges"] = json!(true);
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ERRNO" });
    });
    let container = Container::of(bundle);
    container.run().fails();
    assert_eq!(container.leftovers(), [""; 0]);
    container.create().ok();
    container.start().fails();
    container.wait_status("stopped");
}
