//! Who the container's process is: ids, capabilities, limits, keyring.

use ampoule_tests::{Bundle, Container, can_raise_limits, deny_syscall, field, is_root, require};
use nix::errno::Errno;
use serde_json::{Value, json};

/// Runs a process with this change of `process`, and returns its `/proc/self/status`.
fn status_with(edit: impl FnOnce(&mut Value)) -> String {
    let bundle = Bundle::asking(&["cat", "/proc/self/status"]).with(|c| edit(&mut c["process"]));
    Container::of(bundle).run().ok().text()
}

fn mask(status: &str, set: &str) -> u64 {
    u64::from_str_radix(&field(status, set), 16).expect("a hex mask")
}

/// Bits of the capabilities that these tests give.
const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;
const SETUID: u64 = 1 << 7;
const NET_BIND_SERVICE: u64 = 1 << 10;
const SYS_CHROOT: u64 = 1 << 18;

#[test]
fn uid_and_gid_are_the_configured_ones_in_all_four_places() {
    let status = status_with(|p| p["user"] = json!({ "uid": 1000, "gid": 2000 }));
    assert_eq!(field(&status, "Uid"), "1000 1000 1000 1000");
    assert_eq!(field(&status, "Gid"), "2000 2000 2000 2000");
}

#[test]
fn additional_gids_replace_the_runtimes_groups() {
    let status = status_with(|p| p["user"] = json!({ "uid": 0, "gid": 0, "additionalGids": [5, 4242] }));
    assert_eq!(field(&status, "Groups"), "5 4242");
}

#[test]
fn no_additional_gids_mean_no_supplementary_groups_at_all() {
    assert_eq!(field(&status_with(|_| ()), "Groups"), "");
}

#[test]
fn umask_is_set_before_the_program_runs() {
    let status = status_with(|p| p["user"]["umask"] = json!(0o077));
    assert_eq!(field(&status, "Umask"), "0077");
}

#[test]
fn umask_is_022_when_none_is_asked_for() {
    assert_eq!(field(&status_with(|_| ()), "Umask"), "0022");
}

#[test]
fn each_of_the_five_capability_sets_is_its_own() {
    let status = status_with(|p| {
        p["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"],
            "effective": ["CAP_KILL", "CAP_SETUID"],
            "inheritable": ["CAP_CHOWN", "CAP_KILL"],
            "ambient": ["CAP_KILL"],
        });
        // Root gains its whole bounding set on exec; anyone else keeps only what the sets say.
        p["user"] = json!({ "uid": 1000, "gid": 1000 });
    });
    assert_eq!(mask(&status, "CapBnd"), CHOWN | KILL | SETUID | NET_BIND_SERVICE | SYS_CHROOT);
    assert_eq!(mask(&status, "CapInh"), CHOWN | KILL);
    assert_eq!(mask(&status, "CapAmb"), KILL);
    // For a file without capabilities, exec leaves P'(permitted) = P'(effective) = P(ambient): capabilities(7).
    assert_eq!(mask(&status, "CapPrm"), KILL);
    assert_eq!(mask(&status, "CapEff"), KILL);
}

#[test]
fn root_has_the_bounding_set_and_nothing_inheritable_or_ambient_unless_asked() {
    let status = status_with(|p| {
        p["capabilities"] =
            json!({ "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"] });
    });
    assert_eq!(mask(&status, "CapPrm"), KILL);
    assert_eq!(mask(&status, "CapEff"), KILL);
    assert_eq!(mask(&status, "CapBnd"), KILL);
    // CVE-2022-29162, CVE-2022-24769.
    assert_eq!(mask(&status, "CapInh"), 0);
    assert_eq!(mask(&status, "CapAmb"), 0);
}

#[test]
fn empty_capability_sets_leave_root_without_any() {
    let status =
        status_with(|p| p["capabilities"] = json!({ "bounding": [], "permitted": [], "effective": [] }));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(mask(&status, set), 0, "{set}");
    }
}

#[test]
fn an_ordinary_user_keeps_no_capability_that_is_not_ambient() {
    let status = status_with(|p| {
        p["user"] = json!({ "uid": 1000, "gid": 1000 });
        p["capabilities"]["ambient"] = json!([]);
    });
    assert_eq!(mask(&status, "CapEff"), 0);
    assert_eq!(mask(&status, "CapPrm"), 0);
}

#[test]
fn no_new_privileges_is_set_when_asked() {
    assert_eq!(field(&status_with(|p| p["noNewPrivileges"] = json!(true)), "NoNewPrivs"), "1");
}

#[test]
fn no_new_privileges_is_not_set_when_not_asked() {
    assert_eq!(field(&status_with(|p| p["noNewPrivileges"] = json!(false)), "NoNewPrivs"), "0");
}

/// The soft and hard limit of a line of `/proc/self/limits`.
fn limit(text: &str, name: &str) -> (String, String) {
    let line =
        text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().expect("a soft limit"), words.next().expect("a hard limit"))
}

#[test]
fn every_resource_limit_is_set_soft_and_hard() {
    let kinds = [
        ("RLIMIT_CPU", "Max cpu time", 1000u64, 2000u64),
        ("RLIMIT_FSIZE", "Max file size", 1 << 30, 1 << 31),
        ("RLIMIT_DATA", "Max data size", 1 << 30, 1 << 31),
        ("RLIMIT_STACK", "Max stack size", 1 << 20, 1 << 22),
        ("RLIMIT_CORE", "Max core file size", 0, 4096),
        ("RLIMIT_RSS", "Max resident set", 1 << 30, 1 << 31),
        ("RLIMIT_NPROC", "Max processes", 500, 1000),
        ("RLIMIT_NOFILE", "Max open files", 100, 200),
        ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
        ("RLIMIT_AS", "Max address space", 1 << 32, 1 << 33),
        ("RLIMIT_LOCKS", "Max file locks", 10, 20),
        ("RLIMIT_SIGPENDING", "Max pending signals", 10, 20),
        ("RLIMIT_MSGQUEUE", "Max msgqueue size", 1000, 2000),
        ("RLIMIT_NICE", "Max nice priority", 0, 0),
        ("RLIMIT_RTPRIO", "Max realtime priority", 0, 0),
        ("RLIMIT_RTTIME", "Max realtime timeout", 1000, 2000),
    ];
    // Some callers, sudo among them, have no core limit to give.
    let own = std::fs::read_to_string("/proc/self/limits").unwrap();
    let granted = |(_, name, _, hard): &(&str, &str, u64, u64)| {
        can_raise_limits()
            || limit(&own, name).1.parse().is_ok_and(|own: u64| *hard <= own)
            || limit(&own, name).1 == "unlimited"
    };
    let kinds: Vec<_> = kinds.into_iter().filter(granted).collect();
    assert!(kinds.len() > 12, "{own}");
    let limits: Vec<_> = kinds
        .iter()
        .map(|(kind, _, soft, hard)| json!({ "type": kind, "soft": soft, "hard": hard }))
        .collect();
    let bundle =
        Bundle::asking(&["cat", "/proc/self/limits"]).with(|c| c["process"]["rlimits"] = json!(limits));
    let text = Container::of(bundle).run().ok().text();
    for (_, name, soft, hard) in kinds {
        assert_eq!(limit(&text, name), (soft.to_string(), hard.to_string()), "{name}");
    }
}

#[test]
fn a_hard_limit_can_be_raised_by_a_runtime_that_may() {
    require!(can_raise_limits(), "CAP_SYS_RESOURCE", named "the root of a CI container rarely has it");
    let bundle = Bundle::asking(&["cat", "/proc/self/limits"]).with(|c| {
        c["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1_048_576 }]);
    });
    let text = Container::of(bundle).run().ok().text();
    assert_eq!(limit(&text, "Max open files"), ("1024".into(), "1048576".into()));
}

#[test]
fn a_limit_of_few_open_files_is_in_the_way_of_nothing() {
    let bundle = || {
        Bundle::asking(&["cat", "/proc/self/limits"])
            .with(|c| c["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 10, "hard": 10 }]))
    };
    let few = ("10".into(), "10".into());
    assert_eq!(limit(&Container::of(bundle()).run().ok().text(), "Max open files"), few);
    let container = Container::of(bundle());
    container.launch();
    container.wait_status("stopped");
    assert_eq!(limit(&container.output().text(), "Max open files"), few);
}

#[test]
fn oom_score_adj_is_written() {
    let bundle = Bundle::asking(&["cat", "/proc/self/oom_score_adj"])
        .with(|c| c["process"]["oomScoreAdj"] = json!(123));
    assert_eq!(Container::of(bundle).run().ok().text(), "123\n");
}

#[test]
fn oom_score_adj_can_be_negative() {
    require!(can_raise_limits(), "CAP_SYS_RESOURCE", named "the root of a CI container rarely has it");
    let bundle = Bundle::asking(&["cat", "/proc/self/oom_score_adj"])
        .with(|c| c["process"]["oomScoreAdj"] = json!(-100));
    assert_eq!(Container::of(bundle).run().ok().text(), "-100\n");
}

/// `/proc/keys` as the process sees it, after `run` with these flags.
fn keys(flags: &[&str]) -> (String, String) {
    let bundle = Bundle::asking(&["cat", "/proc/keys"]).with(|c| c["linux"]["maskedPaths"] = json!([]));
    let container = Container::of(bundle);
    (container.run_with(flags).ok().text(), format!("_ses.{}", container.id))
}

#[test]
fn the_container_gets_a_session_keyring_of_its_own() {
    let (text, name) = keys(&[]);
    assert!(text.contains(&name), "no keyring {name} in {text}");
}

#[test]
fn no_new_keyring_keeps_the_callers_session_keyring() {
    let (text, name) = keys(&["--no-new-keyring"]);
    assert!(!text.contains(&name), "a keyring {name} in {text}");
}

/// Whatever the kernel's reason: what stays in the bounding set may come back with the next set-uid program.
#[test]
fn a_capability_that_cannot_be_dropped_is_an_error() {
    require!(is_root(), "root", named "newuidmap gets no rights from its owner below a filter of the user's");
    for errno in [Errno::EPERM, Errno::EINVAL] {
        let container = Container::of(Bundle::asking(&["cwd"]));
        let mut command = container.command(&container.args_for("run", &[]));
        deny_syscall(&mut command, libc::SYS_prctl, Some(libc::PR_CAPBSET_DROP as u32), errno);
        container.spawn(command, "run").finish().fails().saying(&format!("{errno:?}"));
        assert_eq!(container.leftovers(), [""; 0]);
    }
}
