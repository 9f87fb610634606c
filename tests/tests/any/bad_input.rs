//! Bad values in config.json: the message names the file, the JSON path and the value, and nothing was made.

use ampoule_tests::{Bundle, Container, Runtime, is_root, require};
use serde_json::{Value, json};

/// A JSON pointer and what is put there (null removes it); what the message must name, in our words for
/// the path; and whether runc 1.1 refuses it too.
struct Case {
    pointer: &'static str,
    value: Value,
    named: &'static [&'static str],
    runc_refuses: bool,
}

fn case(pointer: &'static str, value: Value, named: &'static [&'static str]) -> Case {
    Case { pointer, value, named, runc_refuses: true }
}

/// One that runc 1.1 lets pass, or trips over later with words about something else.
fn strict(pointer: &'static str, value: Value, named: &'static [&'static str]) -> Case {
    Case { pointer, value, named, runc_refuses: false }
}

fn put(config: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a JSON pointer");
    let parent = config.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer} has no parent"));
    match (parent, value) {
        (Value::Array(list), value) => list[key.parse::<usize>().expect("an index")] = value,
        (parent, Value::Null) => drop(parent.as_object_mut().expect("an object").remove(key)),
        (parent, value) => parent[key] = value,
    }
}

fn check(cases: Vec<Case>) {
    let ours = Runtime::get().is_ampoule();
    for Case { pointer, value, named, runc_refuses } in cases {
        let container = Container::of(Bundle::sleeping().with(|c| put(c, pointer, value.clone())));
        let outcome = container.create();
        if !ours && !runc_refuses {
            continue;
        }
        assert_eq!(outcome.code, 1, "{pointer} = {value}: {outcome}");
        assert_eq!(container.leftovers(), [""; 0], "{pointer} = {value}");
        if ours {
            let file = container.bundle.beside("config.json");
            assert_eq!(outcome.stderr.lines().count(), 1, "one line for {pointer}: {outcome}");
            let mut outcome =
                outcome.saying(&format!("ampoule: create {}: {}: ", container.id, file.display()));
            for words in named {
                outcome = outcome.saying(words);
            }
        }
    }
}

#[test]
fn a_wrong_type_is_refused_wherever_it_stands() {
    check(vec![
        case("/ociVersion", json!(1), &["ociVersion", "string"]),
        case("/hostname", json!(5), &["hostname", "string"]),
        case("/root", json!("rootfs"), &["root", "\"rootfs\""]),
        case("/root/readonly", json!("yes"), &["root.readonly", "\"yes\"", "boolean"]),
        case("/process", json!([]), &["process"]),
        case("/process/args", json!("sh"), &["process.args", "\"sh\""]),
        case("/process/args/0", json!(7), &["process.args[0]", "7", "string"]),
        case("/process/env/0", json!({}), &["process.env[0]", "string"]),
        case("/process/terminal", json!("yes"), &["process.terminal", "\"yes\"", "boolean"]),
        case("/process/cwd", json!(["/"]), &["process.cwd"]),
        case("/process/user/uid", json!("root"), &["process.user.uid", "\"root\""]),
        case("/process/user/uid", json!(-1), &["process.user.uid", "-1"]),
        case("/process/user/uid", json!(4_294_967_296u64), &["process.user.uid", "4294967296"]),
        case("/process/user/gid", json!(1.5), &["process.user.gid", "1.5"]),
        case("/process/rlimits", json!({}), &["process.rlimits"]),
        case("/process/rlimits/0/hard", json!("lots"), &["process.rlimits[0].hard", "\"lots\""]),
        case("/process/rlimits/0/soft", json!(-1), &["process.rlimits[0].soft", "-1"]),
        case("/process/capabilities/bounding", json!("all"), &["process.capabilities.bounding", "\"all\""]),
        case("/process/noNewPrivileges", json!(1), &["process.noNewPrivileges", "1", "boolean"]),
        case("/mounts", json!({}), &["mounts"]),
        case("/mounts/3/options", json!("ro"), &["mounts[3].options", "\"ro\""]),
        case("/mounts/2/destination", json!(2), &["mounts[2].destination", "2", "string"]),
        case("/linux", json!([]), &["linux"]),
        case("/linux/namespaces", json!("all"), &["linux.namespaces", "\"all\""]),
        case("/linux/namespaces/1/type", json!(3), &["linux.namespaces[1].type", "3"]),
        case("/linux/maskedPaths/0", json!(false), &["linux.maskedPaths[0]", "string"]),
        case(
            "/linux/resources/memory",
            json!({ "limit": "64M" }),
            &["linux.resources.memory.limit", "\"64M\""],
        ),
        case("/linux/resources/pids", json!({ "limit": "x" }), &["linux.resources.pids.limit", "\"x\""]),
        case("/linux/resources/cpu", json!({ "shares": -2 }), &["linux.resources.cpu.shares", "-2"]),
        case(
            "/linux/sysctl",
            json!({ "net.ipv4.ip_forward": 1 }),
            &["linux.sysctl", "net.ipv4.ip_forward", "string"],
        ),
        case("/hooks", json!({ "prestart": {} }), &["hooks.prestart"]),
        case("/hooks", json!({ "poststop": [{ "path": 1 }] }), &["hooks.poststop[0].path", "1", "string"]),
        case("/annotations", json!({ "key": 1 }), &["annotations", "key", "string"]),
    ]);
}

#[test]
fn what_is_missing_is_named() {
    check(vec![
        strict("/ociVersion", json!(null), &["ociVersion", "missing"]),
        strict("/process", json!(null), &["process", "missing"]),
        case("/process/args", json!(null), &["process.args"]),
        case("/process/args", json!([]), &["process.args"]),
        case("/process/cwd", json!(null), &["process.cwd"]),
        case("/root", json!(null), &["root"]),
        strict("/mounts/0/destination", json!(null), &["mounts[0].destination", "missing"]),
        case("/linux/namespaces/1/type", json!(""), &["linux.namespaces[1].type"]),
        strict("/hooks", json!({ "createRuntime": [{}] }), &["hooks.createRuntime[0].path"]),
        strict(
            "/linux/devices",
            json!([{ "path": "/dev/x", "type": "c", "minor": 1 }]),
            &["linux.devices[0].major"],
        ),
    ]);
}

#[test]
fn a_value_that_means_nothing_is_refused() {
    let device = |kind: &str, path: &str| json!([{ "path": path, "type": kind, "major": 1, "minor": 1 }]);
    check(vec![
        strict("/ociVersion", json!("2.0.0"), &["ociVersion", "\"2.0.0\"", "expected"]),
        case("/process/cwd", json!("relative"), &["process.cwd", "\"relative\"", "absolute"]),
        case(
            "/process/rlimits/0/type",
            json!("RLIMIT_JOY"),
            &["process.rlimits[0].type", "RLIMIT_JOY", "expected"],
        ),
        case("/process/rlimits/0/soft", json!(4096), &["process.rlimits[0].soft", "4096", "1024"]),
        strict("/process/oomScoreAdj", json!(5000), &["process.oomScoreAdj", "5000", "1000"]),
        strict("/process/user/umask", json!(0o10000), &["process.user.umask", "expected"]),
        // To setresuid(2) and chown(2) -1 means "as it is": such a user would be root.
        strict("/process/user/uid", json!(u32::MAX), &["process.user.uid", "4294967295", "expected"]),
        strict("/process/user/gid", json!(u32::MAX), &["process.user.gid", "4294967295", "expected"]),
        strict(
            "/process/user/additionalGids",
            json!([7, u32::MAX]),
            &["process.user.additionalGids[1]", "4294967295", "expected"],
        ),
        strict(
            "/linux/devices",
            json!([{ "path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": u32::MAX }]),
            &["linux.devices[0].uid", "4294967295", "expected"],
        ),
        case("/process/env/1", json!("NO_EQUALS_SIGN"), &["process.env[1]", "NO_EQUALS_SIGN", "NAME=value"]),
        strict("/process/args/0", json!("a\u{0}b"), &["process.args[0]", "NUL"]),
        strict("/hostname", json!("a\u{0}b"), &["hostname", "NUL"]),
        strict("/linux/resources/cpu", json!({ "cpus": "0\u{0}-3" }), &["linux.resources.cpu.cpus", "NUL"]),
        case("/linux/namespaces/1/type", json!("quantum"), &["linux.namespaces[1].type", "quantum"]),
        case("/linux/namespaces/1/type", json!("pid"), &["linux.namespaces[1].type", "pid", "twice"]),
        strict(
            "/linux/namespaces/1/path",
            json!("relative"),
            &["linux.namespaces[1].path", "\"relative\"", "absolute"],
        ),
        case(
            "/linux/rootfsPropagation",
            json!("sideways"),
            &["linux.rootfsPropagation", "sideways", "expected"],
        ),
        case("/linux/devices", device("x", "/dev/x"), &["linux.devices[0].type", "\"x\"", "expected"]),
        strict("/linux/devices", device("c", "dev/x"), &["linux.devices[0].path", "dev/x", "absolute"]),
        case("/linux/resources/devices/0/type", json!("z"), &["linux.resources.devices[0].type", "\"z\""]),
        strict(
            "/linux/resources/devices/0/access",
            json!("rwx"),
            &["linux.resources.devices[0].access", "rwx"],
        ),
        strict(
            "/linux/maskedPaths/1",
            json!("relative"),
            &["linux.maskedPaths[1]", "\"relative\"", "absolute"],
        ),
        strict(
            "/linux/readonlyPaths/1",
            json!("relative"),
            &["linux.readonlyPaths[1]", "\"relative\"", "absolute"],
        ),
        case("/linux/sysctl", json!({ "vm.swappiness": "1" }), &["linux.sysctl", "vm.swappiness"]),
        strict(
            "/hooks",
            json!({ "prestart": [{ "path": "hook" }] }),
            &["hooks.prestart[0].path", "\"hook\"", "absolute"],
        ),
        strict(
            "/hooks",
            json!({ "prestart": [{ "path": "/bin/true", "timeout": -1 }] }),
            &["hooks.prestart[0].timeout", "-1"],
        ),
        strict("/linux/cgroupsPath", json!("/"), &["linux.cgroupsPath", "\"/\""]),
    ]);
}

#[test]
fn what_the_host_would_suffer_from_is_refused() {
    require!(is_root(), "root", named "an ordinary user without a user namespace is refused before");
    check(vec![
        strict(
            "/linux/timeOffsets",
            json!({ "monotonic": { "secs": 1 } }),
            &["linux.timeOffsets", "time namespace"],
        ),
        case("/linux/namespaces", json!([{ "type": "mount" }]), &["hostname", "uts namespace"]),
        strict("/linux/namespaces", json!([{ "type": "pid" }, { "type": "uts" }]), &["mount namespace"]),
        strict(
            "/linux/uidMappings",
            json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]),
            &["linux.uidMappings", "user namespace"],
        ),
    ]);
}

#[test]
fn unknown_properties_are_ignored_everywhere() {
    let bundle = Bundle::asking(&["cwd"]).with(|c| {
        for pointer in ["", "/process", "/process/user", "/root", "/linux", "/linux/resources", "/mounts/0"] {
            c.pointer_mut(pointer).unwrap()["org.example.future"] = json!({ "any": ["thing", 1, null] });
        }
        c["windows"] = json!({ "layerFolders": ["C:\\"] });
    });
    assert_eq!(Container::of(bundle).run().ok().answer(), "/");
}

#[test]
fn an_unknown_capability_is_left_out_with_a_warning() {
    // The spec: "any value which cannot be mapped to a relevant kernel interface ... MUST be logged as a warning".
    let bundle = Bundle::asking(&["cwd"]).with(|c| {
        c["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_TIME_TRAVEL"));
    });
    let outcome = Container::of(bundle).run().ok();
    assert!(outcome.stderr.contains("CAP_TIME_TRAVEL"), "{outcome}");
}

#[test]
fn null_is_as_good_as_absent() {
    // Engines written in Go write null for what is empty.
    let bundle = Bundle::asking(&["cwd"]).with(|c| {
        c["hooks"] = Value::Null;
        c["annotations"] = Value::Null;
        c["process"]["rlimits"] = Value::Null;
        c["linux"]["devices"] = Value::Null;
        c["linux"]["sysctl"] = Value::Null;
        c["mounts"][0]["options"] = Value::Null;
    });
    assert_eq!(Container::of(bundle).run().ok().answer(), "/");
}

#[test]
fn what_no_seccomp_profile_can_hold_is_refused() {
    let rule = |rule: Value| json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_LOG" }, rule] });
    let test = |test: Value| rule(json!({ "names": ["getpid"], "action": "SCMP_ACT_LOG", "args": [test] }));
    let at = "/linux/seccomp";
    check(vec![
        case(at, json!("default"), &["linux.seccomp", "expected"]),
        case(
            at,
            json!({ "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW" }] }),
            &["linux.seccomp.defaultAction: missing"],
        ),
        case(
            at,
            json!({ "defaultAction": "SCMP_ACT_MAYBE" }),
            &["linux.seccomp.defaultAction", "SCMP_ACT_MAYBE", "expected one of SCMP_ACT_ALLOW"],
        ),
        case(
            at,
            json!({ "defaultAction": "SCMP_ACT_NOTIFY" }),
            &["linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY"],
        ),
        strict(
            at,
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1 }),
            &["linux.seccomp.defaultErrnoRet", "SCMP_ACT_ALLOW"],
        ),
        strict(
            at,
            json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 65536 }),
            &["linux.seccomp.defaultErrnoRet: 65536"],
        ),
        case(
            at,
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"] }),
            &["linux.seccomp.architectures[0]", "PDP11", "SCMP_ARCH_X86_64"],
        ),
        case(
            at,
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NONE"] }),
            &["linux.seccomp.flags[0]", "SECCOMP_FILTER_FLAG_LOG"],
        ),
        case(
            at,
            rule(json!({ "names": ["getpid"], "action": "SCMP_ACT_HIDE" })),
            &["linux.seccomp.syscalls[1].action", "SCMP_ACT_HIDE"],
        ),
        strict(
            at,
            rule(json!({ "names": ["getpid"], "action": "SCMP_ACT_KILL", "errnoRet": 1 })),
            &["linux.seccomp.syscalls[1].errnoRet"],
        ),
        case(
            at,
            rule(json!({ "names": [""], "action": "SCMP_ACT_KILL" })),
            &["linux.seccomp.syscalls[1].names[0]: is empty"],
        ),
        case(
            at,
            rule(json!({ "names": ["write"], "action": "SCMP_ACT_NOTIFY" })),
            &["linux.seccomp.syscalls[1].names[0]", "write"],
        ),
        strict(
            at,
            rule(json!({ "names": ["getpid"], "action": "SCMP_ACT_NOTIFY" })),
            &["linux.seccomp.listenerPath: missing"],
        ),
        case(
            at,
            test(json!({ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" })),
            &["linux.seccomp.syscalls[1].args[0].index: 6, expected 0 to 5"],
        ),
        case(
            at,
            test(json!({ "index": 0, "value": 0, "op": "SCMP_CMP_FOO" })),
            &["linux.seccomp.syscalls[1].args[0].op: \"SCMP_CMP_FOO\", expected one of SCMP_CMP_NE"],
        ),
        case(
            at,
            test(json!({ "index": 0, "value": -1, "op": "SCMP_CMP_EQ" })),
            &["linux.seccomp.syscalls[1].args[0].value", "u64"],
        ),
    ]);
}

#[test]
fn a_name_with_a_newline_or_an_escape_does_not_break_the_line() {
    check(vec![
        case("/linux/namespaces/0/type", json!("p\nid"), &["linux.namespaces[0].type", "`p\\nid`"]),
        case("/root/path", json!("no\n\u{1b}[2Jwhere"), &["root.path", "no\\n\\u{1b}[2Jwhere"]),
    ]);
}
