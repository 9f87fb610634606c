//! A runtime's command line as typed calls: ours by default, or `BinaryName`, if it takes runc's flags.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use containerd_shim_protos::shim::oci;
use linux::absent::{absent, exists};
use linux::process::die_with_us;
use serde::{Deserialize, Serialize};

use crate::reaper::{Child, Exit, Expecting, Reaper};

/// Where runtimes keep their state for containerd, below their own name; runc's is what its users know.
const ROOTS: &str = "/run/containerd";

/// More than a runtime writes before its last line.
const MAX_LOG: u64 = 1 << 20;

/// In the bundle, for `delete`, which knows nothing else of a dead shim's container.
const FILE: &str = "ampoule-shim.json";

/// A runtime, and how it is called.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Engine {
    program: PathBuf,
    root: PathBuf,
    systemd_cgroup: bool,
    no_pivot: bool,
    no_new_keyring: bool,
    criu_work: PathBuf,
}

/// The three descriptors that a container's process begins with.
pub type Ends = [OwnedFd; 3];

/// What a call of `create`, `exec` or `restore` leaves to the shim.
pub struct Made<'a> {
    pub bundle: &'a Path,
    /// Where the shim's own files go: mostly the bundle, too.
    pub notes: &'a Path,
    pub id: &'a str,
    pub console: Option<&'a Path>,
    pub ends: Ends,
}

impl Engine {
    /// The runtime that the options name, with its state for one namespace of containerd's.
    ///
    /// # Errors
    /// Our own can't be looked for.
    pub fn new(options: &oci::Options, namespace: &str) -> Result<Engine> {
        let program = match options.binary_name.as_str() {
            "" => ours()?,
            name => name.into(),
        };
        let name = program.file_name().unwrap_or_default();
        let root = if options.root.is_empty() { Path::new(ROOTS).join(name) } else { (&options.root).into() };
        Ok(Engine {
            root: root.join(namespace),
            program,
            systemd_cgroup: options.systemd_cgroup,
            no_pivot: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
            criu_work: (&options.criu_work_path).into(),
        })
    }

    /// Leaves a note of itself.
    ///
    /// # Errors
    /// The directory can't be written to.
    pub fn save(&self, notes: &Path) -> Result<()> {
        let path = notes.join(FILE);
        fs::write(&path, serde_json::to_vec(self)?).with_context(|| format!("write {}", path.display()))
    }

    /// Reads the note. None: there is none, so nothing was created.
    ///
    /// # Errors
    /// It can't be read.
    pub fn load(notes: &Path) -> Result<Option<Engine>> {
        let path = notes.join(FILE);
        let bytes = absent(fs::read(&path)).with_context(|| format!("read {}", path.display()))?;
        let engine = bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose();
        engine.with_context(|| format!("read {}", path.display()))
    }

    /// A call, with an error log of its own: many may be under way at once.
    pub fn call(&self, notes: &Path, verb: &str) -> Call {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let log = notes.join(format!("log-{}.json", COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).arg("--log").arg(&log).args(["--log-format", "json"]);
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        // Meant for whoever started containerd.
        command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS").env_remove("LISTEN_PID");
        command.arg(verb).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Call { command, log, verb: verb.to_owned() }
    }

    /// `create`; the pid of the container's init.
    ///
    /// # Errors
    /// The runtime's own.
    pub async fn create(&self, reaper: &Arc<Reaper>, made: Made<'_>) -> Result<Child> {
        let mut call = self.call(made.notes, "create");
        call.command.arg("--bundle").arg(made.bundle);
        self.make(reaper, call, made, "init").await
    }

    /// `restore`, from the images in a directory.
    ///
    /// # Errors
    /// The runtime's own.
    pub async fn restore(&self, reaper: &Arc<Reaper>, made: Made<'_>, images: &Path) -> Result<Child> {
        let mut call = self.call(made.notes, "restore");
        call.command.args(["--detach", "--bundle"]).arg(made.bundle).arg("--image-path").arg(images);
        call.command.arg("--work-path").arg(self.criu_work(made.notes));
        self.make(reaper, call, made, "init").await
    }

    /// `exec` of the process that a JSON document describes.
    ///
    /// # Errors
    /// The runtime's own.
    pub async fn exec(
        &self,
        reaper: &Arc<Reaper>,
        made: Made<'_>,
        exec_id: &str,
        spec: &[u8],
    ) -> Result<Child> {
        let name = format!("exec-{exec_id}");
        let file = made.notes.join(format!("{name}.json"));
        fs::write(&file, spec).with_context(|| format!("write {}", file.display()))?;
        let mut call = self.call(made.notes, "exec");
        call.command.args(["--detach", "--process"]).arg(&file);
        let child = self.make(reaper, call, made, &name).await;
        // The next exec of that name writes it anew, and the bundle goes as a whole.
        let _ = fs::remove_file(&file);
        child
    }

    /// What the verbs that make a process have in common. The pid file's name is `NAME.pid`, and stays for an init.
    async fn make(&self, reaper: &Arc<Reaper>, mut call: Call, made: Made<'_>, name: &str) -> Result<Child> {
        let pid_file = made.notes.join(format!("{name}.pid"));
        call.command.arg("--pid-file").arg(&pid_file);
        if let Some(console) = made.console {
            call.command.arg("--console-socket").arg(console);
        }
        if name == "init" {
            call.flag("--no-pivot", self.no_pivot).flag("--no-new-keyring", self.no_new_keyring);
        }
        call.command.arg(made.id);
        let [stdin, stdout, stderr] = made.ends;
        call.command.stdin(stdin).stdout(stdout).stderr(stderr);
        let expecting = reaper.expect();
        call.run(reaper).await?;
        adopt(reaper, &pid_file, &expecting)
    }

    /// Its features document; None for a runtime that has none to tell.
    ///
    /// # Errors
    /// It can't be started.
    pub fn features(&self) -> Result<Option<Vec<u8>>> {
        let mut command = Command::new(&self.program);
        let answer = command.arg("features").stdin(Stdio::null()).output();
        let answer = answer.with_context(|| format!("start {}", self.program.display()))?;
        let is_document = serde_json::from_slice::<serde::de::IgnoredAny>(&answer.stdout).is_ok();
        Ok((answer.status.success() && is_document).then_some(answer.stdout))
    }

    /// Where CRIU may write: a directory that is there, unless it can't be made, which CRIU will tell.
    pub fn criu_work(&self, notes: &Path) -> PathBuf {
        let work =
            if self.criu_work.as_os_str().is_empty() { notes.join("work") } else { self.criu_work.clone() };
        // As said above.
        let _ = fs::create_dir_all(&work);
        work
    }
}

fn adopt(reaper: &Reaper, pid_file: &Path, expecting: &Expecting) -> Result<Child> {
    let text = fs::read_to_string(pid_file).with_context(|| format!("read {}", pid_file.display()))?;
    if !pid_file.ends_with("init.pid") {
        // As the exec's own file.
        let _ = fs::remove_file(pid_file);
    }
    let pid = text.trim().parse().with_context(|| format!("{}: {text:?} is no pid", pid_file.display()))?;
    reaper.adopt(pid, expecting)
}

/// Our runtime: beside the shim's own program, else on PATH.
fn ours() -> Result<PathBuf> {
    let beside = std::env::current_exe().context("find the shim's program")?.with_file_name("ampoule");
    let is_there = exists(&beside).with_context(|| format!("stat {}", beside.display()))?;
    Ok(if is_there { beside } else { "ampoule".into() })
}

/// One call of a runtime.
pub struct Call {
    pub command: Command,
    log: PathBuf,
    verb: String,
}

impl Call {
    /// Adds a flag, if it is wanted.
    pub fn flag(&mut self, name: &str, wanted: bool) -> &mut Call {
        if wanted {
            self.command.arg(name);
        }
        self
    }

    /// The name of a file in the bundle that no other call uses.
    pub fn beside(&self, what: &str) -> PathBuf {
        self.log.with_extension(what)
    }

    /// Makes the call, and waits for its end.
    ///
    /// # Errors
    /// The last error that the runtime logged, or that it can't be started.
    pub async fn run(mut self, reaper: &Reaper) -> Result<()> {
        // Or it would go on after the shim's `delete`, which is there to remove what it makes.
        die_with_us(&mut self.command);
        let child = reaper.spawn(&mut self.command).with_context(|| self.failed_start())?;
        // The container's own descriptors must not stay open here.
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let exit = child.end().await;
        self.outcome(exit.status)
    }

    /// The same in a program that has no reaper.
    ///
    /// # Errors
    /// As [`Call::run`].
    pub fn run_alone(mut self) -> Result<()> {
        let status = self.command.status().with_context(|| self.failed_start())?;
        self.outcome(status.code().unwrap_or(255) as u32)
    }

    fn failed_start(&self) -> String {
        format!("start {}", Path::new(self.command.get_program()).display())
    }

    fn outcome(self, status: u32) -> Result<()> {
        let said = last_error(&self.log);
        // The bundle goes as a whole.
        let _ = fs::remove_file(&self.log);
        if status == 0 {
            return Ok(());
        }
        let name = Path::new(self.command.get_program()).file_name().unwrap_or_default().to_string_lossy();
        match said {
            Some(text) => Err(anyhow!("{name}: {text}")),
            None => bail!("{name} {} ended with {status} and said nothing", self.verb),
        }
    }
}

/// For an error, and so without one of its own: the message of the last line that is one.
fn last_error(log: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        level: String,
        msg: String,
    }
    let mut text = String::new();
    // Then it has said nothing.
    File::open(log).ok()?.take(MAX_LOG).read_to_string(&mut text).ok()?;
    let mut lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines.find(|line| matches!(line.level.as_str(), "error" | "fatal" | "panic")).map(|line| line.msg)
}

/// A runtime that ended badly in the middle of a call leaves no exit of its own.
pub const NEVER_RAN: Exit = Exit { status: 255, at: std::time::UNIX_EPOCH };
