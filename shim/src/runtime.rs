//! A runtime's command line as typed calls: ours by default, or `BinaryName`, if it takes runc's flags.

mod call;
mod error;
pub mod options;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use containerd_shim_protos::shim::oci;
use linux::absent::{absent, exists};
use serde::{Deserialize, Serialize};

pub use call::Call;
pub use error::{Kind, RuntimeError};

use crate::process::ProcessRef;
use crate::reaper::{Child, Expecting, Reaper};
use crate::stdio::ChildStdio;

/// Where runtimes keep their state for containerd, below their own name; runc's is what its users know.
const ROOTS: &str = "/run/containerd";

/// In the bundle, for `delete`, which knows nothing else of a dead shim's container.
const FILE: &str = "ampoule-shim.json";

/// In the bundle, as containerd's own shim has it: the pid of the init.
pub const INIT_PID_FILE: &str = "init.pid";

/// A runtime, and how it is called.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Runtime {
    program: PathBuf,
    root: PathBuf,
    systemd_cgroup: bool,
    no_pivot: bool,
    no_new_keyring: bool,
    criu_work: PathBuf,
}

/// What `create`, `exec` and `restore` have in common.
pub struct ProcessOpts<'a> {
    pub bundle: &'a Path,
    /// Where the shim's own files go: mostly the bundle, too.
    pub shim_dir: &'a Path,
    pub id: &'a str,
    pub console_socket: Option<&'a Path>,
    pub stdio: ChildStdio,
}

impl Runtime {
    /// The runtime that the options name, with its state for one namespace of containerd's.
    ///
    /// # Errors
    /// Our own can't be looked for.
    pub fn new(options: &oci::Options, namespace: &str) -> Result<Runtime> {
        let program = match options.binary_name.as_str() {
            "" => ours()?,
            name => name.into(),
        };
        let name = program.file_name().unwrap_or_default();
        let root = if options.root.is_empty() { Path::new(ROOTS).join(name) } else { (&options.root).into() };
        Ok(Runtime {
            root: root.join(namespace),
            program,
            systemd_cgroup: options.systemd_cgroup,
            no_pivot: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
            criu_work: (&options.criu_work_path).into(),
        })
    }

    /// Writes down how it is called.
    ///
    /// # Errors
    /// The directory can't be written to.
    pub fn save(&self, shim_dir: &Path) -> Result<()> {
        let path = shim_dir.join(FILE);
        fs::write(&path, serde_json::to_vec(self)?).with_context(|| format!("write {}", path.display()))
    }

    /// Reads what was written down. None: nothing was, so nothing was created.
    ///
    /// # Errors
    /// It can't be read.
    pub fn load(shim_dir: &Path) -> Result<Option<Runtime>> {
        let path = shim_dir.join(FILE);
        let bytes = absent(fs::read(&path)).with_context(|| format!("read {}", path.display()))?;
        let runtime = bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose();
        runtime.with_context(|| format!("read {}", path.display()))
    }

    /// A call, with an error log of its own: many may be under way at once.
    pub fn call(&self, shim_dir: &Path, verb: &str) -> Call {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let log = shim_dir.join(format!("log-{}.json", COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).arg("--log").arg(&log).args(["--log-format", "json"]);
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        // They are for whoever started containerd.
        command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS").env_remove("LISTEN_PID");
        command.arg(verb).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Call { command, log, verb: verb.to_owned() }
    }

    /// `create`; the init of the container.
    ///
    /// # Errors
    /// The runtime's own.
    pub async fn create(&self, reaper: &Arc<Reaper>, opts: ProcessOpts<'_>) -> Result<Child> {
        let mut call = self.call(opts.shim_dir, "create");
        call.command.arg("--bundle").arg(opts.bundle);
        self.spawn(reaper, call, opts, &ProcessRef::Init).await
    }

    /// `restore`, from the images in a directory.
    ///
    /// # Errors
    /// The runtime's own.
    pub async fn restore(&self, reaper: &Arc<Reaper>, opts: ProcessOpts<'_>, images: &Path) -> Result<Child> {
        let mut call = self.call(opts.shim_dir, "restore");
        call.command.args(["--detach", "--bundle"]).arg(opts.bundle).arg("--image-path").arg(images);
        call.command.arg("--work-path").arg(self.criu_work(opts.shim_dir));
        self.spawn(reaper, call, opts, &ProcessRef::Init).await
    }

    /// `exec` of the process that a JSON document describes.
    ///
    /// # Errors
    /// The runtime's own.
    pub async fn exec(
        &self,
        reaper: &Arc<Reaper>,
        opts: ProcessOpts<'_>,
        exec_id: &str,
        spec: &[u8],
    ) -> Result<Child> {
        let file = opts.shim_dir.join(format!("exec-{exec_id}.json"));
        fs::write(&file, spec).with_context(|| format!("write {}", file.display()))?;
        let mut call = self.call(opts.shim_dir, "exec");
        call.command.args(["--detach", "--process"]).arg(&file);
        let child = self.spawn(reaper, call, opts, &ProcessRef::Exec(exec_id.to_owned())).await;
        // The next exec of that name writes it anew, and the bundle goes as a whole.
        let _ = fs::remove_file(&file);
        child
    }

    /// The call of a verb that makes a process, which becomes the shim's child.
    async fn spawn(
        &self,
        reaper: &Arc<Reaper>,
        mut call: Call,
        opts: ProcessOpts<'_>,
        process: &ProcessRef,
    ) -> Result<Child> {
        let pid_file = opts.shim_dir.join(match process {
            ProcessRef::Init => INIT_PID_FILE.to_owned(),
            ProcessRef::Exec(id) => format!("exec-{id}.pid"),
        });
        call.command.arg("--pid-file").arg(&pid_file);
        if let Some(socket) = opts.console_socket {
            call.command.arg("--console-socket").arg(socket);
        }
        if *process == ProcessRef::Init {
            call.flag("--no-pivot", self.no_pivot).flag("--no-new-keyring", self.no_new_keyring);
        }
        call.command.arg(opts.id);
        let ChildStdio { stdin, stdout, stderr } = opts.stdio;
        call.command.stdin(stdin).stdout(stdout).stderr(stderr);
        let expecting = reaper.expect();
        call.run(reaper).await?;
        let child = adopt(reaper, &pid_file, &expecting);
        if *process != ProcessRef::Init {
            // The next exec of that name writes it anew.
            let _ = fs::remove_file(&pid_file);
        }
        child
    }

    /// Its features document; None for a runtime that has none to tell.
    ///
    /// # Errors
    /// It can't be started.
    pub fn features(&self) -> Result<Option<Vec<u8>>> {
        let mut command = Command::new(&self.program);
        let output = command.arg("features").stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("start {}", self.program.display()))?;
        let is_document = serde_json::from_slice::<serde::de::IgnoredAny>(&output.stdout).is_ok();
        Ok((output.status.success() && is_document).then_some(output.stdout))
    }

    /// Where CRIU may write: a directory that is there, unless it can't be made, which CRIU will tell.
    pub fn criu_work(&self, shim_dir: &Path) -> PathBuf {
        let work = if self.criu_work.as_os_str().is_empty() {
            shim_dir.join("work")
        } else {
            self.criu_work.clone()
        };
        // As said above.
        let _ = fs::create_dir_all(&work);
        work
    }
}

fn adopt(reaper: &Reaper, pid_file: &Path, expecting: &Expecting) -> Result<Child> {
    let text = fs::read_to_string(pid_file).with_context(|| format!("read {}", pid_file.display()))?;
    let pid = text.trim().parse().with_context(|| format!("{}: {text:?} is no pid", pid_file.display()))?;
    reaper.adopt(pid, expecting)
}

/// Our runtime: beside the shim's own program, else on PATH.
fn ours() -> Result<PathBuf> {
    let beside = std::env::current_exe().context("find the shim's program")?.with_file_name("ampoule");
    let is_there = exists(&beside).with_context(|| format!("stat {}", beside.display()))?;
    Ok(if is_there { beside } else { "ampoule".into() })
}
