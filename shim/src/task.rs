//! The task service, versions 2 and 3, whose messages are the same: one thin function for each of its 17 calls.
//!
//! ttrpc drops a handler when its client goes away or its time is up. Work that changes something must not stop halfway,
//! so it goes on by itself, and the handler only waits for it.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context;
use async_trait::async_trait;
use containerd_shim_protos::api::*;
use containerd_shim_protos::events::task::{TaskCheckpointed, TaskPaused, TaskResumed};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{EnumOrUnknown, Message, MessageField};
use containerd_shim_protos::shim::oci::{CheckpointOptions, ProcessDetails};
use containerd_shim_protos::shim_async::{Task, create_task};
use containerd_shim_protos::ttrpc::Result;
use containerd_shim_protos::ttrpc::r#async::{Service, TtrpcContext};

use crate::container::Container;
use crate::events::{packed, timestamp};
use crate::process::{Method, Process, ProcessRef};
use crate::reaper::Exit;
use crate::rpc_error::{RpcError, RpcResult};
use crate::shim::Shim;
use crate::{lifecycle, stats};

/// The service.
struct Tasks(Arc<Shim>);

/// The service under both of its names.
pub fn services(shim: &Arc<Shim>) -> HashMap<String, Service> {
    let make = || create_task(Arc::new(Tasks(shim.clone())));
    let older = make().into_values().map(|service| ("containerd.task.v2.Task".to_owned(), service));
    make().into_iter().chain(older).collect()
}

/// Does something to its end, whoever still waits for that.
async fn to_its_end<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = RpcResult<T>> + Send + 'static,
{
    let done = tokio::spawn(work).await;
    Ok(done.map_err(|e| RpcError::from(anyhow::anyhow!("the call was lost: {e}")))??)
}

fn exited_at(exit: Exit) -> MessageField<Timestamp> {
    MessageField::some(timestamp(exit.at))
}

#[async_trait]
impl Task for Tasks {
    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Result<StateResponse> {
        let container = self.0.container(&request.id)?;
        let process = container.process(&request.exec_id.into())?;
        Ok(state(&container, &process))
    }

    async fn create(&self, _: &TtrpcContext, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        let shim = self.0.clone();
        let pid = to_its_end(async move { lifecycle::create(&shim, request).await }).await?;
        Ok(CreateTaskResponse { pid: pid as u32, ..Default::default() })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> Result<StartResponse> {
        let (shim, container) = (self.0.clone(), self.0.container(&request.id)?);
        let pid = to_its_end(async move {
            match request.exec_id.into() {
                ProcessRef::Init => lifecycle::start(&shim, &container).await,
                ProcessRef::Exec(id) => {
                    let exec = container.exec(&id)?;
                    lifecycle::start_exec(&shim, &container, &exec).await
                }
            }
        });
        Ok(StartResponse { pid: pid.await? as u32, ..Default::default() })
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Result<DeleteResponse> {
        let (shim, container) = (self.0.clone(), self.0.container(&request.id)?);
        let (pid, exit) = to_its_end(async move {
            match request.exec_id.into() {
                ProcessRef::Init => lifecycle::delete(&shim, &container).await,
                ProcessRef::Exec(id) => lifecycle::delete_exec(&container, &*container.exec(&id)?),
            }
        })
        .await?;
        let (pid, exit_status) = (pid as u32, exit.status);
        Ok(DeleteResponse { pid, exit_status, exited_at: exited_at(exit), ..Default::default() })
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Result<PidsResponse> {
        let container = self.0.container(&request.id)?;
        let execs: HashMap<i32, Any> =
            container.execs().iter().map(|exec| (exec.process.pid(), details(&exec.process))).collect();
        let process = |pid: i32| {
            let info = execs.get(&pid).cloned().into();
            ProcessInfo { pid: pid as u32, info, ..Default::default() }
        };
        let mut pids = container.pids()?;
        if pids.is_empty() {
            // A containerd that comes back takes a shim without processes for a leaked one and ends it, and the exit
            // that came in between with it (since 1.7: core/runtime/v2/shim_load.go, for containerd#6860).
            pids.push(container.init.pid());
        }
        let processes = pids.into_iter().map(process).collect();
        Ok(PidsResponse { processes, ..Default::default() })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> Result<Empty> {
        let (shim, container) = (self.0.clone(), self.0.container(&request.id)?);
        to_its_end(async move {
            simple(&shim, &container, "pause").await?;
            container.paused.store(true, Ordering::Relaxed);
            shim.events.publish("paused", &TaskPaused { container_id: request.id, ..Default::default() });
            Ok(Empty::new())
        })
        .await
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> Result<Empty> {
        let (shim, container) = (self.0.clone(), self.0.container(&request.id)?);
        to_its_end(async move {
            simple(&shim, &container, "resume").await?;
            container.paused.store(false, Ordering::Relaxed);
            shim.events.publish("resumed", &TaskResumed { container_id: request.id, ..Default::default() });
            Ok(Empty::new())
        })
        .await
    }

    async fn checkpoint(&self, _: &TtrpcContext, request: CheckpointTaskRequest) -> Result<Empty> {
        let (shim, container) = (self.0.clone(), self.0.container(&request.id)?);
        to_its_end(async move { checkpoint(&shim, &container, request).await }).await
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Result<Empty> {
        let (shim, container) = (self.0.clone(), self.0.container(&request.id)?);
        to_its_end(async move { signal(&shim, &container, request).await }).await
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Result<Empty> {
        let container = self.0.container(&request.id)?;
        lifecycle::add_exec(&self.0, &container, request)?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Result<Empty> {
        let container = self.0.container(&request.id)?;
        let side = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
        let process = container.process(&request.exec_id.into())?;
        // As containerd's own shim: who asks too early, or in vain, need not know.
        if let Some(console) = process.io().console() {
            console.resize(side(request.width), side(request.height)).map_err(RpcError::from)?;
        }
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Result<Empty> {
        let container = self.0.container(&request.id)?;
        if request.stdin {
            container.process(&request.exec_id.into())?.io().close_stdin();
        }
        Ok(Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> Result<Empty> {
        let (shim, container) = (self.0.clone(), self.0.container(&request.id)?);
        to_its_end(async move { update(&shim, &container, request).await }).await
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Result<WaitResponse> {
        let container = self.0.container(&request.id)?;
        // Nothing to be finished here: a client that goes away stops waiting.
        let exit = container.process(&request.exec_id.into())?.wait().await;
        let exit_status = exit.status;
        Ok(WaitResponse { exit_status, exited_at: exited_at(exit), ..Default::default() })
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Result<StatsResponse> {
        let container = self.0.container(&request.id)?;
        let stats = stats::read(container.cgroups()?).map_err(RpcError::from)?;
        let stats = MessageField::some(stats);
        Ok(StatsResponse { stats, ..Default::default() })
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> Result<ConnectResponse> {
        // Asked about none, or one that isn't there yet, a shim tells its own pid.
        let container = if request.id.is_empty() { self.0.any() } else { self.0.container(&request.id).ok() };
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: container.map_or(0, |container| container.init.pid() as u32),
            ..Default::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> Result<Empty> {
        // Of a pod's containers each is shut down; the last one is meant.
        if self.0.is_empty() {
            self.0.shutdown.notify_one();
        }
        Ok(Empty::new())
    }
}

fn state(container: &Container, process: &Process) -> StateResponse {
    let exit = process.exit();
    let status = match process.status() {
        Status::RUNNING if container.is_paused() => Status::PAUSED,
        status => status,
    };
    let stdio = &process.stdio;
    StateResponse {
        id: container.id.clone(),
        bundle: container.bundle.to_string_lossy().into_owned(),
        pid: process.pid() as u32,
        status: EnumOrUnknown::new(status),
        stdin: stdio.stdin.clone(),
        stdout: stdio.stdout.clone(),
        stderr: stdio.stderr.clone(),
        terminal: stdio.terminal,
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: exit.map(|exit| timestamp(exit.at)).into(),
        exec_id: process.which.exec_id().to_owned(),
        ..Default::default()
    }
}

fn details(process: &Process) -> Any {
    let exec_id = process.which.exec_id().to_owned();
    packed("containerd.runc.v1", &ProcessDetails { exec_id, ..Default::default() })
}

/// A verb that takes nothing but the id.
async fn simple(shim: &Shim, container: &Container, verb: &str) -> RpcResult<()> {
    let mut call = container.call(verb);
    call.command.arg(&container.id);
    Ok(call.run(&shim.reaper).await?)
}

async fn signal(shim: &Shim, container: &Container, request: KillRequest) -> RpcResult<Empty> {
    if let ProcessRef::Exec(id) = request.exec_id.into() {
        return signal_exec(&container.exec(&id)?.process, request.signal as i32);
    }
    let init = &container.init;
    if !request.all {
        init.check(Method::KillInit)?;
    }
    // Or it might be taken for one that the kernel kills with another of its slice.
    container.publish_oom(false);
    let mut call = container.call("kill");
    call.flag("--all", request.all);
    call.command.arg(&container.id).arg(request.signal.to_string());
    if let Err(e) = call.run(&shim.reaper).await {
        // It may have ended concurrently, which is the better reason.
        init.check(Method::KillInit)?;
        return Err(e.into());
    }
    Ok(Empty::new())
}

fn signal_exec(process: &Process, signal: i32) -> RpcResult<Empty> {
    process.check(Method::KillExec)?;
    linux::process::kill(process.pid(), signal)
        .map_err(|e| RpcError::invalid_argument(format!("signal {signal}: {e}")))?;
    Ok(Empty::new())
}

async fn update(shim: &Shim, container: &Container, request: UpdateTaskRequest) -> RpcResult<Empty> {
    let resources = request
        .resources
        .into_option()
        .ok_or_else(|| RpcError::invalid_argument("update without resources"))?;
    let mut call = container.call("update");
    let file = call.file("resources");
    fs::write(&file, &resources.value).with_context(|| format!("write {}", file.display()))?;
    call.command.arg("--resources").arg(&file).arg(&container.id);
    let done = call.run(&shim.reaper).await;
    // The bundle goes as a whole.
    let _ = fs::remove_file(&file);
    done?;
    Ok(Empty::new())
}

async fn checkpoint(shim: &Shim, container: &Container, request: CheckpointTaskRequest) -> RpcResult<Empty> {
    let options = match request.options.as_ref() {
        Some(any) => CheckpointOptions::parse_from_bytes(&any.value)
            .map_err(|e| RpcError::invalid_argument(format!("the checkpoint's options: {e}")))?,
        None => CheckpointOptions::new(),
    };
    let given = |path: &str| Some(PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty());
    let images = given(&options.image_path).unwrap_or_else(|| (&request.path).into());
    let work = given(&options.work_path).unwrap_or_else(|| container.runtime.criu_work(&container.shim_dir));
    let mut call = container.call("checkpoint");
    call.command.arg("--image-path").arg(&images).arg("--work-path").arg(&work);
    call.flag("--leave-running", !options.exit)
        .flag("--tcp-established", options.open_tcp)
        .flag("--ext-unix-sk", options.external_unix_sockets)
        .flag("--shell-job", options.terminal)
        .flag("--file-locks", options.file_locks);
    for namespace in &options.empty_namespaces {
        call.command.args(["--empty-ns", namespace]);
    }
    if !options.cgroups_mode.is_empty() {
        call.command.args(["--manage-cgroups-mode", &options.cgroups_mode]);
    }
    call.command.arg(&container.id);
    call.run(&shim.reaper).await?;
    let (container_id, checkpoint) = (request.id, images.to_string_lossy().into_owned());
    shim.events.publish("checkpointed", &TaskCheckpointed { container_id, checkpoint, ..Default::default() });
    Ok(Empty::new())
}
