//! Containers below a cgroup that somebody has frozen.

use ampoule_tests::{
    Bundle, Container, Runtime, ampoule_only, cgroups_named, has_cgroup_v1, has_only_cgroup_v2, is_root,
    pids_in, remove_cgroup, require, wait_for,
};
use serde_json::json;
use std::path::Path;

/// A container in a group of that name.
fn below(parent: &str, name: &str) -> Container {
    Container::of(Bundle::sleeping().with(|c| c["linux"]["cgroupsPath"] = json!(format!("/{parent}/{name}"))))
}

/// Groups that a runtime has made for a container, and leaves.
struct Parents(String);

impl Drop for Parents {
    fn drop(&mut self) {
        for dir in cgroups_named(&self.0).iter().rev() {
            remove_cgroup(dir);
        }
    }
}

#[test]
fn nobody_is_cloned_below_a_frozen_group() {
    let can_freeze = has_cgroup_v1("freezer") || has_only_cgroup_v2();
    require!(can_freeze && is_root(), "root and a freezer");
    require!(Runtime::get().flags().is_empty(), "cgroups by path", named "systemd's driver takes slices");
    ampoule_only!("runc 1.1 waits for ever");
    let keeper = Container::of(Bundle::sleeping());
    let parents = Parents(format!("{}-parents", keeper.id));
    let keeper = below(&parents.0, "keeper");
    keeper.launch();
    let (dir, state) = match has_cgroup_v1("freezer") {
        true => (keeper.cgroups().dir("freezer").parent().map(Path::to_owned), ["FROZEN", "THAWED"]),
        false => (keeper.cgroups().dir("").parent().map(Path::to_owned), ["1", "0"]),
    };
    let file = if has_cgroup_v1("freezer") { "freezer.state" } else { "cgroup.freeze" };
    let set = |value: &str| std::fs::write(dir.as_ref().unwrap().join(file), value).unwrap();
    set(state[0]);
    let second = below(&parents.0, "second");
    for outcome in [second.create(), second.run()] {
        outcome.fails().saying("linux.cgroupsPath").saying("thaw");
        assert_eq!(second.leftovers(), [""; 0]);
    }
    set(state[1]);
    second.launch();
}

#[test]
fn a_config_that_freezes_its_own_container_is_refused() {
    ampoule_only!("runc 1.1 waits for ever");
    let bundle = Bundle::sleeping().with(|config| {
        config["linux"]["resources"]["unified"] = json!({ "cgroup.freeze": "1" });
    });
    let container = Container::of(bundle);
    container.create().fails().saying("linux.resources.unified[\"cgroup.freeze\"]");
    assert_eq!(container.leftovers(), [""; 0]);
}

/// While start waits it holds the container's lock, so nobody else could thaw it.
#[test]
fn a_start_whose_container_is_frozen_meanwhile_ends() {
    let can_freeze = has_cgroup_v1("freezer") || has_only_cgroup_v2();
    require!(can_freeze && is_root(), "root and a freezer");
    ampoule_only!("runc 1.1 has no lock, and waits");
    let hook = json!([{ "path": "/bin/probe", "args": ["probe", "sleep", "1000"] }]);
    let container =
        Container::of(Bundle::sleeping().with(|c| c["hooks"] = json!({ "startContainer": hook })));
    container.create().ok();
    let cgroups = container.cgroups();
    let start = container.spawn(container.command(&["start", &container.id]), "start");
    wait_for("the hook", || pids_in(cgroups.dir("freezer")).len() == 2);
    cgroups.freeze(true);
    start.finish().fails().saying("paused while it started");
    assert_eq!(container.status(), "paused");
    container.call(&["resume", &container.id]).ok();
    container.delete_force().ok();
    assert_eq!(container.leftovers(), [""; 0]);
}
