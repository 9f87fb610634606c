//! Names that a cgroup can't have, because a file of the kernel's has them.

use ampoule_tests::{
    Bundle, Container, Runtime, ampoule_only, cgroups_named, has_cgroup_v1, is_root, remove_cgroup, require,
};
use serde_json::json;
use std::fs;

/// What a container of a name that is not unique leaves: its state, and its cgroups.
fn left_of(container: &Container, cgroup: &str) -> Vec<String> {
    let state = fs::read_dir(container.state_root()).unwrap().map(|entry| entry.unwrap().path());
    let cgroups = cgroups_named(cgroup).into_iter().filter(|dir| dir.ends_with(cgroup));
    state.chain(cgroups).map(|path| path.display().to_string()).collect()
}

#[test]
fn an_id_that_is_a_file_of_each_cgroup_is_refused_before_anything_is_made() {
    require!(Runtime::get().flags().is_empty(), "cgroups by path", named "a scope has a name of another form");
    ampoule_only!("runc 1.1 leaves what it can't delete");
    let container = Container::of(Bundle::sleeping());
    container.bundle.write();
    let bundle = container.bundle.path().to_str().unwrap();
    // The last is one of the controller's at the top of the hierarchy.
    let controllers = if has_cgroup_v1("cpu") { "cpu.shares" } else { "cpu.stat" };
    for id in ["tasks", "cgroup.procs", "notify_on_release", controllers] {
        container.call(&["create", "--bundle", bundle, id]).fails().saying("linux.cgroupsPath").saying(id);
        assert_eq!(left_of(&container, id), [""; 0], "{id}");
        container.call(&["delete", "--force", id]).ok();
    }
}

#[test]
fn a_path_that_turns_out_to_be_a_file_is_an_error_that_leaves_no_container() {
    require!(is_root() && Runtime::get().flags().is_empty(), "cgroups by path", named "root's");
    ampoule_only!("runc 1.1 leaves what it can't delete");
    let mut container = Container::of(Bundle::sleeping());
    // Only what is above it, which is made first, shows that there is such a file.
    let file = if has_cgroup_v1("cpu") { "cpu.shares" } else { "cgroup.type" };
    let above = format!("{}-above", container.id);
    container.bundle.config["linux"]["cgroupsPath"] = json!(format!("/{above}/{file}"));
    let outcome = container.create();
    let deleted = container.delete_force();
    let left = left_of(&container, file);
    cgroups_named(&above).iter().rev().for_each(|dir| remove_cgroup(dir));
    outcome.fails().saying(file).saying("linux.cgroupsPath");
    deleted.ok();
    assert_eq!(left, [""; 0]);
}
