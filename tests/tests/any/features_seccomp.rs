//! `features`, `linux.seccomp`: every word of every list does what it says.

use ampoule_tests::{Bundle, Container, SeccompAgent, ampoule_only};
use serde_json::{Value, json};

const WHY: &str = "each runtime has features of its own";
/// 128 + SIGSYS.
const KILLED: i32 = 128 + libc::SIGSYS;

/// The words of one of the lists.
fn listed(name: &str) -> Vec<String> {
    let container = Container::of(Bundle::sleeping());
    let features: Value = serde_json::from_str(&container.call(&["features"]).ok().stdout).unwrap();
    let list = features["linux"]["seccomp"][name].as_array().expect("a list").clone();
    list.into_iter().map(|word| word.as_str().expect("a word").to_owned()).collect()
}

/// A container that calls getppid(2) with an argument, which that call ignores, under a profile.
fn calling(argument: u64, profile: Value) -> Container {
    let (number, argument) = (libc::SYS_getppid.to_string(), argument.to_string());
    Container::of(Bundle::asking(&["syscall", &number, &argument]).with(|c| c["linux"]["seccomp"] = profile))
}

fn but_for_getppid(action: &str) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["getppid"], "action": action }] })
}

#[test]
fn every_action_that_is_listed_is_taken() {
    ampoule_only!(WHY);
    let (passes, refused) = (json!(0), |errno: &str| json!({ "error": errno }));
    let actions = listed("actions");
    assert!(actions.len() >= 9, "{actions:?}");
    for action in actions {
        let container = calling(0, but_for_getppid(&action));
        let answer = match action.as_str() {
            "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" => passes.clone(),
            "SCMP_ACT_ERRNO" => refused("EPERM"),
            // There is no tracer.
            "SCMP_ACT_TRACE" => refused("ENOSYS"),
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" | "SCMP_ACT_KILL_PROCESS" | "SCMP_ACT_TRAP" => {
                let outcome = container.run();
                assert_eq!((outcome.code, &*outcome.stdout), (KILLED, ""), "{action}: {outcome}");
                continue;
            }
            "SCMP_ACT_NOTIFY" => {
                let mut container = container;
                let socket = container.bundle.beside("agent");
                container.bundle.config["linux"]["seccomp"]["listenerPath"] = json!(socket);
                let agent = SeccompAgent::answering(&socket, 1, 4242, &[]);
                assert_eq!(container.run().ok().answer(), 4242);
                agent.finish();
                continue;
            }
            other => panic!("{other} is listed, and this test knows nothing of it"),
        };
        assert_eq!(container.run().ok().answer(), answer, "{action}");
    }
}

#[test]
fn every_operator_that_is_listed_compares() {
    ampoule_only!(WHY);
    let operators = listed("operators");
    assert_eq!(operators.len(), 7, "{operators:?}");
    for operator in operators {
        // An argument that matches 6, and one that doesn't.
        let (matching, other) = match operator.as_str() {
            "SCMP_CMP_NE" => (7, 6),
            "SCMP_CMP_LT" => (5, 6),
            "SCMP_CMP_LE" => (6, 7),
            "SCMP_CMP_EQ" => (6, 5),
            "SCMP_CMP_GE" => (6, 5),
            "SCMP_CMP_GT" => (7, 6),
            // Of the bits of 6 those of 2.
            "SCMP_CMP_MASKED_EQ" => (0b1010, 0b1110),
            other => panic!("{other} is listed, and this test knows nothing of it"),
        };
        let mut profile = but_for_getppid("SCMP_ACT_ERRNO");
        profile["syscalls"][0]["args"] = json!([{ "index": 0, "value": 6, "valueTwo": 2, "op": operator }]);
        let answer = |argument| calling(argument, profile.clone()).run().ok().answer();
        assert_eq!(answer(matching), json!({ "error": "EPERM" }), "{operator}");
        assert_eq!(answer(other), 0, "{operator}");
    }
}

#[test]
fn every_architecture_that_is_listed_is_known() {
    ampoule_only!(WHY);
    let arches = listed("archs");
    for one in arches.iter().map(|arch| json!([arch])).chain([json!(arches)]) {
        let mut profile = but_for_getppid("SCMP_ACT_ERRNO");
        profile["architectures"] = one.clone();
        assert_eq!(calling(0, profile).run().ok().answer(), json!({ "error": "EPERM" }), "{one}");
    }
    let mut profile = but_for_getppid("SCMP_ACT_ERRNO");
    profile["architectures"] = json!(["SCMP_ARCH_ABACUS"]);
    calling(0, profile).run().fails().saying("linux.seccomp.architectures[0]");
}

#[test]
fn every_flag_that_is_listed_as_supported_is_taken() {
    ampoule_only!(WHY);
    let (known, supported) = (listed("knownFlags"), listed("supportedFlags"));
    assert!(supported.iter().all(|flag| known.contains(flag)), "{supported:?} of {known:?}");
    for flag in &supported {
        let mut profile = but_for_getppid("SCMP_ACT_ERRNO");
        profile["flags"] = json!([flag]);
        assert_eq!(calling(0, profile).run().ok().answer(), json!({ "error": "EPERM" }), "{flag}");
    }
    for flag in known.iter().filter(|flag| !supported.contains(flag)) {
        let mut profile = but_for_getppid("SCMP_ACT_ERRNO");
        profile["flags"] = json!([flag]);
        calling(0, profile).run().fails().saying("linux.seccomp");
    }
}
