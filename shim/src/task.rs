//! The task service, versions 2 and 3, whose messages are the same: one thin function for each of its 17 calls.
//!
//! ttrpc drops a handler when its client goes away or its time is up. Work that changes something must not stop halfway,
//! so it goes on by itself, and the handler only waits for it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
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
use crate::containers::Shim;
use crate::events::{packed, timestamp};
use crate::fault::{Answer, Fault};
use crate::lifecycle;
use crate::process::Process;
use crate::reaper::Exit;
use crate::stats;

/// The service.
struct Tasks(Arc<Shim>);

/// The service under both of its names.
pub fn services(shim: &Arc<Shim>) -> HashMap<String, Service> {
    let make = || create_task(Arc::new(Tasks(shim.clone())));
    let older = make().into_values().map(|service| ("containerd.task.v2.Task".to_owned(), service));
    make().into_iter().chain(older).collect()
}

/// Does something to its end, whoever still waits for that.
async fn whole<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Answer<T>> + Send + 'static,
{
    let done = tokio::spawn(work).await;
    Ok(done.map_err(|e| Fault::from(anyhow::anyhow!("the call was lost: {e}")))??)
}

fn exited_at(exit: Exit) -> MessageField<Timestamp> {
    MessageField::some(timestamp(exit.at))
}

#[async_trait]
impl Task for Tasks {
    async fn state(&self, _: &TtrpcContext, wanted: StateRequest) -> Result<StateResponse> {
        let container = self.0.container(&wanted.id)?;
        Ok(container.with(&wanted.exec_id, |process| state(&container, process))?)
    }

    async fn create(&self, _: &TtrpcContext, wanted: CreateTaskRequest) -> Result<CreateTaskResponse> {
        let shim = self.0.clone();
        let pid = whole(async move { lifecycle::create(&shim, wanted).await }).await?;
        Ok(CreateTaskResponse { pid: pid as u32, ..Default::default() })
    }

    async fn start(&self, _: &TtrpcContext, wanted: StartRequest) -> Result<StartResponse> {
        let (shim, container) = (self.0.clone(), self.0.container(&wanted.id)?);
        let pid = whole(async move {
            match wanted.exec_id.as_str() {
                "" => lifecycle::start(&shim, &container).await,
                exec_id => lifecycle::start_exec(&shim, &container, exec_id).await,
            }
        });
        Ok(StartResponse { pid: pid.await? as u32, ..Default::default() })
    }

    async fn delete(&self, _: &TtrpcContext, wanted: DeleteRequest) -> Result<DeleteResponse> {
        let (shim, container) = (self.0.clone(), self.0.container(&wanted.id)?);
        let (pid, exit) = whole(async move {
            match wanted.exec_id.as_str() {
                "" => lifecycle::delete(&shim, &container).await,
                exec_id => lifecycle::delete_exec(&container, exec_id),
            }
        })
        .await?;
        let (pid, exit_status) = (pid as u32, exit.status);
        Ok(DeleteResponse { pid, exit_status, exited_at: exited_at(exit), ..Default::default() })
    }

    async fn pids(&self, _: &TtrpcContext, wanted: PidsRequest) -> Result<PidsResponse> {
        let container = self.0.container(&wanted.id)?;
        let execs: HashMap<i32, String> =
            container.execs().iter().map(|e| (e.process.pid(), e.process.exec_id.clone())).collect();
        let process = |pid: i32| {
            let details = execs.get(&pid).map(|exec_id| details(exec_id));
            ProcessInfo { pid: pid as u32, info: details.into(), ..Default::default() }
        };
        let mut pids = container.pids()?;
        if pids.is_empty() {
            // A containerd that comes back takes a shim without processes for a leaked one and ends it, and the exit
            // that came meanwhile with it (since 1.7: core/runtime/v2/shim_load.go, for containerd#6860).
            pids.push(container.init.pid());
        }
        let processes = pids.into_iter().map(process).collect();
        Ok(PidsResponse { processes, ..Default::default() })
    }

    async fn pause(&self, _: &TtrpcContext, wanted: PauseRequest) -> Result<Empty> {
        let (shim, container) = (self.0.clone(), self.0.container(&wanted.id)?);
        whole(async move {
            simple(&shim, &container, "pause").await?;
            container.paused.store(true, Ordering::Relaxed);
            shim.events.tell("paused", &TaskPaused { container_id: wanted.id, ..Default::default() });
            Ok(Empty::new())
        })
        .await
    }

    async fn resume(&self, _: &TtrpcContext, wanted: ResumeRequest) -> Result<Empty> {
        let (shim, container) = (self.0.clone(), self.0.container(&wanted.id)?);
        whole(async move {
            simple(&shim, &container, "resume").await?;
            container.paused.store(false, Ordering::Relaxed);
            shim.events.tell("resumed", &TaskResumed { container_id: wanted.id, ..Default::default() });
            Ok(Empty::new())
        })
        .await
    }

    async fn checkpoint(&self, _: &TtrpcContext, wanted: CheckpointTaskRequest) -> Result<Empty> {
        let (shim, container) = (self.0.clone(), self.0.container(&wanted.id)?);
        whole(async move { checkpoint(&shim, &container, wanted).await }).await
    }

    async fn kill(&self, _: &TtrpcContext, wanted: KillRequest) -> Result<Empty> {
        let (shim, container) = (self.0.clone(), self.0.container(&wanted.id)?);
        whole(async move { signal(&shim, &container, wanted).await }).await
    }

    async fn exec(&self, _: &TtrpcContext, wanted: ExecProcessRequest) -> Result<Empty> {
        let container = self.0.container(&wanted.id)?;
        lifecycle::add_exec(&self.0, &container, wanted)?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, wanted: ResizePtyRequest) -> Result<Empty> {
        let container = self.0.container(&wanted.id)?;
        let side = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
        let resize = |process: &Process| match process.io().console() {
            Some(console) => Ok(console.resize(side(wanted.width), side(wanted.height))?),
            // As containerd's own shim: who asks too early, or in vain, need not know.
            None => Ok::<_, Fault>(()),
        };
        container.with(&wanted.exec_id, resize)??;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, wanted: CloseIORequest) -> Result<Empty> {
        let container = self.0.container(&wanted.id)?;
        if wanted.stdin {
            container.with(&wanted.exec_id, |process| process.io().close_stdin())?;
        }
        Ok(Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, wanted: UpdateTaskRequest) -> Result<Empty> {
        let (shim, container) = (self.0.clone(), self.0.container(&wanted.id)?);
        whole(async move { update(&shim, &container, wanted).await }).await
    }

    async fn wait(&self, _: &TtrpcContext, wanted: WaitRequest) -> Result<WaitResponse> {
        let container = self.0.container(&wanted.id)?;
        // Nothing to be finished here: a client that goes away stops waiting.
        let exit = match wanted.exec_id.as_str() {
            "" => container.init.wait().await,
            exec_id => container.exec(exec_id)?.process.wait().await,
        };
        let exit_status = exit.status;
        Ok(WaitResponse { exit_status, exited_at: exited_at(exit), ..Default::default() })
    }

    async fn stats(&self, _: &TtrpcContext, wanted: StatsRequest) -> Result<StatsResponse> {
        let container = self.0.container(&wanted.id)?;
        let stats = stats::read(container.cgroups()?).map_err(Fault::from)?;
        let stats = MessageField::some(stats);
        Ok(StatsResponse { stats, ..Default::default() })
    }

    async fn connect(&self, _: &TtrpcContext, wanted: ConnectRequest) -> Result<ConnectResponse> {
        // Asked about none, or one that isn't there yet, a shim tells its own pid.
        let container = if wanted.id.is_empty() { self.0.any() } else { self.0.container(&wanted.id).ok() };
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: container.map_or(0, |container| container.init.pid() as u32),
            ..Default::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> Result<Empty> {
        // Of a pod's containers each is shut down; the last one is meant.
        if self.0.is_empty() {
            self.0.over.notify_one();
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
    let streams = &process.streams;
    StateResponse {
        id: container.id.clone(),
        bundle: container.bundle.to_string_lossy().into_owned(),
        pid: process.pid() as u32,
        status: EnumOrUnknown::new(status),
        stdin: streams.stdin.clone(),
        stdout: streams.stdout.clone(),
        stderr: streams.stderr.clone(),
        terminal: streams.terminal,
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: exit.map(|exit| timestamp(exit.at)).into(),
        exec_id: process.exec_id.clone(),
        ..Default::default()
    }
}

fn details(exec_id: &str) -> Any {
    packed("containerd.runc.v1", &ProcessDetails { exec_id: exec_id.to_owned(), ..Default::default() })
}

/// A verb that takes nothing but the id.
async fn simple(shim: &Shim, container: &Container, verb: &str) -> Answer<()> {
    let mut call = container.engine.call(&container.notes, verb);
    call.command.arg(&container.id);
    Ok(call.run(&shim.reaper).await?)
}

async fn signal(shim: &Shim, container: &Container, wanted: KillRequest) -> Answer<Empty> {
    let finished = || Fault::not_found("process already finished");
    if !wanted.exec_id.is_empty() {
        let exec = container.exec(&wanted.exec_id)?;
        if exec.process.is_new() {
            return Err(Fault::precondition(format!("exec {} was not started", wanted.exec_id)));
        }
        let pid = exec.process.living_pid().ok_or_else(finished)?;
        let signal = wanted.signal as i32;
        linux::process::kill(pid, signal).map_err(|e| Fault::invalid(format!("signal {signal}: {e}")))?;
        return Ok(Empty::new());
    }
    if container.init.has_ended() && !wanted.all {
        return Err(finished());
    }
    // Or it might be taken for one that the kernel kills with another of its slice.
    container.tell_oom(false);
    let mut call = container.engine.call(&container.notes, "kill");
    call.flag("--all", wanted.all);
    call.command.arg(&container.id).arg(wanted.signal.to_string());
    let sent = call.run(&shim.reaper).await;
    if sent.is_err() && container.init.has_ended() {
        return Err(finished());
    }
    sent?;
    Ok(Empty::new())
}

async fn update(shim: &Shim, container: &Container, wanted: UpdateTaskRequest) -> Answer<Empty> {
    let resources =
        wanted.resources.into_option().ok_or_else(|| Fault::invalid("update without resources"))?;
    let mut call = container.engine.call(&container.notes, "update");
    let file = call.beside("resources");
    fs::write(&file, &resources.value).with_context(|| format!("write {}", file.display()))?;
    call.command.arg("--resources").arg(&file).arg(&container.id);
    let done = call.run(&shim.reaper).await;
    // The bundle goes as a whole.
    let _ = fs::remove_file(&file);
    done?;
    Ok(Empty::new())
}

async fn checkpoint(shim: &Shim, container: &Container, wanted: CheckpointTaskRequest) -> Answer<Empty> {
    let options = match wanted.options.as_ref() {
        Some(any) => CheckpointOptions::parse_from_bytes(&any.value)
            .map_err(|e| Fault::invalid(format!("the checkpoint's options: {e}")))?,
        None => CheckpointOptions::new(),
    };
    let or = |given: &str, other: &Path| if given.is_empty() { other.to_owned() } else { given.into() };
    let images = or(&options.image_path, Path::new(&wanted.path));
    let work = or(&options.work_path, &container.engine.criu_work(&container.notes));
    let mut call = container.engine.call(&container.notes, "checkpoint");
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
    let (container_id, checkpoint) = (wanted.id, images.to_string_lossy().into_owned());
    shim.events.tell("checkpointed", &TaskCheckpointed { container_id, checkpoint, ..Default::default() });
    Ok(Empty::new())
}
