//! The shim: the containers of a pod, and the order in which their events are published.
//!
//! That order is, whatever the order in which things are learnt: create, start, exit, delete; exec-added, exec-started,
//! exit; and an init's exit after its execs'. So an exit is published by [`Shim::publish_exits`] alone.
//!
//! No lock is held across a call of the runtime.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use containerd_shim_protos::events::task::TaskExit;
use containerd_shim_protos::protobuf::MessageField;
use interface::id::Id;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::Notify;

use crate::container::Container;
use crate::events::{Events, timestamp};
use crate::log;
use crate::process::{Process, ProcessRef};
use crate::reaper::{Child, KILLED, Reaper};
use crate::rpc_error::{RpcError, RpcResult};

/// All that one shim looks after.
pub struct Shim {
    pub namespace: String,
    pub reaper: Arc<Reaper>,
    pub events: Arc<Events>,
    /// Where its own files go, if not into the bundles.
    pub dir: Option<PathBuf>,
    /// Told of each container that is added.
    pub added: Notify,
    /// Told when somebody wants the shim to end.
    pub shutdown: Notify,
    /// None: an id that is being created.
    containers: Mutex<HashMap<String, Option<Arc<Container>>>>,
}

/// An id that is taken until it is decided what becomes of it.
pub struct Claim<'a> {
    shim: &'a Shim,
    id: &'a str,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut containers = self.shim.containers();
        if let Some(None) = containers.get(self.id) {
            containers.remove(self.id);
        }
    }
}

impl Shim {
    pub fn new(namespace: &str, reaper: Arc<Reaper>, events: Arc<Events>) -> Shim {
        let (added, shutdown, containers) = (Notify::new(), Notify::new(), Mutex::default());
        Shim { namespace: namespace.to_owned(), reaper, events, dir: None, added, shutdown, containers }
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<String, Option<Arc<Container>>>> {
        // Whoever panics ends the program.
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is left to look after.
    pub fn is_empty(&self) -> bool {
        self.containers().is_empty()
    }

    /// Takes an id for a new container.
    ///
    /// # Errors
    /// It is no valid id, or is taken.
    pub fn claim<'a>(&'a self, id: &'a str) -> RpcResult<Claim<'a>> {
        Id::new(id).map_err(|e| RpcError::invalid_argument(e.to_string()))?;
        let mut containers = self.containers();
        if containers.contains_key(id) {
            return Err(RpcError::already_exists(format!("task {id:?}: already exists")));
        }
        containers.insert(id.to_owned(), None);
        Ok(Claim { shim: self, id })
    }

    /// From now on there is this container.
    pub fn add(&self, container: Arc<Container>) {
        self.containers().insert(container.id.clone(), Some(container));
        self.added.notify_one();
    }

    /// Forgets a container.
    pub fn remove(&self, id: &str) {
        self.containers().remove(id);
    }

    /// # Errors
    /// There is no such container.
    pub fn container(&self, id: &str) -> RpcResult<Arc<Container>> {
        let found = self.containers().get(id).cloned().flatten();
        found.ok_or_else(|| RpcError::not_found(format!("task {id:?} not found")))
    }

    /// One of them, for a caller that names none.
    pub fn any(&self) -> Option<Arc<Container>> {
        self.containers().values().flatten().next().cloned()
    }

    /// Publishes the exit of a process, whenever it ends.
    pub fn watch(self: &Arc<Self>, container: &Arc<Container>, process: &Arc<Process>, child: Child) {
        let (shim, container, process) = (self.clone(), container.clone(), process.clone());
        tokio::spawn(async move {
            process.ended(child.end().await);
            if process.which == ProcessRef::Init {
                shim.end_others(&container).await;
            }
            shim.publish_exits(&container);
        });
    }

    /// Without a PID namespace of the container's own, its other processes outlive its init.
    async fn end_others(&self, container: &Container) {
        if container.has_own_pid_namespace {
            return;
        }
        let mut call = container.call("kill");
        call.command.args(["--all", &container.id, "KILL"]);
        if let Err(e) = call.run(&self.reaper).await {
            log::debug(format_args!("kill what {} left behind: {e:#}", container.id));
        }
        for exec in container.execs() {
            if let Some(pid) = exec.process.running_pid() {
                // The runtime may have done that.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Publishes the exits that can be published now.
    pub fn publish_exits(&self, container: &Container) {
        let execs = container.execs();
        for exec in &execs {
            self.publish_exit(container, &exec.process);
        }
        if !execs.iter().any(|exec| exec.process.is_live()) {
            // Before the exit that it explains.
            if let Some(exit) = container.init.pending_exit() {
                container.publish_oom(exit.status == KILLED);
            }
            self.publish_exit(container, &container.init);
        }
    }

    fn publish_exit(&self, container: &Container, process: &Process) {
        let Some(exit) = process.pending_exit() else { return };
        let id = match &process.which {
            ProcessRef::Init => &container.id,
            ProcessRef::Exec(id) => id,
        };
        self.events.publish(
            "exit",
            &TaskExit {
                container_id: container.id.clone(),
                id: id.clone(),
                pid: process.pid() as u32,
                exit_status: exit.status,
                exited_at: MessageField::some(timestamp(exit.at)),
                ..Default::default()
            },
        );
        process.published(exit);
    }
}
