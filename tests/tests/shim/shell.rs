//! `ampoule-shim`: containers that outlive the shell, without a daemon.

use ampoule_tests::{
    Bundle, Call, Outcome, Scratch, Terminal, ampoule_only, pids_mentioning, shim_program, wait_for,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A container of a person's at a shell, killed and forgotten on drop.
struct Kept {
    id: String,
    bundle: Bundle,
    calls: Scratch,
}

impl Kept {
    fn of(bundle: Bundle) -> Self {
        let calls = Scratch::new();
        let id = calls.path().file_name().unwrap().to_str().unwrap().to_owned();
        let bundle = bundle.with(|c| c["linux"]["cgroupsPath"] = json!(format!("/{id}")));
        bundle.write();
        Self { id, bundle, calls }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(shim_program().with_file_name("ampoule-shim"));
        command.args(args).stdin(Stdio::null());
        command
    }

    fn call(&self, args: &[&str]) -> Outcome {
        Call::start(self.command(args), self.calls.path().join(args[0])).finish()
    }

    fn run(&self, flags: &[&str]) -> Outcome {
        let (bundle, log) = (self.bundle.path().to_str().unwrap(), self.log());
        let mut args = vec!["run", "--bundle", bundle, "--log", log.to_str().unwrap()];
        args.extend(flags);
        args.push(&self.id);
        self.call(&args)
    }

    fn log(&self) -> PathBuf {
        self.bundle.beside("log")
    }

    fn status(&self) -> String {
        let list = self.call(&["list"]).ok().stdout;
        let line = list.lines().find(|line| line.starts_with(&self.id)).unwrap_or_default();
        line[self.id.len()..].split(" /").next().unwrap_or_default().trim().to_owned()
    }

    /// Everything that is left of it.
    fn leftovers(&self) -> Vec<String> {
        let home = PathBuf::from("/run/ampoule-shim").join(&self.id);
        let state = PathBuf::from("/run/ampoule").join(&self.id);
        let paths =
            [home, state].into_iter().filter(|path| path.exists()).map(|path| path.display().to_string());
        let pids = pids_mentioning(&self.id).into_iter().map(|pid| format!("process {pid}"));
        let cgroups = ampoule_tests::cgroups_named(&self.id).into_iter().map(|c| c.display().to_string());
        paths.chain(pids).chain(cgroups).collect()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let ampoule = shim_program().with_file_name("ampoule");
        let quiet = |mut command: Command| drop(command.stdout(Stdio::null()).stderr(Stdio::null()).status());
        let mut end = Command::new(&ampoule);
        end.args(["kill", &self.id, "KILL"]);
        quiet(end);
        quiet(self.command(&["wait", &self.id]));
        quiet(self.command(&["rm", &self.id]));
        // The shim itself ends a moment after it has written the exit code.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while !self.leftovers().is_empty() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let left = self.leftovers();
        assert!(left.is_empty() || std::thread::panicking(), "left behind: {left:#?}");
    }
}

/// A container of our own runtime's.
macro_rules! kept {
    ($bundle:expr) => {{
        ampoule_only!("the shell's shim runs ampoule, whatever is under test");
        Kept::of($bundle)
    }};
}

#[test]
fn run_returns_and_wait_logs_and_list_know_the_rest() {
    let kept = kept!(Bundle::asking(&["cwd", ",", "sleep", "1", ",", "exit", "5"]));
    kept.run(&[]).ok();
    assert_eq!(kept.status(), "running");
    assert!(kept.run(&[]).code != 0, "its name was taken");
    let logs = kept.call(&["logs", "-f", &kept.id]).ok().stdout;
    assert!(logs.starts_with("\"/\"\n") && logs.contains("slept"), "{logs}");
    assert_eq!(kept.call(&["wait", &kept.id]).ok().stdout, "5\n");
    assert_eq!(kept.status(), "exited (5)");
    assert_eq!(kept.call(&["logs", &kept.id]).ok().stdout, logs);
    assert_eq!(kept.call(&["attach", &kept.id]).code, 5);
    // One that has ended gives its name away.
    kept.run(&[]).ok();
    kept.call(&["wait", &kept.id]).ok();
    kept.call(&["rm", &kept.id]).ok();
    wait_for("nothing to be left", || kept.leftovers().is_empty());
    let bundle: Vec<_> = fs::read_dir(kept.bundle.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(bundle.len(), 3, "the bundle holds {bundle:?}, where only the log is new");
}

#[test]
fn it_survives_the_shell_and_its_signals() {
    let kept = kept!(Bundle::sleeping());
    let mut command = kept.command(&["run", "--bundle", kept.bundle.path().to_str().unwrap(), "--log"]);
    command.arg(kept.log()).arg(&kept.id).process_group(0);
    let mut shell = command.spawn().unwrap();
    let group = shell.id() as i32;
    assert!(shell.wait().unwrap().success());
    for signal in [Signal::SIGHUP, Signal::SIGINT] {
        let _ = kill(Pid::from_raw(-group), signal);
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(kept.status(), "running");
    let ampoule = shim_program().with_file_name("ampoule");
    let state = Command::new(ampoule).args(["state", &kept.id]).output().unwrap();
    assert!(state.status.success(), "the runtime's own verbs don't know it");
}

#[test]
fn a_terminal_can_be_joined_left_and_joined_again() {
    let mut bundle = Bundle::asking(&["winch"]);
    bundle.config["process"]["terminal"] = json!(true);
    let kept = kept!(bundle);
    kept.run(&[]).ok();
    for columns in [91, 92] {
        let mut terminal = Terminal::open(33, columns);
        let mut attach = kept.command(&["attach", &kept.id]);
        terminal.attach(&mut attach);
        let mut attach = attach.spawn().unwrap();
        terminal.expect(&columns.to_string());
        terminal.type_keys("\x10\x11");
        assert_eq!(attach.wait().unwrap().code(), Some(0));
    }
    assert_eq!(kept.status(), "running");
}

#[test]
fn attach_carries_stdin_and_gives_the_exit_code() {
    let kept = kept!(Bundle::asking(&["swallow", ",", "exit", "3"]));
    kept.run(&["--interactive"]).ok();
    let file = kept.bundle.beside("input");
    fs::write(&file, vec![7; 300_000]).unwrap();
    let mut attach = kept.command(&["attach", &kept.id]);
    attach.stdin(fs::File::open(&file).unwrap());
    let outcome = Call::start(attach, kept.calls.path().join("attach")).finish();
    assert_eq!(outcome.code, 3, "{outcome}");
    assert!(outcome.stdout.contains("\"bytes\":300000"), "{outcome}");
}

#[test]
fn a_log_is_put_aside_before_it_grows_too_large_and_nothing_is_lost() {
    let kept = kept!(Bundle::asking(&["gush", "1"]));
    kept.run(&["--log-size-max", "700000"]).ok();
    assert_eq!(kept.call(&["wait", &kept.id]).ok().stdout, "0\n");
    let (older, newer) = (fs::read(kept.bundle.beside("log.1")).unwrap(), fs::read(kept.log()).unwrap());
    assert!(older.len() <= 700_000 && newer.len() <= 700_000);
    let all = [older, newer].concat();
    assert_eq!(all.len(), 1 << 20);
    for (n, eight) in all.as_chunks().0.iter().enumerate() {
        assert_eq!(u64::from_le_bytes(*eight), n as u64);
    }
}

#[test]
fn a_run_that_fails_says_why_and_leaves_nothing() {
    let kept =
        Kept::of(Bundle::asking(&["cwd"]).with(|c| c["process"]["args"] = json!(["/no/such/program"])));
    let outcome = kept.run(&[]);
    assert!(outcome.code == 1 && outcome.stderr.contains("/no/such/program"), "{outcome}");
    wait_for("nothing to be left", || kept.leftovers().is_empty());
    for (args, word) in [
        (["wait", "nobody"], "container nobody does not exist"),
        (["logs", "../x"], "invalid container id"),
        (["run", "x"], "config.json"),
    ] {
        let outcome = kept.call(&args);
        assert!(outcome.code == 1 && outcome.stderr.contains(word), "{outcome}");
    }
}

#[test]
fn what_a_killed_shim_leaves_can_be_removed() {
    let kept = kept!(Bundle::sleeping());
    kept.run(&[]).ok();
    let shim = pids_mentioning(&kept.id).into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"ampoule-shim\0monitor")
    });
    let waiting = Call::start(kept.command(&["wait", &kept.id]), kept.calls.path().join("waiting"));
    std::thread::sleep(std::time::Duration::from_millis(100));
    kill(Pid::from_raw(shim.unwrap()), Signal::SIGKILL).unwrap();
    let outcome = waiting.finish();
    assert!(outcome.code == 1 && outcome.stderr.contains("lost"), "{outcome}");
    assert_eq!(kept.status(), "lost");
    kept.call(&["rm", &kept.id]).ok();
    assert_eq!(kept.leftovers(), [""; 0]);
}
