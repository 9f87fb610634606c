//! The programs under test, and those that the tests need: where each is, or how to come by it.

use crate::place;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A runtime with runc's command line, chosen by the environment variable `RUNTIME`: a name on PATH or a
/// path; `target/bin/ampoule` of this workspace when unset.
#[derive(Debug)]
pub struct Runtime {
    program: PathBuf,
    name: String,
    version: String,
}

impl Runtime {
    /// The engine of this run. Panics with the way out when it cannot be run.
    pub fn get() -> &'static Self {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        RUNTIME.get_or_init(Self::find)
    }

    fn find() -> Self {
        let wanted = std::env::var("RUNTIME").unwrap_or_else(|_| "target/bin/ampoule".into());
        // A bare name is looked up on PATH; a relative path means the workspace, wherever tests are run.
        let program = if wanted.contains('/') { workspace().join(&wanted) } else { wanted.into() };
        let output = Command::new(&program).arg("--version").output().unwrap_or_else(|e| {
            panic!("run {} --version: {e}; build it with `make build`, or set RUNTIME", program.display())
        });
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = text.split_whitespace();
        let name =
            words.next().unwrap_or_else(|| panic!("{} --version says nothing", program.display())).to_owned();
        let version = words.find(|w| *w != "version").unwrap_or("").to_owned();
        Self { program, name, version }
    }

    /// The program's path, or its name on PATH.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// What the program calls itself: `ampoule`, `runc`, `crun`, `youki`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version, as it prints it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Flags that stand before every verb: in the places of the test machine that are systemd's, its cgroup driver's.
    pub fn flags(&self) -> &'static [&'static str] {
        match place().as_str() {
            // An ordinary user has no other way to a cgroup of their own.
            "v2-systemd" | "v2-user" => &["--systemd-cgroup"],
            _ => &[],
        }
    }

    /// Whether this is our own runtime, held to every promise; others are held to what they support.
    pub fn is_ampoule(&self) -> bool {
        self.name == "ampoule"
    }
}

/// The top of the source tree.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live inside the workspace")
}

/// What a variable names, relative to the top of the source tree, or what `make TARGET` builds there. Panics with the way out
/// when there is none.
fn built(variable: Option<&str>, default: &str, target: &str) -> PathBuf {
    let named = variable.and_then(|variable| std::env::var(variable).ok());
    let path = workspace().join(named.as_deref().unwrap_or(default));
    let or_set = variable.map(|variable| format!(", or set {variable}")).unwrap_or_default();
    assert!(path.exists(), "no {}; build it with `make {target}`{or_set}", path.display());
    path
}

/// `ampoule-bundle`.
pub fn bundle_tool() -> PathBuf {
    built(None, "target/bin/ampoule-bundle", "build")
}

/// The shim: `SHIM`, or what `make shim` builds.
pub fn shim_program() -> PathBuf {
    built(Some("SHIM"), "target/bin/containerd-shim-ampoule-v2", "shim")
}

/// The PID 1 of pods: `PAUSE`, or what `make pause` builds.
pub fn pause() -> PathBuf {
    built(Some("PAUSE"), "target/bin/pause", "pause")
}

/// The image archive with pause in it.
pub fn pause_image() -> PathBuf {
    built(None, "target/pause.tar", "image")
}

/// The static program that answers questions from inside a container (`bin/probe`): `PROBE`, or what `make suite` builds.
pub fn probe() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| built(Some("PROBE"), "target/suite/probe", "suite"))
}

/// Where PATH has a program.
pub fn on_path(name: impl AsRef<Path>) -> Option<PathBuf> {
    let name = name.as_ref();
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}
