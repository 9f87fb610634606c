//! The program: which one is run, with which arguments, environment and directory.

use ampoule_tests::{Bundle, Container, NO_PROC, Runtime, is_root, require};
use serde_json::json;

#[test]
fn arguments_reach_the_program_unchanged() {
    let odd = ["", "two words", "$HOME", "\"quoted\"", "newline\nin it", "ünïcode"];
    let mut args = vec!["args"];
    args.extend(odd);
    let answer = Container::of(Bundle::asking(&args)).run().ok().answer();
    assert_eq!(answer, json!([&["/bin/probe", "args"][..], &odd[..]].concat()));
}

#[test]
fn the_environment_is_the_configured_one_and_no_other() {
    let wanted = ["PATH=/bin", "B=2", "A=1", "EMPTY=", "EQUALS=a=b", "HOME=/nowhere"];
    let bundle = Bundle::asking(&["env"]).with(|c| c["process"]["env"] = json!(wanted));
    assert_eq!(Container::of(bundle).run().ok().answer(), json!(wanted));
}

#[test]
fn a_program_without_a_slash_is_looked_up_in_the_containers_path() {
    let bundle = Bundle::asking(&[]).with(|c| {
        c["process"]["args"] = json!(["probe", "args"]);
        c["process"]["env"] = json!(["PATH=/nowhere:/bin"]);
    });
    assert_eq!(Container::of(bundle).run().ok().answer(), json!(["probe", "args"]));
}

#[test]
fn a_program_in_no_directory_of_the_path_is_not_found() {
    let bundle = Bundle::asking(&[]).with(|c| {
        c["process"]["args"] = json!(["probe", "args"]);
        c["process"]["env"] = json!(["PATH=/sbin:/etc"]);
    });
    Container::of(bundle).run().fails().saying("executable file not found in $PATH");
}

#[test]
fn a_missing_program_is_no_such_file() {
    let bundle = Bundle::asking(&[]).with(|c| c["process"]["args"] = json!(["/bin/missing"]));
    let outcome = Container::of(bundle).run().fails().saying("/bin/missing");
    assert!(outcome.stderr.contains("no such file or directory"), "{outcome}");
    if Runtime::get().is_ampoule() {
        outcome.saying("exec /bin/missing: ENOENT");
    }
}

#[test]
fn a_program_without_execute_permission_is_permission_denied() {
    let bundle = Bundle::asking(&[])
        .with_file("/bin/data", "text", 0o644)
        .with(|c| c["process"]["args"] = json!(["/bin/data"]));
    let outcome = Container::of(bundle).run().fails();
    // docker's client doesn't look for it in any other case, where other engines do.
    assert!(outcome.stderr.contains("permission denied"), "{outcome}");
}

#[test]
fn a_directory_as_the_program_is_permission_denied() {
    let bundle = Bundle::asking(&[]).with(|c| c["process"]["args"] = json!(["/bin"]));
    Container::of(bundle).run().fails().saying("permission denied");
}

#[test]
fn a_script_whose_interpreter_is_missing_is_explained() {
    let bundle = Bundle::asking(&[])
        .with_file("/bin/script", "#!/bin/absent\n", 0o755)
        .with(|c| c["process"]["args"] = json!(["/bin/script"]));
    let outcome = Container::of(bundle).run().fails().saying("no such file or directory");
    if Runtime::get().is_ampoule() {
        outcome.saying("interpreter").saying("/bin/absent");
    }
}

#[test]
fn a_script_is_run_by_its_interpreter() {
    let bundle = Bundle::asking(&[])
        .with_file("/bin/script", "#!/bin/probe args\n", 0o755)
        .with(|c| c["process"]["args"] = json!(["/bin/script", "more"]));
    let answer = Container::of(bundle).run().ok().answer();
    assert_eq!(answer, json!(["/bin/probe", "args", "/bin/script", "more"]));
}

#[test]
fn the_working_directory_is_the_configured_one() {
    let bundle =
        Bundle::asking(&["cwd"]).with_dir("/var/lib").with(|c| c["process"]["cwd"] = json!("/var/lib"));
    assert_eq!(Container::of(bundle).run().ok().answer(), "/var/lib");
}

#[test]
fn a_missing_working_directory_is_made() {
    let bundle = Bundle::asking(&["cwd", ",", "stat", "/srv/deep/er"])
        .writable()
        .with(|c| c["process"]["cwd"] = json!("/srv/deep/er"));
    let answers = Container::of(bundle).run().ok().answers();
    assert_eq!(answers[0], "/srv/deep/er");
    assert_eq!(answers[1]["mode"], "755");
}

#[test]
fn a_working_directory_is_not_made_through_a_link_out_of_the_root() {
    let bundle = Bundle::asking(&["cwd"]).writable();
    let outside = bundle.beside("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, bundle.rootfs().join("srv")).unwrap();
    let bundle = bundle.with(|c| c["process"]["cwd"] = json!("/srv/made"));
    Container::of(bundle).run();
    assert!(!outside.join("made").exists(), "a directory was made on the host");
}

#[test]
fn a_working_directory_by_descriptor_is_refused() {
    // CVE-2024-21626: a leaked descriptor as the working directory is a way out of the root.
    for fd in 3..12 {
        let bundle =
            Bundle::asking(&["cwd"]).with(|c| c["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}")));
        let outcome = Container::of(bundle).run();
        assert_ne!(outcome.code, 0, "descriptor {fd} led somewhere: {outcome}");
    }
}

#[test]
fn only_the_standard_descriptors_are_open() {
    let fds = Container::of(Bundle::asking(&["fds"])).run().ok().answer();
    let mut numbers: Vec<_> = fds.as_object().unwrap().keys().map(String::as_str).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["0", "1", "2"], "{fds}");
}

#[test]
fn the_exit_code_of_run_is_the_programs() {
    for code in [0, 1, 42, 255] {
        let outcome = Container::of(Bundle::asking(&["exit", &code.to_string()])).run();
        assert_eq!(outcome.code, code, "{outcome}");
    }
}

#[test]
fn a_program_killed_by_a_signal_gives_128_and_the_signal() {
    require!(is_root(), "root", named NO_PROC);
    // In the host's pid namespace the program is no init, and may kill itself.
    for (signal, number) in [("SIGTERM", 15), ("SIGKILL", 9), ("SIGABRT", 6)] {
        let bundle = Bundle::asking(&["raise", signal]).without_namespace("pid");
        let outcome = Container::of(bundle).run();
        assert_eq!(outcome.code, 128 + number, "{outcome}");
    }
}
