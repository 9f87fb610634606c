//! Create, start, exec, delete: what each does, and the events that it publishes.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_shim_protos::api::{CreateTaskRequest, ExecProcessRequest};
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskIO, TaskStart,
};
use containerd_shim_protos::protobuf::MessageField;
use linux::absent::absent;

use crate::bundle::Config;
use crate::container::{Container, Exec};
use crate::events::timestamp;
use crate::process::{Method, Process, ProcessRef};
use crate::reaper::{Child, Exit};
use crate::rpc_error::{RpcError, RpcResult};
use crate::runtime::{INIT_PID_FILE, Kind, ProcessOpts, Runtime, RuntimeError, options};
use crate::shim::Shim;
use crate::stdio::{Console, Owner, ProcessIo, StdioConfig};
use crate::{log, rootfs};

/// How long an init that was killed with its container may take to end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes a container that waits to be started; its init's pid, or 0 when it will be restored.
///
/// # Errors
/// The id is taken; the options, the bundle, a mount or a stream is bad; the runtime's own. Then nothing is left.
pub async fn create(shim: &Arc<Shim>, request: CreateTaskRequest) -> RpcResult<i32> {
    let claim = shim.claim(&request.id)?;
    let bundle = Path::new(&request.bundle);
    let options = options::read(request.options.as_ref())?;
    let runtime = Runtime::new(&options, &shim.namespace)?;
    let config = Config::read(bundle)?;
    let shim_dir = shim.dir.as_deref().unwrap_or(bundle);
    runtime.save(shim_dir)?;
    let stdio = StdioConfig {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    };
    let root = bundle.join("rootfs");
    rootfs::attach(&request.rootfs, &root, &shim.reaper).await?;
    let checkpoint = Some(&request.checkpoint).filter(|path| !path.is_empty());
    let made = match checkpoint {
        Some(_) => Ok((ProcessIo::default(), None)),
        None => {
            let launcher = Launcher {
                shim,
                runtime: &runtime,
                owner: Owner::of(&shim.namespace, &request.id, &options),
                bundle,
                shim_dir,
                id: &request.id,
            };
            launcher.launch(&stdio, Launch::Create).await.map(|(io, child)| (io, Some(child)))
        }
    };
    let (io, child) = match made {
        Ok(made) => made,
        Err(e) => {
            if let Err(e) = rootfs::detach(&root) {
                log::warning(format_args!("clean up after create {}: {e:#}", request.id));
            }
            return Err(e.into());
        }
    };
    let pid = child.as_ref().map_or(0, |child| child.pid);
    let init = Process::new(&request.id, ProcessRef::Init, stdio, io, pid);
    let checkpoint = checkpoint.map(Into::into);
    let dirs = [bundle, shim_dir];
    let container = Arc::new(Container::new(&request.id, dirs, runtime, options, init, &config, checkpoint));
    shim.add(container.clone());
    drop(claim);
    if child.is_some() {
        container.has_init(pid, &shim.events);
    }
    publish_create(shim, request, pid);
    if let Some(child) = child {
        shim.watch(&container, &container.init, child);
    }
    Ok(pid)
}

fn publish_create(shim: &Shim, request: CreateTaskRequest, pid: i32) {
    let io = TaskIO {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        terminal: request.terminal,
        ..Default::default()
    };
    shim.events.publish(
        "create",
        &TaskCreate {
            container_id: request.id,
            bundle: request.bundle,
            rootfs: request.rootfs,
            io: MessageField::some(io),
            checkpoint: request.checkpoint,
            pid: pid as u32,
            ..Default::default()
        },
    );
}

/// Has the runtime make processes in one container, which become children of the shim.
struct Launcher<'a> {
    shim: &'a Shim,
    runtime: &'a Runtime,
    owner: Owner<'a>,
    bundle: &'a Path,
    shim_dir: &'a Path,
    id: &'a str,
}

/// The verb of the runtime that makes a process.
#[derive(Clone, Copy)]
enum Launch<'a> {
    Create,
    Restore(&'a Path),
    Exec(&'a str, &'a [u8]),
}

impl<'a> Launcher<'a> {
    fn of(shim: &'a Shim, container: &'a Container) -> Launcher<'a> {
        let Container { runtime, options, bundle, shim_dir, id, .. } = container;
        Launcher { shim, runtime, owner: Owner::of(&shim.namespace, id, options), bundle, shim_dir, id }
    }

    /// The process, and the shim's side of its streams.
    async fn launch(&self, stdio: &StdioConfig, launch: Launch<'_>) -> Result<(ProcessIo, Child)> {
        let is_exec = matches!(launch, Launch::Exec(..));
        let reaper = &self.shim.reaper;
        let (mut io, child_stdio) = ProcessIo::open(stdio, &self.owner, is_exec, reaper).await?;
        let socket = if stdio.terminal { Some(Console::socket(self.shim_dir)?) } else { None };
        let console_socket = socket.as_ref().map(|socket| socket.path());
        let opts = ProcessOpts {
            bundle: self.bundle,
            shim_dir: self.shim_dir,
            id: self.id,
            console_socket: console_socket.as_deref(),
            stdio: child_stdio,
        };
        let child = match launch {
            Launch::Create => self.runtime.create(reaper, opts).await?,
            Launch::Restore(images) => self.runtime.restore(reaper, opts, images).await?,
            Launch::Exec(exec_id, spec) => self.runtime.exec(reaper, opts, exec_id, spec).await?,
        };
        let attached = socket.map_or(Ok(()), |socket| io.attach(socket.receive()?, stdio));
        if let Err(e) = attached {
            self.undo(child, is_exec).await;
            return Err(e);
        }
        Ok((io, child))
    }

    /// The runtime has done its part, and nobody will ask for what it made.
    async fn undo(&self, child: Child, is_exec: bool) {
        if is_exec {
            // It may have ended, and is waited for in any case.
            let _ = linux::process::kill(child.pid, libc::SIGKILL);
        } else {
            let mut call = self.runtime.call(self.shim_dir, "delete");
            call.command.args(["--force", self.id]);
            if let Err(e) = call.run(&self.shim.reaper).await {
                log::warning(format_args!("clean up after create {}: {e:#}", self.id));
            }
        }
        child.end().await;
    }
}

/// Starts a container's init; its pid.
///
/// # Errors
/// It was started before; the runtime's own.
pub async fn start(shim: &Arc<Shim>, container: &Arc<Container>) -> RpcResult<i32> {
    let init = &container.init;
    init.begin_start()?;
    let started = start_init(shim, container).await;
    match &started {
        Ok(pid) => {
            init.started(*pid);
            let container_id = container.id.clone();
            shim.events.publish("start", &TaskStart { container_id, pid: *pid as u32, ..Default::default() });
        }
        Err(_) => init.not_started(),
    }
    shim.publish_exits(container);
    Ok(started?)
}

async fn start_init(shim: &Arc<Shim>, container: &Arc<Container>) -> Result<i32> {
    let init = &container.init;
    let Some(images) = &container.checkpoint else {
        let mut call = container.call("start");
        call.command.arg(&container.id);
        call.run(&shim.reaper).await?;
        return Ok(init.pid());
    };
    let (io, child) = Launcher::of(shim, container).launch(&init.stdio, Launch::Restore(images)).await?;
    *init.io() = io;
    let pid = child.pid;
    container.has_init(pid, &shim.events);
    shim.watch(container, init, child);
    Ok(pid)
}

/// Adds an exec that waits to be started.
///
/// # Errors
/// The id is taken, or the container has ended.
pub fn add_exec(shim: &Shim, container: &Container, request: ExecProcessRequest) -> RpcResult<()> {
    let stdio = StdioConfig {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        terminal: request.terminal,
    };
    let spec = request.spec.into_option().map(|any| any.value).unwrap_or_default();
    container.add_exec(&request.exec_id, stdio, spec)?;
    let (container_id, exec_id) = (container.id.clone(), request.exec_id);
    shim.events.publish("exec-added", &TaskExecAdded { container_id, exec_id, ..Default::default() });
    Ok(())
}

/// Starts an exec; its pid.
///
/// # Errors
/// It was started before, or the container has ended; the runtime's own.
pub async fn start_exec(shim: &Arc<Shim>, container: &Arc<Container>, exec: &Exec) -> RpcResult<i32> {
    let process = &exec.process;
    container.init.check(Method::Exec)?;
    process.begin_start()?;
    let launch = Launch::Exec(process.which.exec_id(), &exec.spec);
    let started = Launcher::of(shim, container).launch(&process.stdio, launch).await.map(|(io, child)| {
        *process.io() = io;
        let pid = child.pid;
        process.started(pid);
        shim.events.publish(
            "exec-started",
            &TaskExecStarted {
                container_id: container.id.clone(),
                exec_id: process.which.exec_id().to_owned(),
                pid: pid as u32,
                ..Default::default()
            },
        );
        shim.watch(container, process, child);
        pid
    });
    if started.is_err() {
        process.not_started();
    }
    shim.publish_exits(container);
    Ok(started?)
}

/// Removes a container that has ended, or was never started, with all that belongs to it; its pid and exit.
///
/// # Errors
/// It runs; the runtime's own; its root filesystem can't be unmounted.
pub async fn delete(shim: &Arc<Shim>, container: &Arc<Container>) -> RpcResult<(i32, Exit)> {
    let init = &container.init;
    init.check(Method::Delete)?;
    let mut call = container.call("delete");
    call.flag("--force", init.is_created());
    call.command.arg(&container.id);
    match call.run(&shim.reaper).await {
        // Somebody has deleted it by hand.
        Err(RuntimeError::Failed { kind: Kind::NotFound, .. }) => {}
        deleted => deleted?,
    }
    let Ok(exit) = tokio::time::timeout(EXIT_TIMEOUT, exit_of(init)).await else {
        return Err(RpcError::failed_precondition(format!(
            "the init of {} is still there {EXIT_TIMEOUT:?} after it was killed",
            container.id
        )));
    };
    container.close();
    rootfs::detach(&container.bundle.join("rootfs"))?;
    let file = container.shim_dir.join(INIT_PID_FILE);
    absent(fs::remove_file(&file)).with_context(|| format!("remove {}", file.display()))?;
    shim.remove(&container.id);
    let pid = init.pid();
    shim.events.publish(
        "delete",
        &TaskDelete {
            container_id: container.id.clone(),
            pid: pid as u32,
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..Default::default()
        },
    );
    Ok((pid, exit))
}

/// The exit of an init that has ended or is about to; one that was never restored has none.
async fn exit_of(init: &Process) -> Exit {
    if init.pid() == 0 { Exit::NEVER_RAN } else { init.wait().await }
}

/// Forgets an exec that has ended, or was never started; its pid and exit.
///
/// # Errors
/// It runs.
pub fn delete_exec(container: &Container, exec: &Exec) -> RpcResult<(i32, Exit)> {
    let process = &exec.process;
    process.check(Method::Delete)?;
    process.io().delete();
    container.remove_exec(process.which.exec_id());
    Ok((process.pid(), process.exit().unwrap_or(Exit::NEVER_RAN)))
}
