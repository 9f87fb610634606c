//! What has gone wrong in container runtimes: each attack is played, as far as one machine can, and must fail.

use ampoule_tests::{
    Bundle, ConsoleSocket, Container, FOREIGN_NAMESPACES, Runtime, ampoule_only, install, is_root, require,
};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

/// Every capability there is.
fn almighty(bundle: Bundle) -> Bundle {
    bundle.with(|config| {
        let all: Vec<_> = ["CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "KILL", "SETGID", "SETUID"]
            .into_iter()
            .chain(["SETPCAP", "NET_ADMIN", "SYS_CHROOT", "SYS_PTRACE", "SYS_ADMIN", "MKNOD", "SYS_RAWIO"])
            .map(|name| format!("CAP_{name}"))
            .collect();
        config["process"]["capabilities"] = json!({
            "bounding": all, "effective": all, "permitted": all
        });
    })
}

/// A container in the pid namespace (and others) of another.
fn beside(bundle: Bundle, other: &Container, kinds: &[(&str, &str)]) -> Container {
    let pid = other.pid();
    Container::of(kinds.iter().fold(bundle, |bundle, (kind, name)| {
        let path = format!("/proc/{pid}/ns/{name}");
        bundle.without_namespace(kind).adding("/linux/namespaces", json!({ "type": kind, "path": path }))
    }))
}

/// Has the pid namespace's other inhabitants take hold of the program of the victim's first process, and try every
/// way to write to it once that has ended.
#[track_caller]
fn overwrite_the_program_of(victim: &Container, namespace: &Container) {
    let exe = format!("/proc/{}/exe", victim.inner_pid());
    let attack = almighty(Bundle::asking(&["overwrite", &exe]).writable());
    let attacker = beside(attack, namespace, &[("pid", "pid")]);
    attacker.launch();
    attacker.wait_output("holding");
    victim.delete_force().ok();
    attacker.wait_output("setattr");
    let answers = attacker.output().answers();
    let ways = answers[1].as_object().unwrap();
    assert_eq!(ways.len(), 5, "{answers:?}");
    for (way, said) in ways {
        assert!(said.as_str().is_some_and(|said| said.starts_with('E')), "{way}: {answers:?}");
    }
}

/// CVE-2024-21626: what the runtime has open when the kernel looks for the program is a way to the host, for a link of the
/// image's to /proc/self/fd/N.
#[test]
fn a_link_of_the_images_to_an_open_descriptor_leads_to_no_program_of_the_hosts() {
    let bundle = Bundle::asking(&["sleep", "1000"]).with_dir("/e");
    let program = bundle.beside("program-of-the-hosts");
    install(&bundle.rootfs().join("bin/probe"), &program);
    let up = "../".repeat(20) + program.to_str().unwrap().trim_start_matches('/');
    for n in 3..20 {
        symlink(format!("/proc/self/fd/{n}/{up}"), bundle.rootfs().join(format!("e/{n}"))).unwrap();
    }
    let mut container = Container::of(bundle);
    let log = container.bundle.beside("log").display().to_string();
    for n in 3..20 {
        let link = format!("/e/{n}");
        container.bundle.config["process"]["args"] = json!([link, "cwd"]);
        let flags = container.args_for("run", &[]);
        for before in [&[][..], &["--log", &log]] {
            let outcome = container.call(&[before, &flags].concat());
            assert!(outcome.code != 0 && outcome.stdout.is_empty(), "{n}, {before:?}: {outcome}");
        }
        if container.create_with(&["--pid-file", &format!("{log}.pid")]).code == 0 {
            let outcome = container.start();
            assert!(outcome.code != 0 && container.output().stdout.is_empty(), "{n}, create: {outcome}");
            container.delete_force().ok();
        }
    }
    container.bundle.config["process"]["args"] = json!(["/bin/probe", "sleep", "1000"]);
    container.launch();
    for n in 3..20 {
        let outcome = container.call(&["--log", &log, "exec", &container.id, &format!("/e/{n}"), "cwd"]);
        assert!(outcome.code != 0 && outcome.stdout.is_empty(), "{n}, exec: {outcome}");
    }
}

/// All that a process has open beside its streams.
fn open_files(pid: i32) -> Vec<String> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|fd| fd.unwrap());
    let beside = fds.filter(|fd| fd.file_name().to_string_lossy().parse::<u32>().unwrap() > 2);
    beside.map(|fd| fs::read_link(fd.path()).unwrap().to_string_lossy().into_owned()).collect()
}

/// The same, seen from outside: all that a created container's process has open are its streams and sockets, whatever the
/// runtime was asked for.
#[test]
fn a_created_container_has_nothing_open_that_has_a_path() {
    let other = Container::of(Bundle::sleeping());
    other.launch();
    let joined = |name: &str| format!("/proc/{}/ns/{name}", other.pid());
    let bundles = [
        Bundle::sleeping(),
        Bundle::sleeping().with_user_namespace(),
        Bundle::sleeping().with(|config| {
            config["process"]["terminal"] = json!(true);
            config["process"]["rlimits"] = json!([{ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }]);
        }),
        ["network", "ipc", "uts"].iter().zip(["net", "ipc", "uts"]).fold(
            Bundle::sleeping(),
            |bundle, (kind, name)| {
                let joined = json!({ "type": kind, "path": joined(name) });
                bundle.without_namespace(kind).adding("/linux/namespaces", joined)
            },
        ),
    ];
    for bundle in bundles {
        let beside = |name: &str| bundle.beside(name).display().to_string();
        let (log, pid_file, console, pidfd) =
            (beside("log"), beside("pid"), beside("console"), beside("pidfd"));
        let (consoles, pidfds) =
            (ConsoleSocket::listen(console.as_ref()), ConsoleSocket::listen(pidfd.as_ref()));
        let has_terminal = bundle.config["process"]["terminal"] == json!(true);
        let container = Container::of(bundle);
        let mut flags = vec!["--pid-file", &pid_file];
        if has_terminal {
            flags.extend(["--console-socket", &console]);
        }
        if Runtime::get().is_ampoule() {
            flags.extend(["--pidfd-socket", &pidfd]);
        }
        container.call(&[&["--log", &log][..], &container.args_for("create", &flags)].concat()).ok();
        let terminal = has_terminal.then(|| consoles.receive());
        let open = open_files(container.pid());
        let is_socket = |to: &String| to.starts_with("socket:");
        assert!(!open.is_empty() && open.iter().all(is_socket), "{flags:?}: {open:?}");
        drop((terminal, pidfds));
    }
}

/// CVE-2019-5736: a process that is to become a container's still has the runtime's own program behind its exe link.
#[test]
fn the_runtimes_program_cannot_be_overwritten_from_a_container() {
    require!(is_root(), "root", named FOREIGN_NAMESPACES);
    let namespace = Container::of(Bundle::sleeping());
    namespace.launch();
    let victim = beside(Bundle::sleeping(), &namespace, &[("pid", "pid")]);
    victim.create().ok();
    overwrite_the_program_of(&victim, &namespace);
}

/// The same with a payload that is the runtime's program once more.
#[test]
fn the_runtimes_program_cannot_be_overwritten_where_it_is_the_payload() {
    require!(is_root(), "root", named FOREIGN_NAMESPACES);
    ampoule_only!("runc 1.1 does not run a payload of that name: its own sealed copy is gone by then");
    let namespace = Container::of(Bundle::sleeping());
    namespace.launch();
    let bundle = Bundle::sleeping().writable().with(|config| {
        // Opening the pipe as its log, it waits for a reader.
        config["process"]["args"] = json!(["/proc/self/exe", "--log", "/tmp/pipe", "list"]);
    });
    nix::unistd::mkfifo(&bundle.rootfs().join("tmp/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let victim = beside(bundle, &namespace, &[("pid", "pid")]);
    victim.launch();
    assert_eq!(victim.status(), "running");
    overwrite_the_program_of(&victim, &namespace);
}

/// CVE-2016-9962: who is in the namespaces already could trace a process that enters them and is not yet confined.
#[test]
fn a_process_that_joins_namespaces_cannot_be_traced_by_who_is_in_them() {
    let mapped = Bundle::with_user_namespace;
    let first = Container::of(mapped(Bundle::sleeping()));
    first.launch();
    let joined = [("user", "user"), ("pid", "pid")];
    let victim = beside(mapped(Bundle::sleeping()), &first, &joined);
    victim.create().ok();
    let inside = victim.inner_pid();
    let (memory, exe) = (format!("/proc/{inside}/mem"), format!("/proc/{inside}/exe"));
    let attack = almighty(mapped(Bundle::asking(&["open", &memory, "rw", ",", "readlink", &exe])));
    let answers = beside(attack, &first, &joined).run().ok().answers();
    assert_eq!(answers, [json!({ "error": "EACCES" }), json!({ "error": "EACCES" })]);
}

#[test]
fn a_link_in_the_state_directory_leads_to_nothing_that_is_deleted() {
    let container = Container::of(Bundle::sleeping());
    container.bundle.write();
    let link = container.state_root().join("link");
    std::os::unix::fs::symlink(container.bundle.path(), &link).unwrap();
    for verb in [&["delete", "link"][..], &["delete", "--force", "link"], &["state", "link"]] {
        let outcome = container.call(verb);
        assert!(container.bundle.beside("config.json").exists(), "{outcome}");
        if Runtime::get().is_ampoule() {
            outcome.fails().saying("not a directory");
        }
    }
    let _ = fs::remove_file(link);
}
