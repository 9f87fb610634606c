//! `ampoule-shim run`: leaves a shim in the background and asks it, as containerd would, for one container.

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

use super::home::{About, Home};
use crate::bundle::Config;
use crate::events::packed;

/// Where logs go by default, below the user's name for the container.
const LOGS: &str = "/var/log/ampoule";

#[derive(clap::Args)]
pub struct Run {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Write its output to this file [default: /var/log/ampoule/ID.log]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Put the log aside, as FILE.1, before it grows beyond so many bytes
    #[arg(long, value_name = "N")]
    log_size_max: Option<u64>,
    /// Give it an input for attach (a terminal always is one)
    #[arg(short, long)]
    interactive: bool,
    /// The container's name
    id: String,
}

pub fn run(args: &Run) -> Result<()> {
    let bundle =
        fs::canonicalize(&args.bundle).with_context(|| format!("bundle {}", args.bundle.display()))?;
    let config = Config::read(&bundle)?;
    let log = args.log.clone().unwrap_or_else(|| Path::new(LOGS).join(format!("{}.log", args.id)));
    let log = std::path::absolute(log).context("the log's path")?;
    let about = About { bundle, log, terminal: config.has_terminal() };
    let home = Home::make(&args.id, &about)?;
    let made = launch(&home).and_then(|()| ask(&home, &about, args));
    if made.is_err() {
        // The first error is the one to report, and the next `run` of that name tries again.
        let _ = fs::remove_dir_all(home.dir());
    }
    made.with_context(|| format!("run {}", args.id))
}

/// Starts the shim. It listens on its stdin, like one of containerd's.
fn launch(home: &Home) -> Result<()> {
    let listener = UnixListener::bind(home.path("socket")).context("make the shim's socket")?;
    fs::set_permissions(home.path("socket"), fs::Permissions::from_mode(0o600))
        .context("chmod the socket")?;
    let exe = std::env::current_exe().context("find the shim's program")?;
    let mut shim = Command::new(exe);
    shim.arg0(super::NAME).args(["keep", &home.id]).current_dir("/");
    shim.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(Stdio::null());
    shim.spawn().context("start the shim")?;
    Ok(())
}

/// Creates and starts the container.
fn ask(home: &Home, about: &About, args: &Run) -> Result<()> {
    let mut log = OsString::from("file://");
    log.push(&about.log);
    let mut log = log
        .into_string()
        .ok()
        .context("the log's path is not UTF-8")?
        .replace('%', "%25")
        .replace('?', "%3f");
    if let Some(most) = args.log_size_max {
        log += &format!("?max-size={most}");
    }
    let mut stdin = String::new();
    if args.interactive || about.terminal {
        nix::unistd::mkfifo(&home.path("stdin"), Mode::S_IRUSR | Mode::S_IWUSR)
            .context("make the input's fifo")?;
        stdin = home.path("stdin").to_string_lossy().into_owned();
    }
    let options = Options { root: default_root(None)?.to_string_lossy().into_owned(), ..Default::default() };
    let request = CreateTaskRequest {
        id: home.id.clone(),
        bundle: about.bundle.to_str().context("the bundle's path is not UTF-8")?.to_owned(),
        terminal: about.terminal,
        stdin,
        stdout: log.clone(),
        stderr: if about.terminal { String::new() } else { log },
        options: MessageField::some(packed("containerd.runc.v1", &options)),
        ..Default::default()
    };
    calls(home, async |tasks| {
        let started = async {
            tasks.create(context::Context::default(), &request).await?;
            let start = StartRequest { id: home.id.clone(), ..Default::default() };
            tasks.start(context::Context::default(), &start).await
        };
        let started = started.await.map(drop).map_err(plain);
        if started.is_err() {
            let delete =
                containerd_shim_protos::api::DeleteRequest { id: home.id.clone(), ..Default::default() };
            // The first error is the one to report.
            let _ = tasks.delete(context::Context::default(), &delete).await;
            let _ = tasks.shutdown(context::Context::default(), &ShutdownRequest::new()).await;
        }
        started
    })
}

/// The status's own words.
fn plain(error: ttrpc::Error) -> anyhow::Error {
    match error {
        ttrpc::Error::RpcStatus(status) => anyhow::anyhow!("{}", status.message),
        other => other.into(),
    }
}

/// Speaks to a container's shim.
///
/// # Errors
/// It is not there.
pub fn calls<T>(home: &Home, say: impl AsyncFnOnce(&TaskClient) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let address = format!("unix://{}", home.path("socket").display());
        let client =
            Client::connect(&address).await.with_context(|| format!("speak to the shim of {}", home.id))?;
        say(&TaskClient::new(client)).await
    })
}
