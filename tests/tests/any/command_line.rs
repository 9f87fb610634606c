//! What the verbs that only tell print: list, ps, spec, the log.

use ampoule_tests::{Bundle, Container, Outcome, Runtime, ampoule_only, field, is_root, require};
use serde_json::{Value, json};
use std::fs;

#[test]
fn list_shows_the_container_as_table_as_json_and_as_id() {
    let container = Container::of(Bundle::sleeping());
    assert_eq!(container.call(&["list", "-q"]).ok().stdout, "");
    container.launch();
    let table = container.call(&["list"]).ok().stdout;
    let heading: Vec<_> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(heading, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert!(table.contains(&container.id) && table.contains("running"), "{table}");
    assert_eq!(container.call(&["list", "-q"]).ok().stdout.trim(), container.id);
    let list: Value = serde_json::from_str(&container.call(&["list", "-f", "json"]).ok().stdout).unwrap();
    assert_eq!(list[0]["id"], json!(container.id));
    assert_eq!(list[0]["status"], "running");
    assert_eq!(list[0]["pid"], json!(container.pid()));
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
    assert_eq!(list[0]["owner"], user.name);
}

#[test]
fn ps_shows_the_containers_processes_and_no_other() {
    let container = Container::of(Bundle::asking(&["spawn", "2", ",", "sleep", "1000"]));
    container.launch();
    container.wait_output("sleeping");
    let pids: Value =
        serde_json::from_str(&container.call(&["ps", "-f", "json", &container.id]).ok().stdout).unwrap();
    let mut wanted = ampoule_tests::pids_in(container.cgroups().dir("pids"));
    let mut pids: Vec<i32> = pids.as_array().unwrap().iter().map(|p| p.as_i64().unwrap() as i32).collect();
    pids.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(pids, wanted);
    let table = container.call(&["ps", &container.id]).ok().stdout;
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.starts_with("UID") && table.contains("sleep 1000"), "{table}");
    let table = container.call(&["ps", &container.id, "-o", "pid"]).ok().stdout;
    assert_eq!(table.split_whitespace().count(), 4, "{table}");
}

#[test]
fn the_log_file_tells_the_error_as_a_json_line() {
    let container =
        Container::of(Bundle::asking(&[]).with(|c| c["process"]["args"] = json!(["/bin/missing"])));
    let log = container.bundle.beside("log");
    let path = log.to_str().unwrap().to_owned();
    let making = container.args_for("run", &[]);
    let mut args = vec!["--log", &path, "--log-format", "json"];
    args.extend(making);
    container.spawn(container.command(&args), "run").finish().fails();
    let text = fs::read_to_string(log).unwrap();
    let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().to_lowercase().contains("no such file or directory"), "{line}");
    assert!(line["time"].as_str().unwrap().contains('T'), "{line}");
}

#[test]
fn every_verb_tells_the_version_and_the_engine_its_name() {
    let engine = Runtime::get();
    assert!(
        !engine.name().is_empty() && engine.version().starts_with(|c: char| c.is_ascii_digit()),
        "{engine:?}"
    );
}

#[test]
fn spec_writes_a_config_that_runs() {
    let container = Container::of(Bundle::asking(&[]));
    let config = container.bundle.beside("config.json");
    let path = container.bundle.path().to_str().unwrap();
    let mut args = vec!["spec", "--bundle", path];
    args.extend((!is_root()).then_some("--rootless"));
    container.call(&args).ok();
    let mut spec: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    assert_eq!((&spec["process"]["terminal"], &spec["process"]["args"]), (&json!(true), &json!(["sh"])));
    let again = container.call(&["spec", "--bundle", container.bundle.path().to_str().unwrap()]);
    again.fails().saying("exists");
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["/bin/probe", "cat", "/proc/self/status"]);
    let mut container = container;
    container.bundle.config = spec;
    let status = container.run().ok().text();
    assert_eq!(field(&status, "NoNewPrivs"), "1");
}

#[test]
fn the_log_level_decides_what_is_logged() {
    ampoule_only!("runc's lines are about other things");
    let lines = |flags: &[&str]| {
        let bundle = Bundle::asking(&["cwd"]).adding("/process/capabilities/bounding", json!("CAP_TO_FLY"));
        let container = Container::of(bundle);
        let log = container.bundle.beside("log");
        let making = container.args_for("run", &[]);
        let args = [flags, &["--log", log.to_str().unwrap()], &making].concat();
        container.spawn(container.command(&args), "run").finish().ok();
        fs::read_to_string(log).unwrap_or_default()
    };
    let warning = "level=warning msg=";
    let normal = lines(&[]);
    assert!(normal.contains(warning) && !normal.contains("level=debug"), "{normal}");
    assert_eq!(lines(&["--log-level", "error"]), "");
    for debug in [&["--debug"][..], &["--log-level", "DEBUG"]] {
        let all = lines(debug);
        assert!(all.contains(warning) && all.contains("level=debug msg="), "{all}");
    }
    let json = lines(&["--log-format", "json", "--log-level", "warn"]);
    let line: Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(line["level"], "warning");
}

#[test]
fn either_spelling_chooses_the_cgroup_manager() {
    ampoule_only!("--cgroup-manager is crun's, and plan is ours");
    let plan = |flags: &[&str]| {
        let container = Container::of(Bundle::sleeping());
        let making = container.args_for("plan", &[]);
        let mut command = std::process::Command::new(Runtime::get().program());
        command.args(flags).args(making);
        let outcome = container.spawn(command, "plan").finish();
        (outcome.stdout + &outcome.stderr)
            .replace(&container.id, "ID")
            .replace(&container.bundle.path().display().to_string(), "BUNDLE")
    };
    let (cgroupfs, systemd) = (plan(&[]), plan(&["--systemd-cgroup"]));
    assert_ne!(cgroupfs, systemd);
    assert_eq!(plan(&["--cgroup-manager", "cgroupfs"]), cgroupfs);
    assert_eq!(plan(&["--cgroup-manager", "systemd"]), systemd);
}

#[test]
fn the_caller_decides_whether_it_is_rootless() {
    ampoule_only!("runc 1.1 has no netDevices, which only root has");
    let root = nix::unistd::geteuid().is_root();
    require!(root, "root", named "an ordinary user is rootless whatever is said");
    let moves_devices = |word: &str| {
        let container = Container::of(Bundle::sleeping());
        let features = container.call(&["--rootless", word, "features"]).ok().stdout;
        serde_json::from_str::<Value>(&features).unwrap()["linux"]["netDevices"]["enabled"] == true
    };
    assert_eq!(["auto", "false", "0", "true", "1"].map(moves_devices), [true, true, true, false, false]);
}

#[test]
fn delete_takes_an_expression_for_many() {
    ampoule_only!("--regex is crun's");
    let container = Container::of(Bundle::sleeping());
    container.create().ok();
    let bundle = container.bundle.path().to_str().unwrap().to_owned();
    let name = |end: &str| format!("{}-{end}", container.id);
    for end in ["a1", "a2", "b1"] {
        container.call(&["create", "--bundle", &bundle, &name(end)]).ok();
    }
    let names = || container.call(&["list", "--quiet"]).ok().stdout;
    container.call(&["delete", "--regex", "x-a[0-9]$"]).ok();
    assert_eq!(names(), format!("{}\n{}\n", container.id, name("b1")));
    // One that runs is told, and does not save the others.
    container.start().ok();
    let outcome = container.call(&["delete", "--regex", "^at-"]).fails();
    assert!(outcome.stderr.contains(&format!("ampoule: delete {}: ", container.id)), "{outcome}");
    assert_eq!(names(), format!("{}\n", container.id));
    container.call(&["delete", "--regex", "("]).fails().saying("no extended regular expression");
    container.call(&["delete", "-r", "nobody"]).ok();
    container.call(&["delete", "--force", "--regex", "."]).ok();
    assert_eq!(names(), "");
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    ampoule_only!("runc 1.1 says nothing of it");
    for args in
        [&["--version"][..], &["--help"], &["help"], &["help", "create"], &["create", "--help"], &["list"]]
    {
        let mut command = std::process::Command::new(Runtime::get().program());
        command.args(args).stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        Outcome::of(&mut command).fails().saying("no space left on device");
    }
    for args in [&["--no-such-flag"][..], &["no-such-verb"], &["list", "--no-such-flag"]] {
        let mut command = std::process::Command::new(Runtime::get().program());
        command.args(args).stderr(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        assert_eq!(Outcome::of(&mut command).code, 1, "{args:?}");
    }
}
