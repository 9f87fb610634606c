//! Bind mounts that show other owners than their filesystem has.

use ampoule_tests::{Bundle, Container, NO_MOUNTS, Scratch, ampoule_only, is_root, require};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

const WHY: &str = "Debian's runc is older than the option, and its crun has other words";
const ROOT: &str = "an ordinary user maps no mount of a file system that is not theirs";

/// A directory with a mount in it, each with a file of 1000:2000; unmounted on drop. The mount is of the same
/// filesystem, for a tmpfs can't map ids before Linux 6.3.
struct Source(Scratch);

impl Source {
    fn new() -> Self {
        let source = Self(Scratch::new());
        let [below, other] = ["top/below", "other"].map(|name| source.0.path().join(name));
        for dir in [&below, &other] {
            fs::create_dir_all(dir).unwrap();
        }
        mount(Some(&other), &below, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("mount below");
        for file in [source.top().join("file"), below.join("file")] {
            fs::write(&file, "").unwrap();
            chown(&file, Some(1000), Some(2000)).unwrap();
        }
        source
    }

    fn top(&self) -> PathBuf {
        self.0.path().join("top")
    }

    fn bound(&self, options: &[&str]) -> Value {
        json!({ "destination": "/data", "type": "bind", "source": self.top(), "options": options })
    }

    /// The same, with maps of its own.
    fn mapped(&self, options: &[&str]) -> Value {
        let mut mount = self.bound(options);
        mount["uidMappings"] = json!([{ "containerID": 1000, "hostID": 5000, "size": 1 }]);
        mount["gidMappings"] = json!([{ "containerID": 0, "hostID": 10_000, "size": 5000 }]);
        mount
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = umount2(&self.top().join("below"), MntFlags::MNT_DETACH);
    }
}

fn can_map() -> bool {
    let features = Container::of(Bundle::sleeping()).call(&["features"]).ok().stdout;
    let features: Value = serde_json::from_str(&features).unwrap();
    features["linux"]["mountExtensions"]["idmap"]["enabled"] == true
}

fn owners(bundle: Bundle) -> Vec<(u64, u64)> {
    let answers = Container::of(bundle).run().ok().answers();
    let id = |answer: &Value, name: &str| answer[name].as_u64().unwrap_or_else(|| panic!("{answer}"));
    answers.iter().map(|a| (id(a, "uid"), id(a, "gid"))).collect()
}

fn asking() -> Bundle {
    Bundle::asking(&["stat", "/data/file", ",", "stat", "/data/below/file"]).with_dir("/data")
}

#[test]
fn a_map_of_its_own_changes_the_mount_or_with_ridmap_all_below_it() {
    ampoule_only!(WHY);
    require!(is_root(), "root", named ROOT);
    require!(can_map(), "MOUNT_ATTR_IDMAP (Linux 5.12)");
    let source = Source::new();
    for (options, below) in [
        (&["rbind", "idmap"][..], (1000, 2000)),
        (&["rbind", "ridmap"], (5000, 12_000)),
        // As runc has it: who gives maps wants them.
        (&["rbind"], (1000, 2000)),
    ] {
        let seen = owners(asking().adding("/mounts", source.mapped(options)));
        assert_eq!(seen, [(5000, 12_000), below], "{options:?}");
    }
}

#[test]
fn without_a_map_of_its_own_it_is_the_user_namespaces() {
    ampoule_only!(WHY);
    require!(is_root(), "root", named ROOT);
    require!(can_map(), "MOUNT_ATTR_IDMAP (Linux 5.12)");
    let source = Source::new();
    let seen =
        |options: &[&str]| owners(asking().with_user_namespace().adding("/mounts", source.bound(options)));
    assert_eq!(seen(&["rbind", "ridmap"]), [(1000, 2000); 2]);
    assert_eq!(seen(&["rbind"]), [(65534, 65534); 2]);
}

#[test]
fn what_is_written_through_it_belongs_to_whom_the_map_says() {
    ampoule_only!(WHY);
    require!(is_root(), "root", named ROOT);
    require!(can_map(), "MOUNT_ATTR_IDMAP (Linux 5.12)");
    let source = Source::new();
    let bundle = Bundle::asking(&["write", "/data/new", "x"]).with_dir("/data").with_user_namespace();
    let bundle = bundle.adding("/mounts", source.bound(&["bind", "idmap"]));
    assert_eq!(Container::of(bundle).run().ok().answer(), "ok");
    let new = fs::metadata(source.top().join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (0, 0));
}

#[test]
fn what_cannot_be_mapped_is_refused_with_its_path_and_the_reason() {
    require!(is_root(), "root", named NO_MOUNTS);
    ampoule_only!(WHY);
    let source = Source::new();
    let map = json!([{ "containerID": 0, "hostID": 5000, "size": 10 }]);
    let with = |mut mount: Value, uids: &Value, gids: &Value| {
        mount["uidMappings"] = uids.clone();
        mount["gidMappings"] = gids.clone();
        mount
    };
    let empty = json!([{ "containerID": 0, "hostID": 5000, "size": 0 }]);
    let tmpfs = json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["idmap"] });
    let proc = json!({ "destination": "/data", "source": "/proc", "options": ["rbind", "ridmap"] });
    let cases = [
        (source.bound(&["bind", "idmap"]), &["mounts[7].options", "mapping"][..]),
        (with(source.bound(&["bind"]), &map, &json!([])), &["mounts[7].gidMappings: missing"]),
        (with(source.bound(&["bind"]), &map, &empty), &["mounts[7].gidMappings[0].size"]),
        (tmpfs.clone(), &["mounts[7].options", "bind"]),
        (with(tmpfs, &map, &map), &["mounts[7].uidMappings", "bind"]),
        (with(proc, &map, &map), &["mounts[7].source", "invalid argument", "filesystem"]),
    ];
    for (mount, said) in cases {
        let container = Container::of(asking().adding("/mounts", mount));
        said.iter().fold(container.run().fails(), |outcome, words| outcome.saying(words));
        assert_eq!(container.leftovers(), [""; 0]);
    }
}
