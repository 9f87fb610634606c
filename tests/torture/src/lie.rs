//! A false runtime, for `torture self-check`: it does what the true one does, but for one lie.

use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What the program is called when it plays the runtime.
pub const NAME: &str = "false-runtime";
/// The path of the true one.
pub const TRUTH: &str = "AMPOULE_TORTURE_TRUTH";
/// Which lie.
pub const LIE: &str = "AMPOULE_TORTURE_LIE";
/// Set for a verb that is disturbed: a lie that is told in the undisturbed run, too, would be the standard for itself.
pub const DISTURBED: &str = "AMPOULE_TORTURE_DISTURBED";

/// Whether this process is to be one.
pub fn is_called() -> bool {
    std::env::args_os()
        .next()
        .is_some_and(|name| Path::new(&name).file_name().is_some_and(|name| name == NAME))
}

/// What can be false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Lie {
    /// Nothing.
    None,
    /// A disturbed `delete` leaves a process.
    Process,
    /// A disturbed `delete` leaves a cgroup.
    Cgroup,
    /// A disturbed `delete` leaves a mount.
    Mount,
    /// A disturbed `delete` leaves a temporary file.
    File,
    /// A disturbed `delete` does nothing.
    Nothing,
    /// A disturbed verb never ends.
    Deaf,
    /// A disturbed verb panics.
    Panic,
    /// A disturbed verb fails without a word.
    Silence,
    /// A disturbed verb says that it did what it didn't.
    Done,
    /// A disturbed `create` leaves out noNewPrivileges.
    Privileges,
    /// `create` changes a file of the host's.
    Canary,
}

/// The call's command line, and the lie.
struct Invocation {
    args: Vec<String>,
    lie: Lie,
    disturbed: bool,
}

/// Plays the runtime.
pub fn play() -> ExitCode {
    let lie = std::env::var(LIE).unwrap_or_default();
    let lie = <Lie as clap::ValueEnum>::from_str(&lie, true).unwrap_or(Lie::None);
    let disturbed = std::env::var_os(DISTURBED).is_some();
    let invocation = Invocation { args: std::env::args().skip(1).collect(), lie, disturbed };
    if invocation.has("delete") && invocation.disturbed {
        return invocation.delete();
    }
    if invocation.disturbed {
        match invocation.lie {
            Lie::Deaf => std::thread::sleep(std::time::Duration::from_secs(1000)),
            Lie::Panic => return ExitCode::from(134),
            Lie::Silence => return ExitCode::FAILURE,
            Lie::Done => return ExitCode::SUCCESS,
            Lie::Privileges => {
                invocation.change_config(|config| config["process"]["noNewPrivileges"] = json!(false))
            }
            _ => {}
        }
    }
    if invocation.lie == Lie::Canary && invocation.has("create") {
        let file = invocation.bundle().join("canary/file");
        let _ = fs::write(file, "changed");
    }
    let failed = invocation.truth().exec();
    eprintln!("false-runtime: {failed}");
    ExitCode::FAILURE
}

impl Invocation {
    fn has(&self, verb: &str) -> bool {
        self.args.iter().any(|word| word == verb)
    }

    fn after(&self, flag: &str) -> Option<&str> {
        self.args.iter().skip_while(|word| *word != flag).nth(1).map(String::as_str)
    }

    fn truth(&self) -> Command {
        let mut command = Command::new(std::env::var_os(TRUTH).expect("the true runtime's path"));
        command.args(&self.args);
        command
    }

    fn bundle(&self) -> PathBuf {
        let root = Path::new(self.after("--root").expect("a state directory"));
        root.parent().expect("in the bundle").to_owned()
    }

    fn change_config(&self, change: impl FnOnce(&mut Value)) {
        let path = self.bundle().join("config.json");
        let text = fs::read_to_string(&path).expect("read config.json");
        let mut config = serde_json::from_str(&text).expect("JSON");
        change(&mut config);
        fs::write(path, config.to_string()).expect("write config.json");
    }

    /// As the true one does it, and then leaves something.
    fn delete(&self) -> ExitCode {
        if self.lie == Lie::Nothing {
            return ExitCode::SUCCESS;
        }
        let status = self.truth().status().expect("run the true runtime");
        let id = self.args.last().expect("an id");
        match self.lie {
            Lie::Process => {
                // By its command line it is the container's.
                let mut process = Command::new(ampoule_tests::probe());
                process.args(["sleep", "1000", ",", "cat", id]).process_group(0);
                process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                #[expect(clippy::zombie_processes, reason = "it is to be left")]
                process.spawn().expect("run the probe");
            }
            Lie::Cgroup => {
                let cgroups = ampoule_tests::Cgroups::of(Pid::this().as_raw());
                let dir = cgroups.dirs().next().expect("a hierarchy").join(id);
                fs::create_dir(dir).expect("make a cgroup");
            }
            Lie::Mount => {
                let target = self.bundle().join("out");
                let none = None::<&str>;
                let flags = nix::mount::MsFlags::empty();
                nix::mount::mount(Some("none"), &target, Some("tmpfs"), flags, none).expect("mount");
            }
            Lie::File => fs::write(self.bundle().join("tmp/left"), "").expect("write a file"),
            _ => {}
        }
        ExitCode::from(status.code().unwrap_or(1) as u8)
    }
}
