//! JSON from engines and users: config.json, `exec --process`, `update --resources`.

use std::path::{Component, Path};
use std::sync::LazyLock;

use ampoule::facts::Facts;
use ampoule::plan::path::ContainerPath;
use ampoule::plan::step::{HookKind, InitStep, Mount, PayloadStep, RootfsStep};
use ampoule::plan::{self, Changes, Console, Driver, ExecRequest, Options, Plan, Request};
use ampoule::spec::{self, Spec};
use cgroup::layout::Layout;
use serde_json::Value;

/// The hosts that documents are planned for.
static HOSTS: LazyLock<Vec<(Facts, Driver)>> = LazyLock::new(|| {
    let root = |cgroups| Facts {
        cgroups,
        capabilities: u64::MAX,
        apparmor: true,
        resctrl: true,
        selinux: true,
        ..Facts::default()
    };
    let user =
        Facts { undelegated: Layout::pure_v2(), euid: 1000, egid: 1000, rootless: true, ..Facts::default() };
    vec![
        (root(Layout::pure_v1()), Driver::Cgroupfs),
        (root(Layout::pure_v2()), Driver::Cgroupfs),
        (root(Layout::hybrid()), Driver::Cgroupfs),
        (root(Layout::pure_v2()), Driver::Systemd),
        (user, Driver::Cgroupfs),
    ]
});

/// What `exec` and `update` find: a container of the default document.
const DEFAULT: &[u8] = include_bytes!("../../plans/default.json");

/// What an error of the planner may begin with (config.md).
const PROPERTIES: [&str; 8] =
    ["process", "root", "hostname", "domainname", "mounts", "hooks", "annotations", "linux"];

/// config.json → plan, for several hosts.
pub fn config(bytes: &[u8]) {
    let spec = match spec::parse(bytes) {
        Ok(spec) => spec,
        Err(e) => return crate::one_line(&e),
    };
    for (facts, driver) in HOSTS.iter() {
        let console = if spec.process.as_ref().is_some_and(|p| p.terminal) {
            Console::Foreground
        } else {
            Console::None
        };
        let options = Options { console, driver: *driver, ..Options::default() };
        let bundle = Path::new("/bundle");
        let request = Request { id: "web", bundle, spec: &spec, facts, options: &options };
        let Some(plan) = twice(|| plan::create(&request)) else { continue };
        if let Err(e) = plan::outer(&plan) {
            names_a_property(&e);
        }
        check(&plan::restore(plan, Path::new("/usr/sbin/criu"), Path::new("/run/ampoule/web")).plan);
    }
    for kind in [HookKind::Poststart, HookKind::Poststop] {
        let _ = plan::hooks::of(&spec, kind).inspect_err(names_a_property);
    }
}

/// The process of `exec --process` → plan.
pub fn process(bytes: &[u8]) {
    let process = match spec::parse_process(bytes) {
        Ok(process) => process,
        Err(e) => return crate::one_line(&e),
    };
    let spec = default();
    for (facts, _) in HOSTS.iter() {
        let options = Options::default();
        twice(|| {
            plan::exec(&ExecRequest {
                id: "web",
                spec: &spec,
                process: &process,
                facts,
                options: &options,
                rootfs: Path::new("/bundle/rootfs"),
                init: 4711,
                into: Some("/sys/fs/cgroup/web".into()),
                enter: vec!["/sys/fs/cgroup/memory/web".into()],
            })
        });
    }
}

/// The limits of `update --resources` → plan.
pub fn resources(bytes: &[u8]) {
    let parsed = || spec::parse_resources(bytes);
    if let Err(e) = parsed() {
        return crate::one_line(&e);
    }
    let spec = default();
    for (facts, driver) in HOSTS.iter() {
        let options = Options { driver: *driver, ..Options::default() };
        let bundle = Path::new("/bundle");
        let created = plan::create(&Request { id: "web", bundle, spec: &spec, facts, options: &options });
        // Without rights there is no container of it to update.
        let Ok(created) = created else { continue };
        for total in [None, Some(-1), Some(1 << 30)] {
            let changes = Changes { resources: parsed().unwrap_or_default(), schemata: Vec::new() };
            let update = || plan::update(facts, "web", &spec, &created.recorded.cgroups, &changes, total);
            if let (Some(mut plan), Some(scope)) = (twice(update), &created.recorded.scope) {
                plan::systemd::set_properties(scope, &mut plan);
                check(&plan);
            }
        }
    }
}

fn default() -> Spec<'static> {
    spec::parse(DEFAULT).expect("the default document")
}

/// Planning knows nothing but what it is given.
fn twice(plan: impl Fn() -> anyhow::Result<Plan>) -> Option<Plan> {
    match (plan(), plan()) {
        (Ok(one), Ok(other)) => {
            assert_eq!(one, other);
            check(&one);
            Some(one)
        }
        (Err(e), Err(_)) => {
            names_a_property(&e);
            None
        }
        (one, other) => panic!("planned as {one:?} and as {other:?}"),
    }
}

/// An error is one line that begins with the JSON path of its cause.
fn names_a_property(error: &anyhow::Error) {
    let text = format!("{error:#}");
    crate::one_line(&text);
    let first = text.split(['.', '[', ':', ' ']).next().unwrap_or_default();
    assert!(PROPERTIES.contains(&first), "{text:?} names no property");
}

fn check(plan: &Plan) {
    assert!(!plan.to_string().contains('\0'));
    let json = serde_json::to_value(plan).expect("a plan as JSON");
    has_no_id_of_minus_one(&json);
    plan.init.iter().filter_map(path_of).for_each(is_clean);
    plan.warnings.iter().for_each(|warning| crate::one_line(warning));
    let dirs = plan.recorded.cgroups.iter().chain(&plan.recorded.rdt_groups);
    dirs.for_each(|dir| assert!(is_below(dir, "/sys/fs/"), "{} is the host's", dir.display()));
}

/// To setresuid(2) and chown(2) -1 means "as it is".
fn has_no_id_of_minus_one(value: &Value) {
    match value {
        Value::Object(all) => all.iter().for_each(|(key, value)| match (key.as_str(), value) {
            ("uid" | "gid", id) => assert_ne!(id, u32::MAX, "{key}"),
            ("inside" | "outside", first) => {
                let size = all.get("size").and_then(Value::as_u64);
                let end = first.as_u64().zip(size).map(|(first, size)| first + size);
                assert!(end.is_none_or(|end| end <= u32::MAX.into()), "{all:?}");
            }
            ("groups", Value::Array(ids)) => assert!(!ids.contains(&u32::MAX.into()), "{ids:?}"),
            _ => has_no_id_of_minus_one(value),
        }),
        Value::Array(all) => all.iter().for_each(has_no_id_of_minus_one),
        _ => {}
    }
}

/// Where in the container a step does something.
fn path_of(step: &InitStep) -> Option<&ContainerPath> {
    match step {
        InitStep::Rootfs(
            RootfsStep::Mount(Mount { target, .. })
            | RootfsStep::BindMount { target, .. }
            | RootfsStep::Remount { target, .. },
        ) => Some(target),
        InitStep::Rootfs(
            RootfsStep::Mknod { path, .. }
            | RootfsStep::BindDevice { path, .. }
            | RootfsStep::Symlink { path, .. }
            | RootfsStep::ReadonlyPath { path }
            | RootfsStep::MaskPath { path, .. }
            | RootfsStep::Mkdir { path, .. },
        )
        | InitStep::Payload(PayloadStep::Chdir { path }) => Some(path),
        _ => None,
    }
}

fn is_clean(path: &ContainerPath) {
    let text = path.as_str();
    let mut parts = text.strip_prefix('/').expect("an absolute path").split('/');
    assert!(text == "/" || parts.all(|part| !matches!(part, "" | "." | "..")), "{text:?}");
}

fn is_below(dir: &Path, top: &str) -> bool {
    dir.starts_with(top) && !dir.components().any(|part| part == Component::ParentDir)
}
