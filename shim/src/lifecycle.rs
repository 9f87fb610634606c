//! Create, start, exec, delete: what a process goes through, told to containerd step by step.

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

use crate::container::{Config, Container};
use crate::containers::Shim;
use crate::engine::{Engine, Made};
use crate::events::timestamp;
use crate::fault::{Answer, Fault};
use crate::process::Process;
use crate::reaper::{Child, Exit};
use crate::stdio::{Console, Io, Streams};
use crate::{log, options, rootfs};

/// How long an init that was killed with its container may take to end.
const END: Duration = Duration::from_secs(10);

/// Makes a container that waits to be started; its init's pid, or 0 when it will be restored.
///
/// # Errors
/// The id is taken; the options, the bundle, a mount or a stream is bad; the runtime's own. Then nothing is left.
pub async fn create(shim: &Arc<Shim>, request: CreateTaskRequest) -> Answer<i32> {
    let claim = shim.claim(&request.id)?;
    let bundle = Path::new(&request.bundle);
    let options = options::read(request.options.as_ref())?;
    let engine = Engine::new(&options, &shim.namespace)?;
    let config = Config::read(bundle)?;
    let notes = shim.notes.as_deref().unwrap_or(bundle);
    engine.save(notes)?;
    let streams = Streams {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    };
    let root = bundle.join("rootfs");
    rootfs::attach(&request.rootfs, &root, &shim.reaper).await?;
    let checkpoint = Some(&request.checkpoint).filter(|path| !path.is_empty());
    let made = match checkpoint {
        Some(_) => Ok((Io::default(), None)),
        None => {
            let make = Make { shim, engine: &engine, options: &options, bundle, notes, id: &request.id };
            make.process(&streams, What::Create).await.map(|(io, child)| (io, Some(child)))
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
    let init = Process::new("", streams, io, pid);
    let checkpoint = checkpoint.map(Into::into);
    let container =
        Arc::new(Container::new(&request.id, [bundle, notes], engine, options, init, &config, checkpoint));
    shim.add(container.clone());
    drop(claim);
    if child.is_some() {
        container.has_init(pid, &shim.events);
    }
    tell_created(shim, request, pid);
    if let Some(child) = child {
        shim.watch(&container, "", child);
    }
    Ok(pid)
}

fn tell_created(shim: &Shim, request: CreateTaskRequest, pid: i32) {
    let io = TaskIO {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        terminal: request.terminal,
        ..Default::default()
    };
    shim.events.tell(
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

/// A call of the runtime that leaves a process to the shim.
struct Make<'a> {
    shim: &'a Shim,
    engine: &'a Engine,
    options: &'a containerd_shim_protos::shim::oci::Options,
    bundle: &'a Path,
    notes: &'a Path,
    id: &'a str,
}

enum What<'a> {
    Create,
    Restore(&'a Path),
    Exec(&'a str, &'a [u8]),
}

impl<'a> Make<'a> {
    fn of(shim: &'a Shim, container: &'a Container) -> Make<'a> {
        let Container { engine, options, bundle, notes, id, .. } = container;
        Make { shim, engine, options, bundle, notes, id }
    }

    /// The process, and the shim's side of its streams.
    async fn process(&self, streams: &Streams, what: What<'_>) -> Result<(Io, Child)> {
        let is_exec = matches!(what, What::Exec(..));
        let owner = self.shim.owner(self.id, self.options, is_exec);
        let (mut io, ends) = Io::open(streams, &owner, &self.shim.reaper).await?;
        let socket = if streams.terminal { Some(Console::socket(self.notes)?) } else { None };
        let console = socket.as_ref().map(|socket| socket.path());
        let (bundle, notes, id, reaper) = (self.bundle, self.notes, self.id, &self.shim.reaper);
        let made = Made { bundle, notes, id, console: console.as_deref(), ends };
        let child = match what {
            What::Create => self.engine.create(reaper, made).await?,
            What::Restore(images) => self.engine.restore(reaper, made, images).await?,
            What::Exec(exec_id, spec) => self.engine.exec(reaper, made, exec_id, spec).await?,
        };
        let attached = socket.map_or(Ok(()), |socket| io.attach(socket.receive()?, streams));
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
            let mut call = self.engine.call(self.notes, "delete");
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
pub async fn start(shim: &Arc<Shim>, container: &Arc<Container>) -> Answer<i32> {
    let init = &container.init;
    init.begin()?;
    let started = start_init(shim, container).await;
    match &started {
        Ok(pid) => {
            init.started(*pid);
            let container_id = container.id.clone();
            shim.events.tell("start", &TaskStart { container_id, pid: *pid as u32, ..Default::default() });
        }
        Err(_) => init.not_started(),
    }
    shim.settle(container);
    Ok(started?)
}

async fn start_init(shim: &Arc<Shim>, container: &Arc<Container>) -> Result<i32> {
    let Some(images) = &container.checkpoint else {
        let mut call = container.engine.call(&container.notes, "start");
        call.command.arg(&container.id);
        call.run(&shim.reaper).await?;
        return Ok(container.init.pid());
    };
    let make = Make::of(shim, container);
    let (io, child) = make.process(&container.init.streams, What::Restore(images)).await?;
    *container.init.io() = io;
    let pid = child.pid;
    container.has_init(pid, &shim.events);
    shim.watch(container, "", child);
    Ok(pid)
}

/// Adds an exec that waits to be started.
///
/// # Errors
/// The id is taken, or the container has ended.
pub fn add_exec(shim: &Shim, container: &Container, request: ExecProcessRequest) -> Answer<()> {
    let streams = Streams {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        terminal: request.terminal,
    };
    let spec = request.spec.into_option().map(|any| any.value).unwrap_or_default();
    container.add_exec(&request.exec_id, streams, spec)?;
    let (container_id, exec_id) = (container.id.clone(), request.exec_id);
    shim.events.tell("exec-added", &TaskExecAdded { container_id, exec_id, ..Default::default() });
    Ok(())
}

/// Starts an exec; its pid.
///
/// # Errors
/// It was started before, or the container has ended; the runtime's own.
pub async fn start_exec(shim: &Arc<Shim>, container: &Arc<Container>, exec_id: &str) -> Answer<i32> {
    let exec = container.exec(exec_id)?;
    container.check_alive()?;
    exec.process.begin()?;
    let make = Make::of(shim, container);
    let made = make.process(&exec.process.streams, What::Exec(exec_id, &exec.spec)).await;
    let started = made.map(|(io, child)| {
        *exec.process.io() = io;
        exec.process.started(child.pid);
        let (container_id, exec_id) = (container.id.clone(), exec_id.to_owned());
        let pid = child.pid;
        shim.events.tell(
            "exec-started",
            &TaskExecStarted {
                container_id,
                exec_id: exec_id.clone(),
                pid: pid as u32,
                ..Default::default()
            },
        );
        shim.watch(container, &exec_id, child);
        pid
    });
    if started.is_err() {
        exec.process.not_started();
    }
    shim.settle(container);
    Ok(started?)
}

/// Removes a container that has ended, or was never started, with all that belongs to it; its pid and exit.
///
/// # Errors
/// It runs; the runtime's own; its root filesystem can't be unmounted.
pub async fn delete(shim: &Arc<Shim>, container: &Arc<Container>) -> Answer<(i32, Exit)> {
    let init = &container.init;
    if init.is_live() {
        return Err(Fault::precondition(format!("container {} is running", container.id)));
    }
    let mut call = container.engine.call(&container.notes, "delete");
    call.flag("--force", init.is_new());
    call.command.arg(&container.id);
    match call.run(&shim.reaper).await.map_err(Fault::from) {
        Err(e) if !e.is_not_found() => return Err(e),
        _ => {}
    }
    let exit = match tokio::time::timeout(END, end_of(init)).await {
        Ok(exit) => exit,
        Err(_) => {
            let text = format!("the init of {} is still there {END:?} after it was killed", container.id);
            return Err(Fault::precondition(text));
        }
    };
    container.close();
    rootfs::detach(&container.bundle.join("rootfs"))?;
    let file = container.notes.join("init.pid");
    absent(fs::remove_file(&file)).with_context(|| format!("remove {}", file.display()))?;
    shim.remove(&container.id);
    let pid = init.pid();
    shim.events.tell(
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
async fn end_of(init: &Process) -> Exit {
    if init.pid() == 0 { crate::engine::NEVER_RAN } else { init.wait().await }
}

/// Forgets an exec that has ended, or was never started; its pid and exit.
///
/// # Errors
/// It runs.
pub fn delete_exec(container: &Container, exec_id: &str) -> Answer<(i32, Exit)> {
    let exec = container.exec(exec_id)?;
    if exec.process.is_live() {
        return Err(Fault::precondition(format!("exec {exec_id} of {} is running", container.id)));
    }
    exec.process.io().delete();
    container.remove_exec(exec_id);
    Ok((exec.process.pid(), exec.process.exit().unwrap_or(crate::engine::NEVER_RAN)))
}
