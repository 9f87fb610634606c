//! An ordinary user's containers: no right over the host, one id or several, no cgroup of his own.

use ampoule_tests::{Bundle, Outcome, Runtime, ampoule_only, install, wait_for};
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs};

/// Debian's nobody, so that nobody has to be made.
const USER: u32 = 65534;
const WHY: &str = "runc 1.1 refuses a hybrid host's cgroups to an ordinary user";

/// What an ordinary user has: a program that he may reach, a bundle, a runtime directory.
struct User {
    bundle: Bundle,
}

impl User {
    /// With the bundle that `spec --rootless` gives him, but asking the probe.
    fn asking(questions: &[&str]) -> User {
        let bundle = Bundle::asking(questions);
        let args = bundle.config["process"]["args"].clone();
        let mut user = User { bundle };
        install(Runtime::get().program(), &user.program());
        fs::set_permissions(user.program(), PermissionsExt::from_mode(0o755)).unwrap();
        fs::create_dir(user.bundle.beside("run")).unwrap();
        for path in [user.bundle.path().to_owned(), user.bundle.beside("run"), user.bundle.rootfs()] {
            chown(path, Some(USER), Some(USER)).unwrap();
        }
        user.call(&["spec", "--rootless"]).ok();
        let text = fs::read(user.bundle.beside("config.json")).unwrap();
        user.bundle.config = serde_json::from_slice(&text).unwrap();
        user.bundle.config["process"]["args"] = args;
        user.bundle.config["process"]["terminal"] = json!(false);
        user
    }

    fn with(mut self, edit: impl FnOnce(&mut Value)) -> User {
        edit(&mut self.bundle.config);
        self
    }

    fn program(&self) -> PathBuf {
        self.bundle.beside("ampoule")
    }

    /// A call of the runtime in the bundle's directory, its output in files: `create`'s would stay open.
    fn call(&self, args: &[&str]) -> Outcome {
        self.call_through(&[], args)
    }

    /// The same, started by other programs.
    fn call_through(&self, others: &[&str], args: &[&str]) -> Outcome {
        let file = |end: &str| self.bundle.beside(&format!("{}.{end}", args[0]));
        let [stdout, stderr] = ["stdout", "stderr"].map(|end| fs::File::create(file(end)).unwrap());
        let id = USER.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--bounding-set=-all", "--"]);
        command.args(others).arg(self.program()).args(args).current_dir(self.bundle.path());
        command.env_clear().env("PATH", env::var("PATH").unwrap());
        command.env("XDG_RUNTIME_DIR", self.bundle.beside("run"));
        let status =
            command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).status().expect("run setpriv");
        let read = |end| fs::read_to_string(file(end)).unwrap();
        let (stdout, stderr) = (read("stdout"), read("stderr"));
        Outcome { code: status.code().unwrap_or(-1), stdout, stderr, call: format!("{command:?}") }
    }

    fn run(&self) -> Outcome {
        self.bundle.write();
        self.call(&["run", "web"])
    }

    /// The same by root of a user namespace of his own, which is what podman makes of him.
    fn run_as_root_of_his_own(&self) -> Outcome {
        self.bundle.write();
        let unshare = ["unshare", "--user", "--map-root-user", "--mount"];
        self.call_through(&unshare, &["run", "web"])
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.call(&["delete", "--force", "web"]);
    }
}

#[test]
fn the_bundle_of_spec_rootless_just_runs() {
    ampoule_only!(WHY);
    let user = User::asking(&["cat", "/proc/self/uid_map", ",", "readlink", "/proc/self", ",", "uname"]);
    let outcome = user.run().ok();
    let answers = outcome.answers();
    let map: Vec<_> = answers[0].as_str().unwrap().split_whitespace().collect();
    assert_eq!(map, ["0", &USER.to_string(), "1"]);
    assert_eq!(answers[1], "1");
    // One clear warning, and nothing else.
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
    assert!(outcome.stderr.contains("nothing is limited"), "{outcome}");
}

#[test]
fn what_it_makes_belongs_to_the_user() {
    ampoule_only!(WHY);
    let user = User::asking(&["mkdir", "/made"]).with(|c| c["root"]["readonly"] = json!(false));
    assert_eq!(user.run().ok().answer(), "ok");
    assert_eq!(fs::metadata(user.bundle.rootfs().join("made")).unwrap().uid(), USER);
}

#[test]
fn as_root_of_a_user_namespace_he_needs_no_further_one() {
    ampoule_only!(WHY);
    let user = User::asking(&["cat", "/proc/self/uid_map", ",", "write", "/dev/null", "x"]).with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "user");
        let linux = c["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    });
    let outcome = user.run_as_root_of_his_own().ok();
    let answers = outcome.answers();
    let map: Vec<_> = answers[0].as_str().unwrap().split_whitespace().collect();
    assert_eq!(map, ["0", &USER.to_string(), "1"]);
    assert_eq!(answers[1], "ok");
    // His state is where he may write.
    assert!(user.bundle.beside("run/ampoule").exists());
}

#[test]
fn his_clocks_may_be_others_than_the_hosts() {
    ampoule_only!(WHY);
    let user = User::asking(&["time"]).with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
        c["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 2_000_000, "nanosecs": 0 } });
    });
    let before = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap().tv_sec();
    let shifted = user.run().ok().answer()["boottime"].as_i64().unwrap() - before;
    assert!((2_000_000..2_000_060).contains(&shifted), "{shifted}");
}

#[test]
fn a_whole_life_needs_no_root() {
    ampoule_only!(WHY);
    let user = User::asking(&["sleep", "1000"]);
    user.bundle.write();
    user.call(&["create", "web"]).ok();
    let status = || serde_json::from_str::<Value>(&user.call(&["state", "web"]).ok().stdout).unwrap();
    assert_eq!(status()["status"], "created");
    user.call(&["start", "web"]).ok();
    assert_eq!(status()["status"], "running");
    assert!(user.call(&["list", "-q"]).ok().stdout.contains("web"));
    user.call(&["ps", "web"]).fails().saying("without a cgroup");
    user.call(&["kill", "web", "KILL"]).ok();
    wait_for("its end", || status()["status"] == "stopped");
    user.call(&["delete", "web"]).ok();
    assert_eq!(fs::read_dir(user.bundle.beside("run/ampoule")).unwrap().count(), 0);
}

/// CVE-2023-25809: the cgroup that it shares with the user's other processes is not its to change.
#[test]
fn the_users_own_cgroup_cannot_be_written_to() {
    ampoule_only!(WHY);
    let user = User::asking(&["cat", "/proc/self/mountinfo", ",", "mkdir", "/sys/fs/cgroup/made"]);
    let answers = user.run().ok().answers();
    let all = ampoule_tests::Mount::parse(answers[0].as_str().unwrap());
    let of_cgroups: Vec<_> = all.iter().filter(|m| m.kind.starts_with("cgroup")).collect();
    assert!(!of_cgroups.is_empty());
    // The last one mounted on a place is the one that is seen there.
    for mount in &of_cgroups {
        let seen = all.iter().rfind(|m| m.target == mount.target).unwrap();
        assert!(seen.has("ro"), "{seen:?}");
    }
    assert_eq!(answers[1], json!({ "error": "EROFS" }));
}

#[test]
fn the_hosts_sysfs_is_shown_where_its_network_is() {
    ampoule_only!(WHY);
    let user = User::asking(&["ls", "/sys/class/net"]).with(|c| {
        for mount in c["mounts"].as_array_mut().unwrap().iter_mut().filter(|m| m["destination"] == "/sys") {
            *mount = json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] });
        }
    });
    let seen = user.run().ok().answer();
    assert!(seen.as_array().unwrap().contains(&json!("lo")), "{seen}");
}

#[test]
fn a_network_of_its_own_needs_no_root() {
    ampoule_only!(WHY);
    let user = User::asking(&["cat", "/proc/net/fib_trie"]).with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "network" }));
    });
    assert!(user.run().ok().text().contains("127.0.0.1"));
}

#[test]
fn a_limit_that_cannot_be_set_is_an_error_that_names_it() {
    ampoule_only!(WHY);
    let user =
        User::asking(&["cwd"]).with(|c| c["linux"]["resources"] = json!({ "memory": { "limit": 1 << 24 } }));
    user.run().fails().saying("linux.resources.memory.limit");
}

#[test]
fn the_default_spec_is_refused_with_a_way_out() {
    ampoule_only!(WHY);
    let user = User::asking(&["cwd"]).with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "user");
        c["linux"].as_object_mut().unwrap().retain(|key, _| !key.ends_with("Mappings"));
    });
    user.run().fails().saying("linux.namespaces").saying("spec --rootless");
}

#[test]
fn groups_cannot_be_had_with_one_id() {
    ampoule_only!(WHY);
    let user = User::asking(&["cwd"]).with(|c| c["process"]["user"]["additionalGids"] = json!([0]));
    user.run().fails().saying("setgroups");
}

#[test]
fn ids_that_are_not_the_users_are_refused_by_the_helper() {
    ampoule_only!(WHY);
    let user = User::asking(&["cwd"]).with(|c| {
        c["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 10 }]);
    });
    user.run().fails().saying("linux.uidMappings").saying("newuidmap");
}

#[test]
fn an_oom_score_below_the_users_own_is_a_warning() {
    ampoule_only!(WHY);
    let user = User::asking(&["cat", "/proc/self/oom_score_adj"]);
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let user = user.with(|c| c["process"]["oomScoreAdj"] = json!(-999));
    let outcome = user.run().ok();
    assert!(outcome.stderr.contains("process.oomScoreAdj"), "{outcome}");
    assert_eq!(outcome.text(), own);
}
