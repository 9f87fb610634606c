//! [`require!`](crate::require): what a test needs of the machine or the runtime. Where it lacks, the test is skipped, loudly.

use crate::cgroup::mount_of;
use crate::{Runtime, conformance, place};
use std::io::Write;

/// Ends the test as skipped unless the condition holds.
///
/// ```ignore
/// require!(has_cgroup_v1("memory"), "the v1 memory controller");
/// require!(can_raise_limits(), "CAP_SYS_RESOURCE", named "containers as CI machines rarely have it");
/// require!(Runtime::get().is_ampoule(), "time namespaces", named "runc 1.1 knows none");
/// ```
///
/// A skip goes to stderr and to the file that `SKIPS` names. With `STRICT=1` it is a failure, unless the
/// test names why the machine cannot.
#[macro_export]
macro_rules! require {
    ($condition:expr, $what:expr) => {
        if !$crate::met($condition, $what, None) {
            return;
        }
    };
    ($condition:expr, $what:expr, named $why:expr) => {
        if !$crate::met($condition, $what, Some($why)) {
            return;
        }
    };
}

/// Ends the test as skipped for every runtime but ours, because of `why` (which must be a fact about them).
#[macro_export]
macro_rules! ampoule_only {
    ($why:expr) => {
        if !$crate::met($crate::Runtime::get().is_ampoule(), "ampoule", Some($why)) {
            return;
        }
    };
}

/// What [`require!`] does: `true` when the condition holds, a recorded skip or a panic when not.
pub fn met(condition: bool, what: &str, named: Option<&str>) -> bool {
    if condition {
        return true;
    }
    let strict = std::env::var("STRICT").is_ok_and(|v| v == "1");
    assert!(
        !strict || named.is_some(),
        "STRICT: this test needs {what}, and does not say why a machine may lack it"
    );
    assert_unclaimed();
    let test = std::env::var("NEXTEST_TEST_NAME")
        .unwrap_or_else(|_| std::thread::current().name().unwrap_or("a test").to_owned());
    let why = named.map(|why| format!(": {why}")).unwrap_or_default();
    let line = format!("SKIP {test}: needs {what}{why}\n");
    eprint!("{line}");
    if let Ok(path) = std::env::var("SKIPS") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut f| f.write_all(line.as_bytes()))
            .unwrap_or_else(|e| panic!("record the skip in {path}: {e}"));
    }
    false
}

/// A skip where `docs/conformance.md` says that the test runs is a failure. Only the test machine's places are what
/// they are: a host may be anything.
fn assert_unclaimed() {
    let place = place();
    if place == "host" || !Runtime::get().is_ampoule() {
        return;
    }
    // As the runner runs them: PROGRAM --exact FILE::NAME.
    let args: Vec<String> = std::env::args().collect();
    let test = args.iter().skip_while(|arg| *arg != "--exact").nth(1).map_or("", |name| name.as_str());
    assert!(!conformance::claims(test, &place), "docs/conformance.md says that {test} runs in {place}");
}

/// Whether hard limits may be raised and scores lowered: CAP_SYS_RESOURCE (24) is effective.
pub fn can_raise_limits() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("read own status");
    u64::from_str_radix(&crate::field(&status, "CapEff"), 16).expect("CapEff is hex") & (1 << 24) != 0
}

/// Why a test of v1 can't say anything where there is none. `any/place.rs` wants v1 where it must be.
pub const ON_V2: &str = "this host has cgroup v2 alone";

/// Why a test of a v2 controller can't say anything where v1 has it.
pub const ON_V1: &str = "this host has given it to cgroup v1";

/// Whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Why a test that makes a host with v2 alone skips itself where there is one: the same test of the host as it is runs there.
pub const TESTED_ON_V2: &str =
    "this host has cgroup v2 alone, where the test of the host as it is says the same";

/// Why an ordinary user's container can't do without a pid namespace.
pub const NO_PROC: &str = "the kernel gives an ordinary user a proc only for a pid namespace of their own";

/// Why an ordinary user's container joins no other's namespaces.
pub const FOREIGN_NAMESPACES: &str =
    "a new user namespace has no rights over namespaces that are not its own";

/// Why an ordinary user can't prepare the host for a test.
pub const NO_MOUNTS: &str = "an ordinary user mounts nothing on the host";

/// Whether the host has cgroup v2 and nothing else.
pub fn has_only_cgroup_v2() -> bool {
    crate::mountinfo().iter().all(|m| m.kind != "cgroup")
}

/// Whether a v1 hierarchy with this controller is mounted.
pub fn has_cgroup_v1(controller: &str) -> bool {
    crate::mountinfo().iter().any(|m| m.kind == "cgroup" && m.super_options.contains(controller))
}

/// Whether the top of a controller's v1 hierarchy has such a file.
pub fn has_cgroup_v1_file(controller: &str, file: &str) -> bool {
    has_cgroup_v1(controller) && mount_of(controller).is_some_and(|top| top.join(file).exists())
}

/// Whether the v2 hierarchy has this controller to give: to an ordinary user, where it is delegated to them.
pub fn has_cgroup_v2_controller(controller: &str) -> bool {
    let top = if is_root() {
        mount_of("")
    } else {
        Some(crate::Cgroups::of(std::process::id() as i32).dir("").to_owned())
    };
    let list = top.and_then(|top| std::fs::read_to_string(top.join("cgroup.controllers")).ok());
    list.unwrap_or_default().split_whitespace().any(|c| c == controller)
}
