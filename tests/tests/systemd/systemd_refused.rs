//! The systemd cgroup driver where it can't do what it is asked: no bus, a silent one, names and annotations.

use ampoule_tests::systemd::{WHY, args_for, create, forgotten, runs_on_v2, unit};
use ampoule_tests::{Bundle, Container, Layout, Outcome, Runtime, ampoule_only, mountinfo, require};
use serde_json::json;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// Creates on what looks like a v2 host, with a bus at this address.
fn create_on_bus(container: &Container, address: &str) -> Outcome {
    let mut command = container.command(&args_for(container, "create"));
    command.env("DBUS_SYSTEM_BUS_ADDRESS", address).env("DBUS_SESSION_BUS_ADDRESS", address);
    container.spawn(command, "create").finish()
}

#[test]
fn without_a_bus_the_way_out_is_named() {
    ampoule_only!("runc says \"dial unix: no such file\"");
    let container = Container::on(Layout::PureV2, Bundle::sleeping());
    let address = format!("unix:path={}", container.bundle.beside("no-bus").display());
    create_on_bus(&container, &address).fails().saying("no-bus").saying("cgroupfs driver works without it");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_bus_that_never_answers_is_given_up_and_nothing_is_left() {
    ampoule_only!("runc 1.1 waits for ever");
    let container = Container::on(Layout::PureV2, Bundle::sleeping());
    let socket = container.bundle.beside("bus");
    let _silent = UnixListener::bind(&socket).unwrap();
    let began = Instant::now();
    create_on_bus(&container, &format!("unix:path={}", socket.display())).fails().saying("no answer in time");
    assert!(began.elapsed() > Duration::from_secs(9), "{:?}", began.elapsed());
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_path_of_the_cgroupfs_kind_is_refused_with_what_is_expected() {
    for path in
        ["/machine/web", "web", "a:b", "a/b.slice:c:d", "system.slice:c:d.slice", "system.slice:c:d+e"]
    {
        let bundle = Bundle::sleeping().with(|c| c["linux"]["cgroupsPath"] = json!(path));
        let container = Container::on(Layout::PureV2, bundle);
        let outcome = create(&container).fails();
        if Runtime::get().is_ampoule() {
            outcome.saying("linux.cgroupsPath");
        }
        assert_eq!(container.leftovers(), [""; 0]);
    }
}

#[test]
fn on_a_host_with_v1_the_way_out_is_named() {
    ampoule_only!("runc has the driver for v1, too");
    require!(mountinfo().iter().any(|m| m.kind == "cgroup"), "cgroup v1", named "this host has cgroup v2 alone");
    let container = Container::of(Bundle::sleeping());
    create(&container).fails().saying("cgroup v2").saying("cgroupfs driver");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn an_active_unit_of_the_same_name_is_left_alone() {
    require!(runs_on_v2(), "systemd", named WHY);
    // In another slice, where no directory tells of it.
    let mut other = Container::of(Bundle::sleeping());
    other.bundle.config["linux"]["cgroupsPath"] = json!(format!("-.slice:x:{}", other.id));
    create(&other).ok();
    for slice in ["", "-.slice"] {
        let mut container = Container::of(Bundle::sleeping());
        container.bundle.config["linux"]["cgroupsPath"] = json!(format!("{slice}:x:{}", other.id));
        let words = if slice.is_empty() { "is active already" } else { "not empty" };
        create(&container).fails().saying("linux.cgroupsPath").saying(words);
        container.call(&["delete", "--force", &container.id]).ok();
        assert_eq!(other.status(), "created");
    }
    other.start().ok();
}

#[test]
fn annotations_that_systemd_or_we_refuse_leave_nothing() {
    require!(runs_on_v2(), "systemd", named WHY);
    for (name, value, said) in [
        ("NoSuchProperty", "true", "NoSuchProperty"),
        ("ExecStart", "[('/bin/sh', ['sh'], false)]", "ExecStart"),
        ("TimeoutStopUSec", "'x'", "StartTransientUnit"),
        ("FailureAction", "'reboot'", "annotations[\"org.systemd.property.FailureAction\"]"),
        ("MemoryHigh", "lots", "annotations[\"org.systemd.property.MemoryHigh\"]"),
    ] {
        let bundle = Bundle::sleeping();
        let bundle =
            bundle.with(|c| c["annotations"] = json!({ format!("org.systemd.property.{name}"): value }));
        let container = Container::of(bundle);
        create(&container).fails().saying(said);
        assert_eq!(container.leftovers(), [""; 0], "{name}");
        forgotten(&unit(&container));
    }
}
