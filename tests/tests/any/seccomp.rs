//! `linux.seccomp`: what the filter does to the payload's system calls, seen from inside.

use ampoule_tests::{Bundle, Container, Runtime, SeccompAgent, ampoule_only, is_root, require, wait_for};
use serde_json::{Value, json};
use std::fs;

/// docker 20.10's default profile as it reaches a runtime on x86-64.
const DOCKER: &str = include_str!("../../../runtime/tests/seccomp/docker.json");
/// 128 + SIGSYS.
const KILLED: i32 = 128 + libc::SIGSYS;

/// A bundle that asks these questions under this profile.
fn under(seccomp: Value, questions: &[&str]) -> Bundle {
    Bundle::asking(questions).with(|c| c["linux"]["seccomp"] = seccomp)
}

/// A profile that allows all but what these rules speak of.
fn allowing_but(rules: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules })
}

/// Questions: `syscall NUMBER ARG…` for each of these.
fn calls(calls: &[(i64, &[u64])]) -> Vec<String> {
    let mut words = Vec::new();
    for (number, args) in calls {
        words.extend(["syscall".to_owned(), number.to_string()]);
        words.extend(args.iter().map(u64::to_string));
        words.push(",".to_owned());
    }
    words
}

/// What the calls get under the profile.
fn answers(seccomp: Value, asked: &[(i64, &[u64])]) -> Vec<Value> {
    let words = calls(asked);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Container::of(under(seccomp, &words)).run().ok().answers()
}

fn errno(name: &str) -> Value {
    json!({ "error": name })
}

#[test]
fn errno_is_the_rules_own_or_eperm() {
    let rules = json!([
        { "names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EDOM },
        { "names": ["getpgid"], "action": "SCMP_ACT_ERRNO" },
    ]);
    let asked: [(i64, &[u64]); 3] =
        [(libc::SYS_getppid, &[]), (libc::SYS_getpgid, &[0]), (libc::SYS_getsid, &[0])];
    assert_eq!(answers(allowing_but(rules), &asked), [errno("EDOM"), errno("EPERM"), json!(1)]);
}

#[test]
fn the_default_action_has_an_errno_of_its_own() {
    let mut profile: Value = serde_json::from_str(DOCKER).unwrap();
    profile["defaultErrnoRet"] = json!(libc::EDOM);
    let asked: [(i64, &[u64]); 2] = [(libc::SYS_bpf, &[0]), (libc::SYS_getppid, &[])];
    assert_eq!(answers(profile, &asked), [errno("EDOM"), json!(0)]);
}

#[test]
fn killing_and_trapping_actions_end_the_program_with_sigsys() {
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"] {
        let rules = json!([{ "names": ["getppid"], "action": action }]);
        let words = calls(&[(libc::SYS_getppid, &[])]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let outcome = Container::of(under(allowing_but(rules), &words)).run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (KILLED, ""), "{action}: {outcome}");
    }
}

#[test]
fn log_lets_pass_and_trace_without_a_tracer_is_enosys() {
    let rules = json!([
        { "names": ["getppid"], "action": "SCMP_ACT_LOG" },
        { "names": ["getpgid"], "action": "SCMP_ACT_TRACE" },
    ]);
    let asked: [(i64, &[u64]); 2] = [(libc::SYS_getppid, &[]), (libc::SYS_getpgid, &[0])];
    assert_eq!(answers(allowing_but(rules), &asked), [json!(0), errno("ENOSYS")]);
}

/// An operator, its value and `valueTwo`; arguments that it matches, and others.
type Comparison = (&'static str, u64, u64, &'static [u64], &'static [u64]);

/// getppid(2) looks at no argument, so that any may be given.
#[test]
fn arguments_are_compared_in_all_their_64_bits() {
    const BIG: u64 = 5 << 32 | 7;
    let cases: [Comparison; 7] = [
        ("EQ", BIG, 0, &[BIG], &[5, 7, BIG + 1, 4 << 32 | 7]),
        ("NE", BIG, 0, &[5, 7, BIG + 1], &[BIG]),
        ("LT", BIG, 0, &[0, 7, BIG - 1, 4 << 32 | 8], &[BIG, BIG + 1, u64::MAX]),
        ("LE", BIG, 0, &[0, 7, BIG], &[BIG + 1, 6 << 32]),
        ("GT", BIG, 0, &[BIG + 1, 6 << 32], &[0, 8, BIG]),
        ("GE", BIG, 0, &[BIG, u64::MAX], &[BIG - 1, 8]),
        (
            "MASKED_EQ",
            0xf0_0000_000f,
            0x50_0000_0007,
            &[0x5f_ffff_fff7, 0x50_0000_0007],
            &[7, 0x50_0000_0000],
        ),
    ];
    for (operator, value, two, matching, others) in cases {
        let test =
            json!({ "index": 1, "value": value, "valueTwo": two, "op": format!("SCMP_CMP_{operator}") });
        let rules = json!([
            { "names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EDOM, "args": [test] }
        ]);
        let given: Vec<[u64; 2]> = matching.iter().chain(others).map(|v| [9, *v]).collect();
        let asked: Vec<(i64, &[u64])> = given.iter().map(|args| (libc::SYS_getppid, &args[..])).collect();
        let mut wanted = vec![errno("EDOM"); matching.len()];
        wanted.resize(given.len(), json!(0));
        assert_eq!(answers(allowing_but(rules), &asked), wanted, "{operator}");
    }
}

#[test]
fn conditions_of_a_rule_all_hold_unless_they_are_about_one_argument() {
    let both = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 1, "value": 2, "op": "SCMP_CMP_EQ" }]);
    let either = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 2, "op": "SCMP_CMP_EQ" }]);
    let asked: [(i64, &[u64]); 4] = [
        (libc::SYS_getppid, &[1, 2]),
        (libc::SYS_getppid, &[1, 3]),
        (libc::SYS_getppid, &[2, 2]),
        (libc::SYS_getppid, &[3, 3]),
    ];
    for (args, wanted) in [(both, [true, false, false, false]), (either, [true, true, true, false])] {
        let rules = json!([{ "names": ["getppid"], "action": "SCMP_ACT_ERRNO", "args": args }]);
        let got = answers(allowing_but(rules), &asked);
        assert_eq!(got, wanted.map(|hit| if hit { errno("EPERM") } else { json!(0) }));
    }
}

#[test]
fn calls_that_are_newer_than_the_profile_do_not_exist() {
    let profile: Value = serde_json::from_str(DOCKER).unwrap();
    let asked: [(i64, &[u64]); 3] = [(libc::SYS_bpf, &[0]), (1000, &[]), (libc::SYS_getppid, &[])];
    assert_eq!(answers(profile, &asked), [errno("EPERM"), errno("ENOSYS"), json!(0)]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn other_architectures_are_filtered_when_listed_and_killed_when_not() {
    const GETPPID_32: &str = "64";
    let profile = |arches: Value| {
        let mut profile = allowing_but(json!([
            { "names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EDOM }
        ]));
        profile["architectures"] = arches;
        profile
    };
    let unfiltered = Container::of(Bundle::asking(&["syscall32", GETPPID_32])).run();
    require!(unfiltered.code == 0, "CONFIG_IA32_EMULATION");
    let x32 = ["syscall", &(0x4000_0000 | libc::SYS_getppid).to_string()].map(str::to_owned);
    let all = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    for question in [["syscall32", GETPPID_32], [&x32[0], &x32[1]]] {
        let listed = Container::of(under(profile(all.clone()), &question)).run().ok();
        assert_eq!(listed.answer(), errno("EDOM"), "{question:?}");
        let unlisted = Container::of(under(profile(json!([])), &question)).run();
        assert_eq!(unlisted.code, KILLED, "{question:?}: {unlisted}");
    }
}

#[test]
fn a_filter_needs_no_no_new_privileges_and_outlives_the_capabilities() {
    for no_new_privileges in [true, false] {
        for user in [false, true] {
            let mut bundle = under(serde_json::from_str(DOCKER).unwrap(), &["cat", "/proc/self/status"])
                .with(|c| {
                    c["process"]["noNewPrivileges"] = json!(no_new_privileges);
                    c["process"]["capabilities"] = json!({});
                    c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
                });
            if user {
                bundle = bundle.with_user_namespace();
            }
            let status = Container::of(bundle).run().ok().text();
            let has = |line: &str| status.lines().any(|l| l == line);
            assert!(has("Seccomp:\t2") && has("Seccomp_filters:\t1"), "{status}");
            assert!(has(&format!("NoNewPrivs:\t{}", u8::from(no_new_privileges))), "{status}");
            assert!(has("CapEff:\t0000000000000000"), "{status}");
        }
    }
}

#[test]
fn a_created_container_starts_under_its_filter() {
    for no_new_privileges in [true, false] {
        let rules = json!([{ "names": ["getpgid"], "action": "SCMP_ACT_ERRNO" }]);
        let number = libc::SYS_getpgid.to_string();
        let bundle = under(allowing_but(rules), &["syscall", &number, "0", ",", "sleep", "1000"]);
        let container =
            Container::of(bundle.with(|c| c["process"]["noNewPrivileges"] = json!(no_new_privileges)));
        container.create().ok();
        container.start().ok();
        let printed = container.bundle.beside("create.stdout");
        wait_for("the answer", || std::fs::read_to_string(&printed).unwrap().contains("EPERM"));
    }
}

/// Only what the program itself calls, and execve.
#[test]
fn a_profile_need_not_allow_what_the_runtime_does_before_exec() {
    ampoule_only!("runc, in Go, makes more calls between the filter and exec");
    let names = [
        "execve",
        "write",
        "exit_group",
        "brk",
        "mmap",
        "munmap",
        "rt_sigaction",
        "rt_sigprocmask",
        "arch_prctl",
        "set_tid_address",
        "sigaltstack",
        "poll",
        "ppoll",
        "mprotect",
        "getrandom",
        "gettid",
    ];
    let profile = json!({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
    });
    let container = Container::of(under(profile, &["args"]));
    assert_eq!(container.run().ok().answer(), json!(["/bin/probe", "args"]));
}

#[test]
fn unknown_names_are_skipped_and_told_under_debug() {
    let profile = allowing_but(json!([
        { "names": ["frobnicate", "getppid", "frobnicate"], "action": "SCMP_ACT_ERRNO" }
    ]));
    let number = libc::SYS_getppid.to_string();
    let container = Container::of(under(profile, &["syscall", &number]));
    container.bundle.write();
    let bundle = container.bundle.path().to_str().unwrap().to_owned();
    let outcome = container.call(&["--debug", "run", "--bundle", &bundle, &container.id]).ok();
    assert!(outcome.stdout.contains("EPERM"), "{outcome}");
    if Runtime::get().is_ampoule() {
        outcome.saying("install the seccomp filter").saying("without the unknown frobnicate)");
    }
}

#[test]
fn an_agent_answers_what_the_profile_leaves_to_it() {
    for no_new_privileges in [true, false] {
        let bundle = under(Value::Null, &["syscall", &libc::SYS_getpgid.to_string(), "0"]);
        let socket = bundle.beside("agent");
        let container = Container::of(bundle.with(|c| {
            c["process"]["noNewPrivileges"] = json!(no_new_privileges);
            c["annotations"] = json!({ "a": "b" });
            c["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": socket,
                "listenerMetadata": "whose \"it\" is",
                // The second is one that a runtime may need itself on its way to the program.
                "syscalls": [{ "names": ["getpgid", "sendmsg", "execve"], "action": "SCMP_ACT_NOTIFY" }],
            });
        }));
        let agent = SeccompAgent::answering(&socket, 1, 4242, &[libc::SYS_sendmsg, libc::SYS_execve]);
        let pid_file = container.bundle.beside("pid");
        let outcome = container.run_with(&["--pid-file", pid_file.to_str().unwrap()]).ok();
        assert_eq!(outcome.answer(), json!(4242));
        let state = agent.finish().remove(0);
        let pid: i32 = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
        assert_eq!((&state["fds"], &state["pid"]), (&json!(["seccompFd"]), &json!(pid)), "{state}");
        assert_eq!(state["metadata"], "whose \"it\" is", "{state}");
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{state}");
        let inner = &state["state"];
        assert_eq!((&inner["id"], &inner["status"]), (&json!(container.id), &json!("creating")), "{state}");
        assert_eq!((&inner["pid"], &inner["annotations"]["a"]), (&json!(pid), &json!("b")), "{state}");
    }
}

#[test]
fn exec_is_under_the_containers_filter_too() {
    for no_new_privileges in [true, false] {
        let rules = json!([{ "names": ["getpgid"], "action": "SCMP_ACT_ERRNO" }]);
        let bundle = Bundle::sleeping().with(|c| {
            c["process"]["noNewPrivileges"] = json!(no_new_privileges);
            c["linux"]["seccomp"] = allowing_but(rules);
        });
        let container = Container::of(bundle);
        container.launch();
        let number = libc::SYS_getpgid.to_string();
        let outcome = container.call(&["exec", &container.id, "/bin/probe", "syscall", &number, "0"]).ok();
        assert_eq!(outcome.answer(), errno("EPERM"));
    }
}

#[test]
fn an_agent_hears_of_exec_as_a_process_of_the_running_container() {
    // PR_SET_DUMPABLE, which CVE-2016-9962 asks for, and pidfd_getfd(2).
    let why = "the listener is taken out of a process that forbids that to all but root";
    require!(is_root(), "root", named why);
    let bundle = Bundle::sleeping();
    let socket = bundle.beside("agent");
    let container = Container::of(bundle.with(|c| {
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": socket,
            "syscalls": [{ "names": ["getpgid"], "action": "SCMP_ACT_NOTIFY" }],
        });
    }));
    let agent = SeccompAgent::answering(&socket, 2, 4242, &[]);
    container.launch();
    let init = container.pid();
    let number = libc::SYS_getpgid.to_string();
    let outcome = container.call(&["exec", &container.id, "/bin/probe", "syscall", &number, "0"]).ok();
    assert_eq!(outcome.answer(), json!(4242));
    container.kill("KILL").ok();
    let states = agent.finish();
    assert_eq!((&states[0]["pid"], &states[0]["state"]["status"]), (&json!(init), &json!("creating")));
    assert_eq!(
        (&states[1]["state"]["pid"], &states[1]["state"]["status"]),
        (&json!(init), &json!("running"))
    );
    assert!(states[1]["pid"].is_number() && states[1]["pid"] != json!(init), "{}", states[1]);
}

#[test]
fn nobody_inside_finds_the_listener() {
    require!(is_root(), "root", named "who looks at the descriptors of another user's process");
    let bundle = Bundle::sleeping();
    let socket = bundle.beside("agent");
    for privileges in [true, false] {
        let bundle = Bundle::sleeping().with(|c| {
            c["process"]["noNewPrivileges"] = json!(privileges);
            c["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": socket,
                "syscalls": [{ "names": ["getpgid"], "action": "SCMP_ACT_NOTIFY" }],
            });
        });
        let container = Container::of(bundle);
        let agent = SeccompAgent::answering(&socket, 1, 4242, &[]);
        container.create().ok();
        // Who could read it there could answer in the agent's place (pidfd_getfd(2)).
        for entry in fs::read_dir(format!("/proc/{}/fd", container.pid())).unwrap() {
            let link = fs::read_link(entry.unwrap().path()).unwrap_or_default();
            assert!(!link.display().to_string().contains("seccomp"), "{}", link.display());
        }
        container.delete_force().ok();
        agent.finish();
        fs::remove_file(&socket).unwrap();
    }
}

#[test]
fn without_an_agent_nothing_is_made() {
    let container = Container::of(Bundle::sleeping().with(|c| {
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": "/nobody/listens/here",
            "syscalls": [{ "names": ["getppid"], "action": "SCMP_ACT_NOTIFY" }],
        });
    }));
    let outcome = container.create().fails();
    if Runtime::get().is_ampoule() {
        outcome.saying("linux.seccomp.listenerPath: send the seccomp listener to /nobody/listens/here");
    }
    assert_eq!(container.leftovers(), [""; 0]);
}
