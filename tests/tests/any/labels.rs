//! What Linux security modules confine a process and its mounts by.

use ampoule_tests::{Bundle, Container, ampoule_only, require};
use serde_json::json;
use std::path::Path;
use std::process::Command;

fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with('Y'))
}

fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// A profile of this process's, loaded; it lets everything pass, so that what is seen is the profile, not its rules.
struct Profile(String);

impl Profile {
    fn load() -> Option<Self> {
        let profile = Self(format!("ampoule-test-{}", std::process::id()));
        profile.parser("--replace").then_some(profile)
    }

    fn parser(&self, action: &str) -> bool {
        let file = std::env::temp_dir().join(&self.0);
        let text = format!(
            "profile {} {{\n capability, network, file, mount, umount, signal, ptrace, unix,\n}}\n",
            self.0
        );
        std::fs::write(&file, text).unwrap();
        let done = Command::new("apparmor_parser").args([action, "--skip-cache"]).arg(&file).status();
        std::fs::remove_file(&file).unwrap();
        done.is_ok_and(|status| status.success())
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parser("--remove");
    }
}

#[test]
fn the_apparmor_profile_confines_the_program_and_what_is_executed_later() {
    require!(has_apparmor(), "AppArmor", named "a container's host or its kernel may do without");
    let profile = Profile::load();
    require!(profile.is_some(), "apparmor_parser as root", named "only root loads profiles, and the parser may lack");
    let name = profile.as_ref().map(|p| p.0.clone()).unwrap();
    let ask = ["cat", "/proc/self/attr/current"];
    let bundle = Bundle::asking(&ask).with(|c| c["process"]["apparmorProfile"] = json!(name));
    assert_eq!(Container::of(bundle).run().ok().text(), format!("{name} (enforce)\n"));

    let container = Container::of(Bundle::sleeping());
    container.launch();
    let exec = |flags: &[&str]| {
        let args = [&["exec"], flags, &[&container.id, "/bin/probe"], &ask].concat();
        container.call(&args).ok().text()
    };
    assert_eq!(exec(&["--apparmor", &name]), format!("{name} (enforce)\n"));
    assert_ne!(exec(&[]), format!("{name} (enforce)\n"));
}

#[test]
fn an_apparmor_profile_that_is_not_loaded_is_an_error() {
    require!(has_apparmor(), "AppArmor", named "a container's host or its kernel may do without");
    let bundle =
        Bundle::asking(&["cwd"]).with(|c| c["process"]["apparmorProfile"] = json!("ampoule-no-such-profile"));
    Container::of(bundle).run().fails().saying("ampoule-no-such-profile");
}

#[test]
fn selinux_labels_the_process_and_its_mounts() {
    require!(has_selinux(), "SELinux", named "Debian's kernels start without it");
    let current = std::fs::read_to_string("/proc/self/attr/current").unwrap();
    let label = current.trim_end_matches(['\0', '\n']);
    let bundle = Bundle::asking(&["cat", "/proc/self/attr/current", ",", "cat", "/proc/self/mountinfo"])
        .with(|c| c["process"]["selinuxLabel"] = json!(label))
        .with(|c| c["linux"]["mountLabel"] = json!("system_u:object_r:tmpfs_t:s0"));
    let answers = Container::of(bundle).run().ok().answers();
    assert_eq!(answers[0].as_str().unwrap().trim_end_matches(['\0', '\n']), label);
    assert!(answers[1].as_str().unwrap().contains("context=system_u:object_r:tmpfs_t:s0"), "{}", answers[1]);
}

#[test]
fn a_host_without_the_module_refuses_its_label_and_says_how_to_have_it() {
    ampoule_only!("runc 1.1 fails later, in other words");
    let refused = |pointer: &str, value: &str, at: &str| {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let bundle = Bundle::asking(&["cwd"]).with(|c| c.pointer_mut(parent).unwrap()[key] = json!(value));
        let container = Container::of(bundle);
        container.run().fails().saying(at).saying("boot with lsm=");
        assert_eq!(container.leftovers(), [""; 0]);
    };
    if !has_apparmor() {
        refused("/process/apparmorProfile", "docker-default", "process.apparmorProfile");
        // Which is what there is.
        let bundle = Bundle::asking(&["cwd"]).with(|c| c["process"]["apparmorProfile"] = json!("unconfined"));
        Container::of(bundle).run().ok();
    }
    if !has_selinux() {
        refused("/process/selinuxLabel", "a_u:b_r:c_t:s0", "process.selinuxLabel");
        refused("/linux/mountLabel", "a_u:b_r:c_t:s0", "linux.mountLabel");
        let container = Container::of(Bundle::sleeping());
        container.launch();
        let label = ["exec", "--process-label", "a_u:b_r:c_t:s0", &container.id, "/bin/probe", "cwd"];
        let outcome = container.call(&label).saying("process.selinuxLabel").saying("boot with lsm=");
        assert_eq!(outcome.code, 255);
    }
}
