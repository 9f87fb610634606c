//! Every option of the spec's mount table that mountinfo can show.

use ampoule_tests::{Bundle, Container, Mount, NO_MOUNTS, ampoule_only, id_outside, is_root, require};
use serde_json::{Value, json};

/// Runs a container with these further mounts, and returns what it sees.
fn mounted(bundle: Bundle, mounts: Vec<Value>) -> Vec<Mount> {
    let bundle = mounts.into_iter().fold(bundle, |b, m| b.adding("/mounts", m));
    Mount::parse(&Container::of(bundle).run().ok().text())
}

fn asking() -> Bundle {
    Bundle::asking(&["cat", "/proc/self/mountinfo"])
}

/// Options, mount options that must show, and some that must not.
type Case = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

/// Mounts a tmpfs for each case in one container, and compares.
fn check_tmpfs(cases: &[Case]) {
    let target = |i: usize| format!("/case/{i}");
    let mount = |(i, case): (usize, &Case)| json!({ "destination": target(i), "type": "tmpfs", "source": "tmpfs", "options": case.0 });
    let seen = mounted(asking(), cases.iter().enumerate().map(mount).collect());
    for (i, (options, shown, hidden)) in cases.iter().enumerate() {
        let mount = Mount::at(&seen, &target(i));
        for option in *shown {
            assert!(mount.has(option), "{options:?} should show {option}: {mount:?}");
        }
        for option in *hidden {
            assert!(!mount.has(option), "{options:?} should not show {option}: {mount:?}");
        }
    }
}

#[test]
fn each_flag_and_its_opposite_work_on_a_new_mount() {
    check_tmpfs(&[
        (&[], &["rw", "relatime"], &["nosuid", "nodev", "noexec", "ro"]),
        (&["ro"], &["ro"], &["rw"]),
        (&["ro", "rw"], &["rw"], &["ro"]),
        (&["nosuid"], &["nosuid"], &[]),
        (&["nosuid", "suid"], &[], &["nosuid"]),
        (&["nodev"], &["nodev"], &[]),
        (&["nodev", "dev"], &[], &["nodev"]),
        (&["noexec"], &["noexec"], &[]),
        (&["noexec", "exec"], &[], &["noexec"]),
        (&["noatime"], &["noatime"], &["relatime"]),
        (&["noatime", "atime"], &["relatime"], &["noatime"]),
        (&["nodiratime"], &["nodiratime"], &[]),
        (&["nodiratime", "diratime"], &[], &["nodiratime"]),
        (&["relatime"], &["relatime"], &[]),
        (&["strictatime"], &[], &["relatime", "noatime"]),
        (&["strictatime", "nostrictatime"], &["relatime"], &["noatime"]),
        (&["relatime", "norelatime"], &[], &["noatime"]),
    ]);
}

#[test]
fn defaults_means_nothing_and_is_no_data() {
    ampoule_only!("runc 1.1 hands `defaults` to the file system, which refuses it");
    check_tmpfs(&[(&["defaults", "nosuid"], &["rw", "relatime", "nosuid"], &["nodev"])]);
}

#[test]
fn nosymfollow_works_on_a_new_mount() {
    check_tmpfs(&[
        (&["nosymfollow"], &["nosymfollow"], &[]),
        (&["nosymfollow", "symfollow"], &[], &["nosymfollow"]),
    ]);
}

#[test]
fn sync_dirsync_and_lazytime_are_the_file_systems() {
    let options: [&[&str]; 6] = [
        &["sync"],
        &["sync", "async"],
        &["dirsync"],
        &["silent", "loud", "noiversion", "iversion"],
        &["lazytime"],
        &["lazytime", "nolazytime"],
    ];
    let mounts = options.iter().enumerate().map(|(i, options)| {
        json!({ "destination": format!("/case/{i}"), "type": "tmpfs", "source": "tmpfs", "options": options })
    });
    let seen = mounted(asking(), mounts.collect());
    let has = |i: usize, option: &str| Mount::at(&seen, &format!("/case/{i}")).super_options.contains(option);
    assert!(has(0, "sync") && !has(1, "sync"), "{seen:#?}");
    assert!(has(2, "dirsync") && has(4, "lazytime") && !has(5, "lazytime"), "{seen:#?}");
}

#[test]
fn what_is_no_flag_is_data_for_the_file_system() {
    let seen = mounted(
        asking(),
        vec![json!({ "destination": "/data", "type": "tmpfs", "source": "named",
                     "options": ["size=123k", "mode=1700", "uid=7", "nr_inodes=99", "nodev"] })],
    );
    let mount = Mount::at(&seen, "/data");
    assert_eq!((mount.kind.as_str(), mount.source.as_str()), ("tmpfs", "named"));
    for option in ["size=124k", "mode=1700", &format!("uid={}", id_outside(7)), "nr_inodes=99"] {
        assert!(mount.super_options.contains(option), "{option}: {mount:?}");
    }
}

#[test]
fn an_option_that_the_file_system_does_not_know_is_an_error() {
    let bundle = Bundle::asking(&["cwd"]).adding(
        "/mounts",
        json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["sizzle=1"] }),
    );
    Container::of(bundle).run().fails().saying("/data").saying("invalid argument");
}

/// A directory on the host with a tmpfs inside, to be bound; unmounted on drop.
struct Tree(ampoule_tests::Scratch);

impl Tree {
    fn new() -> Self {
        let scratch = ampoule_tests::Scratch::new();
        let sub = scratch.path().join("sub");
        std::fs::create_dir(&sub).unwrap();
        nix::mount::mount(Some("below"), &sub, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
            .expect("mount a tmpfs to be bound");
        Self(scratch)
    }

    fn bound(&self, options: &[&str]) -> (Mount, Option<Mount>) {
        let source = self.0.path();
        let mount = json!({ "destination": "/tree", "type": "bind", "source": source, "options": options });
        let seen = mounted(asking(), vec![mount]);
        let below = seen.iter().find(|m| m.target == "/tree/sub").cloned();
        (Mount::at(&seen, "/tree").clone(), below)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0.path().join("sub"), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn bind_shows_one_mount_and_rbind_the_whole_tree() {
    require!(is_root(), "root", named NO_MOUNTS);
    let tree = Tree::new();
    let (top, below) = tree.bound(&["bind"]);
    assert!(top.has("rw") && below.is_none(), "{top:?} {below:?}");
    let (top, below) = tree.bound(&["rbind"]);
    assert!(top.has("rw") && below.is_some_and(|m| m.source == "below"), "{top:?}");
}

#[test]
fn flags_of_a_bind_mount_change_its_top_only() {
    require!(is_root(), "root", named NO_MOUNTS);
    let tree = Tree::new();
    let flags = ["ro", "nosuid", "nodev", "noexec", "noatime"];
    let (top, below) = tree.bound(&[&["rbind"], &flags[..]].concat());
    let below = below.expect("the mount below");
    for flag in flags {
        assert!(top.has(flag) && !below.has(flag), "{flag}: {top:?} {below:?}");
    }
}

#[test]
fn a_recursive_option_changes_the_whole_tree() {
    require!(is_root(), "root", named NO_MOUNTS);
    let tree = Tree::new();
    let cases = [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnoatime", "noatime"),
        ("rnodiratime", "nodiratime"),
    ];
    for (option, shown) in cases {
        let (top, below) = tree.bound(&["rbind", option]);
        assert!(
            top.has(shown) && below.as_ref().is_some_and(|m| m.has(shown)),
            "{option}: {top:?} {below:?}"
        );
    }
}

#[test]
fn rnosymfollow_changes_the_whole_tree() {
    require!(is_root(), "root", named NO_MOUNTS);
    let tree = Tree::new();
    let (top, below) = tree.bound(&["rbind", "rnosymfollow"]);
    assert!(top.has("nosymfollow") && below.is_some_and(|m| m.has("nosymfollow")), "{top:?}");
}

#[test]
fn a_recursive_opposite_clears_the_whole_tree() {
    require!(is_root(), "root", named NO_MOUNTS);
    let tree = Tree::new();
    let sub = tree.0.path().join("sub");
    let flags = nix::mount::MsFlags::MS_REMOUNT
        | nix::mount::MsFlags::MS_BIND
        | nix::mount::MsFlags::MS_RDONLY
        | nix::mount::MsFlags::MS_NOSUID
        | nix::mount::MsFlags::MS_NODEV
        | nix::mount::MsFlags::MS_NOEXEC
        | nix::mount::MsFlags::MS_NOATIME;
    nix::mount::mount(None::<&str>, &sub, None::<&str>, flags, None::<&str>).unwrap();
    let (_, below) = tree.bound(&["rbind"]);
    let below = below.unwrap();
    assert!(below.has("ro") && below.has("nosuid") && below.has("noatime"), "{below:?}");
    let (_, below) = tree.bound(&["rbind", "rrw", "rsuid", "rdev", "rexec", "rrelatime"]);
    let below = below.unwrap();
    for flag in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(!below.has(flag), "{flag}: {below:?}");
    }
    assert!(below.has("relatime"), "{below:?}");
}

#[test]
fn rstrictatime_makes_every_access_count_in_the_whole_tree() {
    require!(is_root(), "root", named NO_MOUNTS);
    let tree = Tree::new();
    let (top, below) = tree.bound(&["rbind", "rstrictatime"]);
    for mount in [&top, &below.unwrap()] {
        assert!(!mount.has("relatime") && !mount.has("noatime"), "{mount:?}");
    }
}
