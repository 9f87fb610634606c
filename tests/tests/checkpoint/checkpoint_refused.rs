//! What can't be saved or brought back: one line, a container that runs on, and nothing that stays behind.

use ampoule_tests::criu::{WHY, works};
use ampoule_tests::{Bundle, Container, Runtime, ampoule_only, is_root, require};
use serde_json::json;
use std::fs;
use std::path::Path;

const ROOT: &str = "an ordinary user is told that it takes root";

#[track_caller]
fn runs_on(container: &Container, seen: usize, lines: impl Fn() -> usize) {
    assert_eq!(container.status(), "running");
    ampoule_tests::wait_for("more output", || lines() > seen);
}

#[test]
fn only_a_running_container_can_be_saved() {
    require!(is_root(), "root", named ROOT);
    let container = Container::of(Bundle::asking(&["count"]));
    container.create().ok();
    container.checkpoint(&[]).fails().saying("cannot be checkpointed in created state");
    // Nor is a place made for it.
    assert!(!Runtime::get().is_ampoule() || !container.images().exists());
    container.kill("KILL").ok();
    container.wait_status("stopped");
    container.checkpoint(&[]).fails().saying("cannot be checkpointed in stopped state");
}

#[test]
fn without_criu_the_container_runs_on() {
    require!(is_root(), "root", named ROOT);
    ampoule_only!("runc takes no other criu than that on PATH");
    let container = Container::of(Bundle::asking(&["count"]));
    let stream = container.run_piped();
    stream.wait(1);
    let images = container.images();
    let call = |criu: &str| {
        let criu = format!("--criu={criu}");
        container.call(&[&criu, "checkpoint", "--image-path", images.to_str().unwrap(), &container.id])
    };
    call("/nowhere/criu").fails().saying("start /nowhere/criu");
    let mut command =
        container.command(&["checkpoint", "--image-path", images.to_str().unwrap(), &container.id]);
    if !Path::new("/usr/sbin/criu").exists() {
        command.env("PATH", "/nowhere");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("there is no criu"), "{said}");
    }
    let probe = container.bundle.rootfs().join("bin/probe");
    call(probe.to_str().unwrap()).fails().saying("criu 3.9 is too old: it takes 3.15 or newer");
    call("/bin/true").fails().saying("criu ended without an answer");
    runs_on(&container, stream.lines().len(), || stream.lines().len());
}

#[test]
fn an_ordinary_user_is_told_that_it_takes_root() {
    ampoule_only!("runc only warns");
    let container = Container::of(Bundle::asking(&["count"]));
    container.run_piped().wait(1);
    container.call(&["--rootless=true", "checkpoint", &container.id]).fails().saying("root's rights");
    assert_eq!(container.status(), "running");
}

#[test]
fn what_criu_cannot_save_runs_on_and_its_log_s_word_is_told() {
    require!(works(), "CRIU", named WHY);
    let container = Container::of(Bundle::asking(&["lock", "/tmp/lock", ",", "count"]).writable());
    let stream = container.run_piped();
    stream.wait(2);
    let work = container.bundle.beside("work");
    let outcome = container.checkpoint(&["--work-path", work.to_str().unwrap()]).fails().saying("dump.log");
    assert!(fs::read_to_string(work.join("dump.log")).unwrap().contains("--file-locks"));
    assert!(!Runtime::get().is_ampoule() || outcome.stderr.contains("--file-locks"), "{outcome}");
    runs_on(&container, stream.lines().len(), || stream.lines().len());
    assert_eq!(container.cgroups().dirs().filter(|dir| is_frozen(dir)).count(), 0);
    container.checkpoint(&["--file-locks"]).ok();
}

fn is_frozen(dir: &Path) -> bool {
    let read = |file| fs::read_to_string(dir.join(file)).unwrap_or_default();
    read("freezer.state").starts_with("FR") || read("cgroup.freeze").starts_with('1')
}

#[test]
fn a_restore_over_a_present_container_leaves_that_alone() {
    require!(is_root(), "root", named ROOT);
    let container = Container::of(Bundle::asking(&["count"]));
    let stream = container.run_piped();
    stream.wait(1);
    fs::create_dir(container.images()).unwrap();
    fs::write(container.images().join("descriptors.json"), "[]").unwrap();
    container.restore(&[]).0.fails().saying("already exists");
    runs_on(&container, stream.lines().len(), || stream.lines().len());
}

/// What CRIU leaves in the directory for temporary files when it does not come to its end.
fn left_in_tmp() -> Vec<String> {
    let names = fs::read_dir("/tmp").unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".criu")).collect()
}

#[test]
fn a_restore_without_images_leaves_nothing() {
    require!(is_root(), "root", named ROOT);
    let container = Container::of(Bundle::asking(&["count"]));
    container.restore(&[]).0.fails().saying("images");
    assert_eq!(container.leftovers(), [""; 0]);
    fs::create_dir_all(container.images()).unwrap();
    fs::write(container.images().join("descriptors.json"), "[\"/dev/null\",\"pipe:[1]\",\"pipe:[1]\"]")
        .unwrap();
    container.restore(&[]).0.fails();
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_restore_that_fails_half_way_leaves_nothing() {
    require!(works(), "CRIU", named WHY);
    let container = Container::of(Bundle::asking(&["count"]));
    container.run_piped().wait(1);
    container.checkpoint(&[]).ok();
    let before = left_in_tmp();
    let (pages, aside) = (container.images().join("pages-1.img"), container.bundle.beside("aside"));
    fs::rename(&pages, &aside).unwrap();
    container.restore(&[]).0.fails().saying("restore.log");
    assert_eq!(container.leftovers(), [""; 0]);
    let new: Vec<_> = left_in_tmp().into_iter().filter(|name| !before.contains(name)).collect();
    // Other tests' restores have theirs at the same time.
    ampoule_tests::wait_for("CRIU's directories to go", || {
        !left_in_tmp().iter().any(|name| new.contains(name))
    });
    // And nothing of it is in the way of the next.
    fs::rename(&aside, &pages).unwrap();
    container.restore(&[]).0.ok();
    assert_eq!(container.status(), "running");
}

#[test]
fn a_hook_that_fails_fails_the_restore_and_is_named() {
    require!(works(), "CRIU", named WHY);
    ampoule_only!("runc tells only that criu failed");
    let mut container = Container::of(Bundle::asking(&["count"]));
    container.run_piped().wait(1);
    container.checkpoint(&[]).ok();
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", "echo not today >&2; exit 3"] });
    container.bundle.config["hooks"] = json!({ "createRuntime": [hook] });
    container.restore(&[]).0.fails().saying("error running createRuntime hook #0").saying("not today");
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn a_flag_without_its_value_is_told_in_the_words_that_podman_looks_for() {
    let container = Container::of(Bundle::sleeping());
    container.call(&["restore", "--lsm-mount-context"]).fails();
    let files = ["stdout", "stderr"].map(|end| container.bundle.beside(&format!("restore.{end}")));
    let said = files.map(|file| fs::read_to_string(file).unwrap()).concat();
    assert!(said.contains("flag needs an argument"), "{said}");
    container.call(&["checkpoint", "--help"]).ok();
}

#[test]
fn features_says_whether_there_is_a_criu() {
    ampoule_only!("each runtime has features of its own");
    let outcome = Container::of(Bundle::sleeping()).call(&["features"]).ok();
    let features: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let enabled = features["annotations"]["io.ampoule.checkpoint.enabled"] == "true";
    assert!(enabled || !works(), "{features:#}");
}

#[test]
fn flags_that_make_no_sense_are_named() {
    require!(is_root(), "root", named ROOT);
    ampoule_only!("each runtime has words of its own");
    let container = Container::of(Bundle::asking(&["count"]));
    container.run_piped().wait(1);
    for (flags, word) in [
        (&["--manage-cgroups-mode", "loose"][..], "--manage-cgroups-mode"),
        (&["--empty-ns", "pid"], "--empty-ns"),
        (&["--page-server", "nowhere"], "--page-server"),
        (&["--parent-path", "/absolute"], "must be relative"),
        (&["--parent-path", "../missing"], "--parent-path ../missing"),
        (&["--status-fd", "77"], "--status-fd 77"),
    ] {
        container
            .call(
                &[
                    &["--criu=/bin/true", "checkpoint", "--image-path", container.images().to_str().unwrap()]
                        [..],
                    flags,
                    &[&container.id],
                ]
                .concat(),
            )
            .fails()
            .saying(word);
    }
    assert_eq!(container.status(), "running");
}
