//! `plan` and `check`: what would be done and what could be, told without root and without doing it.

use ampoule_tests::{Bundle, Container, Outcome, ampoule_only, install};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

const WHY: &str = "no other runtime has these verbs";

/// An ordinary user's call, with a copy of the program that he may reach, in an empty directory of his.
fn as_user(bundle: &Bundle, args: &[&str]) -> Outcome {
    let program = bundle.beside("program");
    install(ampoule_tests::Runtime::get().program(), &program);
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    bundle.write();
    let mut command = Command::new(&program);
    // Groups go with the ids: setuid(2) is called by someone who may.
    command.args(args).uid(65534).gid(65534).current_dir(bundle.path()).env_clear().stdin(Stdio::null());
    let output = command.output().expect("run the program");
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        call: format!("{command:?}"),
    }
}

/// The steps of a plan's text, without its titles.
fn steps(outcome: &Outcome) -> Vec<&str> {
    outcome.stdout.lines().filter_map(|line| line.strip_prefix("  ")).collect()
}

#[test]
fn plan_tells_the_steps_to_an_ordinary_user() {
    ampoule_only!(WHY);
    let outcome = as_user(&Bundle::sleeping(), &["plan", "web"]).ok();
    let all = steps(&outcome);
    let place = |step: &str| {
        all.iter().position(|s| s.starts_with(step)).unwrap_or_else(|| panic!("no {step}: {outcome}"))
    };
    assert!(place("mount proc on /proc") < place("mount tmpfs on /dev (nosuid,strictatime)"), "{outcome}");
    assert!(place("make cgroup") < place("clone3 with new"), "{outcome}");
    assert!(place("set hostname runc") < place("exec /bin/probe"), "{outcome}");
}

#[test]
fn plan_makes_nothing() {
    ampoule_only!(WHY);
    let container = Container::of(Bundle::sleeping());
    container.call(&container.args_for("plan", &[])).ok();
    container.call(&container.args_for("plan", &["--json"])).ok();
    assert_eq!(container.leftovers(), [""; 0]);
    assert_eq!(container.status(), "none");
}

#[test]
fn plan_needs_no_root_file_system_of_a_special_kind_and_runs_no_hook() {
    ampoule_only!(WHY);
    let bundle = Bundle::sleeping();
    let told = bundle.beside("told");
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", format!("echo ran > {}", told.display())] });
    let bundle = bundle.with(|c| c["hooks"] = json!({ "createRuntime": [hook] }));
    let container = Container::of(bundle);
    let outcome = container.call(&container.args_for("plan", &[])).ok();
    assert!(steps(&outcome).iter().any(|s| s.contains("createRuntime")), "{outcome}");
    assert!(!told.exists(), "plan ran a hook");
}

#[test]
fn plan_as_json_has_the_steps_of_the_text() {
    ampoule_only!(WHY);
    let bundle = Bundle::sleeping();
    let text = as_user(&bundle, &["plan", "web"]).ok();
    let plan: Value =
        serde_json::from_str(&as_user(&bundle, &["plan", "--json", "web"]).ok().stdout).unwrap();
    let count: usize =
        ["pre_clone", "post_clone", "init"].map(|part| plan[part].as_array().unwrap().len()).iter().sum();
    // The clone is one step of the text, and an object of its own in JSON.
    assert!(plan["spawn"]["new"].as_array().unwrap().contains(&json!("pid")), "{plan:#}");
    assert_eq!(count + 1, steps(&text).len(), "{text}\n{plan:#}");
}

#[test]
fn plan_can_be_made_for_another_layout() {
    ampoule_only!(WHY);
    let bundle = Bundle::sleeping();
    let of = |layout| as_user(&bundle, &["plan", "--host", layout, "web"]).ok().stdout;
    assert!(of("v2").contains("mount cgroup2 on /sys/fs/cgroup ") && !of("v2").contains("devices.allow"));
    assert!(of("v1").contains("devices.allow") && !of("v1").contains("cgroup2"));
}

#[test]
fn plan_takes_the_flags_of_create_that_change_the_steps() {
    ampoule_only!(WHY);
    let container = Container::of(Bundle::sleeping());
    let plan = |flags: &[&str]| container.call(&container.args_for("plan", flags)).ok().stdout;
    let (usual, no_pivot, no_keyring) = (plan(&[]), plan(&["--no-pivot"]), plan(&["--no-new-keyring"]));
    let lost = |other: &str, word: &str| usual.contains(word) && !other.contains(word);
    let hides = |plan: &str| plan.contains("cover the host's procfs");
    assert!(hides(&no_pivot) && lost(&no_pivot, "pivot_root") && !hides(&usual), "{usual}\n{no_pivot}");
    assert!(lost(&no_keyring, "keyring") && !lost(&no_pivot, "keyring"), "{usual}\n{no_keyring}");
}

#[test]
fn plan_refuses_what_create_refuses_in_the_same_words() {
    ampoule_only!(WHY);
    let bundle = Bundle::sleeping().with(|c| c["process"]["rlimits"][0]["type"] = json!("RLIMIT_JOY"));
    let container = Container::of(bundle);
    let words = |verb: &str| {
        let stderr = container.call(&container.args_for(verb, &[])).fails().stderr;
        let known = format!("ampoule: {verb} {}: ", container.id);
        stderr.strip_prefix(&known).unwrap_or_else(|| panic!("not {known:?}: {stderr}")).to_owned()
    };
    assert_eq!(words("plan"), words("create"));
}

#[test]
fn check_tells_an_ordinary_user_what_the_host_can_do() {
    ampoule_only!(WHY);
    let outcome = as_user(&Bundle::sleeping(), &["check"]).ok();
    for word in ["cgroups", "layout", "clone3", "user namespaces"] {
        assert!(outcome.stdout.contains(word), "{word}: {outcome}");
    }
}

#[test]
fn check_names_a_way_out_for_everything_that_is_missing() {
    ampoule_only!(WHY);
    let outcome = as_user(&Bundle::sleeping(), &["check", "--json"]).ok();
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let sections = report["sections"].as_array().unwrap();
    let findings: Vec<_> = sections.iter().flat_map(|s| s["findings"].as_array().unwrap()).collect();
    assert!(findings.len() > 10, "{report:#}");
    for finding in findings {
        let fine = finding["state"] == "ok";
        assert!(fine || finding["turnOn"].as_str().is_some_and(|t| !t.is_empty()), "{finding}");
    }
}
