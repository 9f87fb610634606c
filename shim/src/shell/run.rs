//! `ampoule-shim run`: leaves a monitor in the background and has it, as containerd would, make one container.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use containerd_shim_protos::api::{CreateTaskRequest, ShutdownRequest, StartRequest};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::shim::oci::Options;
use containerd_shim_protos::shim_async::{Client, TaskClient};
use containerd_shim_protos::ttrpc::{self, context};
use interface::root::default_root;
use nix::sys::stat::Mode;

use super::container_dir::{About, ContainerDir};
use crate::bundle::Config;
use crate::events::packed;

/// Where logs go by default, below the user's name for the container.
const LOGS: &str = "/var/log/ampoule";

#[derive(clap::Args)]
pub struct Run {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Write the container's output to this file [default: /var/log/ampoule/ID.log]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Rotate the log, to FILE.1, before it grows beyond so many bytes
    #[arg(long, value_name = "BYTES")]
    log_size_max: Option<u64>,
    /// Keep the container's stdin open for attach (a terminal's always is)
    #[arg(short, long)]
    interactive: bool,
    /// The container's ID
    id: String,
}

pub fn run(args: &Run) -> Result<()> {
    let bundle =
        fs::canonicalize(&args.bundle).with_context(|| format!("bundle {}", args.bundle.display()))?;
    let config = Config::read(&bundle)?;
    let log = args.log.clone().unwrap_or_else(|| Path::new(LOGS).join(format!("{}.log", args.id)));
    let log = std::path::absolute(log).context("the log's path")?;
    let about = About { bundle, log, terminal: config.has_terminal() };
    let dir = ContainerDir::make(&args.id, &about)?;
    let made = start_monitor(&dir).and_then(|()| create_and_start(&dir, &about, args));
    if made.is_err() {
        // The first error is the one to report, and the next `run` of that name tries again.
        let _ = fs::remove_dir_all(dir.path());
    }
    made.with_context(|| format!("run {}", args.id))
}

/// Starts the monitor. It listens on its stdin, like a shim of containerd's.
fn start_monitor(dir: &ContainerDir) -> Result<()> {
    let listener = UnixListener::bind(dir.file("socket")).context("make the monitor's socket")?;
    fs::set_permissions(dir.file("socket"), fs::Permissions::from_mode(0o600)).context("chmod the socket")?;
    let exe = std::env::current_exe().context("find the shim's program")?;
    let mut monitor = Command::new(exe);
    monitor.arg0(super::NAME).args(["monitor", &dir.id]).current_dir("/");
    monitor.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(Stdio::null());
    monitor.spawn().context("start the monitor")?;
    Ok(())
}

/// Creates and starts the container.
fn create_and_start(dir: &ContainerDir, about: &About, args: &Run) -> Result<()> {
    let mut log = OsString::from("file://");
    log.push(&about.log);
    let mut log = log
        .into_string()
        .ok()
        .context("the log's path is not UTF-8")?
        .replace('%', "%25")
        .replace('?', "%3f");
    if let Some(max_size) = args.log_size_max {
        log += &format!("?max-size={max_size}");
    }
    let mut stdin = String::new();
    if args.interactive || about.terminal {
        nix::unistd::mkfifo(&dir.file("stdin"), Mode::S_IRUSR | Mode::S_IWUSR)
            .context("make the fifo for stdin")?;
        stdin = dir.file("stdin").to_string_lossy().into_owned();
    }
    let options = Options { root: default_root(None)?.to_string_lossy().into_owned(), ..Default::default() };
    let request = CreateTaskRequest {
        id: dir.id.clone(),
        bundle: about.bundle.to_str().context("the bundle's path is not UTF-8")?.to_owned(),
        terminal: about.terminal,
        stdin,
        stdout: log.clone(),
        stderr: if about.terminal { String::new() } else { log },
        options: MessageField::some(packed("containerd.runc.v1", &options)),
        ..Default::default()
    };
    with_client(dir, async |tasks| {
        let started = async {
            tasks.create(context::Context::default(), &request).await?;
            let start = StartRequest { id: dir.id.clone(), ..Default::default() };
            tasks.start(context::Context::default(), &start).await
        };
        let started = started.await.map(drop).map_err(without_code);
        if started.is_err() {
            let delete =
                containerd_shim_protos::api::DeleteRequest { id: dir.id.clone(), ..Default::default() };
            // The first error is the one to report.
            let _ = tasks.delete(context::Context::default(), &delete).await;
            let _ = tasks.shutdown(context::Context::default(), &ShutdownRequest::new()).await;
        }
        started
    })
}

/// The text of an error, for people.
fn without_code(error: ttrpc::Error) -> anyhow::Error {
    match error {
        ttrpc::Error::RpcStatus(status) => anyhow::anyhow!("{}", status.message),
        other => other.into(),
    }
}

/// Calls a container's monitor.
///
/// # Errors
/// It is not there.
pub fn with_client<T>(dir: &ContainerDir, call: impl AsyncFnOnce(&TaskClient) -> Result<T>) -> Result<T> {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    executor.block_on(async {
        let address = format!("unix://{}", dir.file("socket").display());
        let client = Client::connect(&address)
            .await
            .with_context(|| format!("connect to the monitor of {}", dir.id))?;
        call(&TaskClient::new(client)).await
    })
}
