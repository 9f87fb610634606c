//! Propagation: of the root, of single mounts, and what it does on the host.

use ampoule_tests::{Bundle, Container, Mount, NO_MOUNTS, Scratch, ampoule_only, is_root, require};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use std::path::PathBuf;

fn of_root(propagation: &str) -> Vec<Mount> {
    let bundle = Bundle::asking(&["cat", "/proc/self/mountinfo"])
        .with(|c| c["linux"]["rootfsPropagation"] = json!(propagation));
    Mount::parse(&Container::of(bundle).run().ok().text())
}

/// A shared mount on the host, unmounted on drop.
struct Shared(Scratch);

impl Shared {
    fn new() -> Self {
        let scratch = Scratch::new();
        let path = scratch.path();
        mount(Some("shared"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        mount(None::<&str>, path, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
        Self(scratch)
    }

    fn dir(&self, name: &str) -> PathBuf {
        let dir = self.0.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn bound(&self, options: &[&str]) -> Mount {
        let bundle = Bundle::asking(&["cat", "/proc/self/mountinfo"]).adding(
            "/mounts",
            json!({ "destination": "/tree", "type": "bind", "source": self.0.path(), "options": options }),
        );
        let mounts = Mount::parse(&Container::of(bundle).run().ok().text());
        mounts.into_iter().rfind(|m| m.target == "/tree").expect("the mount")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        while umount2(self.0.path(), MntFlags::MNT_DETACH).is_ok() {}
    }
}

fn is(mount: &Mount, what: &str) -> bool {
    mount.propagation.iter().any(|p| p.starts_with(what))
}

#[test]
fn the_root_is_private_to_the_host_by_default() {
    let bundle = Bundle::asking(&["cat", "/proc/self/mountinfo"]);
    let mounts = Mount::parse(&Container::of(bundle).run().ok().text());
    assert!(!is(&mounts[0], "shared"), "{:?}", mounts[0]);
}

#[test]
fn a_private_root_propagates_nothing() {
    assert_eq!(of_root("private")[0].propagation, [""; 0]);
    assert_eq!(of_root("rprivate")[0].propagation, [""; 0]);
}

#[test]
fn a_shared_root_is_shared() {
    ampoule_only!(
        "runc 1.1 makes the mount above private before it binds the root, which then is private too"
    );
    for name in ["shared", "rshared"] {
        let mounts = of_root(name);
        assert!(is(&mounts[0], "shared:"), "{name}: {:?}", mounts[0]);
    }
}

#[test]
fn an_unbindable_root_is_unbindable() {
    ampoule_only!("runc 1.1 makes the host's mounts unbindable first and then fails to bind the root");
    for name in ["unbindable", "runbindable"] {
        let mounts = of_root(name);
        assert!(is(&mounts[0], "unbindable"), "{name}: {:?}", mounts[0]);
    }
}

#[test]
fn an_unknown_propagation_is_refused() {
    let bundle = Bundle::asking(&["cwd"]).with(|c| c["linux"]["rootfsPropagation"] = json!("sideways"));
    Container::of(bundle).run().fails().saying("sideways");
}

#[test]
fn a_bind_mount_takes_the_propagation_that_its_options_ask_for() {
    require!(is_root(), "root", named NO_MOUNTS);
    let shared = Shared::new();
    assert!(is(&shared.bound(&["rbind", "rshared"]), "shared:"));
    assert!(is(&shared.bound(&["rbind", "shared"]), "shared:"));
    assert!(is(&shared.bound(&["rbind", "unbindable"]), "unbindable"));
    assert!(is(&shared.bound(&["bind", "runbindable"]), "unbindable"));
    assert_eq!(shared.bound(&["rbind", "rprivate"]).propagation, [""; 0]);
    assert_eq!(shared.bound(&["rbind", "private"]).propagation, [""; 0]);
}

#[test]
fn a_slave_mount_receives_what_the_host_mounts_later() {
    require!(is_root(), "root", named NO_MOUNTS);
    let shared = Shared::new();
    let sub = shared.dir("sub");
    let bundle = Bundle::asking(&["line", ",", "cat", "/tree/sub/mark"]).adding(
        "/mounts",
        json!({ "destination": "/tree", "type": "bind", "source": shared.0.path(), "options": ["rbind", "rslave"] }),
    )
    // The container must not cut the chain above the mount either.
    .with(|c| c["linux"]["rootfsPropagation"] = json!("rslave"));
    let container = Container::of(bundle);
    let mut command = container.command(&container.args_for("run", &[]));
    command.stdin(std::process::Stdio::piped());
    let (end, into) = std::io::pipe().unwrap();
    command.stdin(end);
    let run = container.spawn(command, "run");
    container.wait_status("running");
    mount(Some("later"), &sub, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    std::fs::write(sub.join("mark"), "seen").unwrap();
    std::io::Write::write_all(&mut { into }, b"go\n").unwrap();
    let answers = run.finish().ok().answers();
    umount2(&sub, MntFlags::MNT_DETACH).unwrap();
    assert_eq!(answers, ["go", "seen"]);
}

#[test]
fn a_slave_is_a_slave_in_mountinfo() {
    require!(is_root(), "root", named NO_MOUNTS);
    let shared = Shared::new();
    let bundle = Bundle::asking(&["cat", "/proc/self/mountinfo"])
        .with(|c| c["linux"]["rootfsPropagation"] = json!("rslave"))
        .adding(
            "/mounts",
            json!({ "destination": "/tree", "type": "bind", "source": shared.0.path(), "options": ["rbind", "rslave"] }),
        );
    let mounts = Mount::parse(&Container::of(bundle).run().ok().text());
    let mount = mounts.iter().rfind(|m| m.target == "/tree").expect("the mount");
    assert!(is(mount, "master:") && !is(mount, "shared:"), "{mount:?}");
}

#[test]
fn a_slave_mount_receives_without_any_configured_root_propagation() {
    require!(is_root(), "root", named NO_MOUNTS);
    let shared = Shared::new();
    let mount = shared.bound(&["rbind", "rslave"]);
    assert!(is(&mount, "master:"), "{mount:?}");
}
