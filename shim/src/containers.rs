//! The containers of a pod: what happens to them, one function each, whoever asks for it.
//!
//! A container's news come in this order, whatever the order in which things are learnt: create, start, exit, delete;
//! exec-added, exec-started, exit; and an init's exit after its execs'. So an exit is told by [`Shim::settle`] alone, and
//! only there does a process become `Exited`.
//!
//! No lock is held across a call of the runtime.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use containerd_shim_protos::events::task::TaskExit;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::shim::oci;
use interface::id::Id;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::Notify;

use crate::container::Container;
use crate::events::{Events, timestamp};
use crate::fault::{Answer, Fault};
use crate::log;
use crate::process::Process;
use crate::reaper::{Child, KILLED, Reaper};
use crate::stdio::Owner;

/// All that one shim looks after.
pub struct Shim {
    pub namespace: String,
    pub reaper: Arc<Reaper>,
    pub events: Arc<Events>,
    /// Where its own files go, if not into the bundles.
    pub notes: Option<PathBuf>,
    /// There is a container.
    pub news: Notify,
    /// Somebody wants it to end.
    pub over: Notify,
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
        let mut containers = self.shim.all();
        if let Some(None) = containers.get(self.id) {
            containers.remove(self.id);
        }
    }
}

impl Shim {
    pub fn new(namespace: &str, reaper: Arc<Reaper>, events: Arc<Events>) -> Shim {
        let (news, over, containers) = (Notify::new(), Notify::new(), Mutex::default());
        Shim { namespace: namespace.to_owned(), reaper, events, notes: None, news, over, containers }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Option<Arc<Container>>>> {
        // Whoever panics ends the program.
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is left to look after.
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// Takes an id for a new container.
    ///
    /// # Errors
    /// It is no valid id, or is taken.
    pub fn claim<'a>(&'a self, id: &'a str) -> Answer<Claim<'a>> {
        Id::new(id).map_err(|e| Fault::invalid(e.to_string()))?;
        let mut containers = self.all();
        if containers.contains_key(id) {
            return Err(Fault::exists(format!("task {id:?}: already exists")));
        }
        containers.insert(id.to_owned(), None);
        Ok(Claim { shim: self, id })
    }

    /// From now on there is this container.
    pub fn add(&self, container: Arc<Container>) {
        self.all().insert(container.id.clone(), Some(container));
        self.news.notify_one();
    }

    /// Forgets a container.
    pub fn remove(&self, id: &str) {
        self.all().remove(id);
    }

    /// # Errors
    /// There is no such container.
    pub fn container(&self, id: &str) -> Answer<Arc<Container>> {
        let found = self.all().get(id).cloned().flatten();
        found.ok_or_else(|| Fault::not_found(format!("task {id:?} not found")))
    }

    /// The first container's init, for a caller that names none.
    pub fn any(&self) -> Option<Arc<Container>> {
        self.all().values().flatten().next().cloned()
    }

    /// Tells the end of a process, whenever it comes.
    pub fn watch(self: &Arc<Self>, container: &Arc<Container>, exec_id: &str, child: Child) {
        let (shim, container, exec_id) = (self.clone(), container.clone(), exec_id.to_owned());
        tokio::spawn(async move {
            let exit = child.end().await;
            if exec_id.is_empty() {
                container.init.ended(exit);
                shim.end_others(&container).await;
            } else if let Ok(exec) = container.exec(&exec_id) {
                exec.process.ended(exit);
            }
            shim.settle(&container);
        });
    }

    /// Without a PID namespace of the container's own, its other processes outlive its init.
    async fn end_others(&self, container: &Container) {
        if container.own_pid_namespace {
            return;
        }
        let mut call = container.engine.call(&container.notes, "kill");
        call.command.args(["--all", &container.id, "KILL"]);
        if let Err(e) = call.run(&self.reaper).await {
            log::debug(format_args!("kill what {} left behind: {e:#}", container.id));
        }
        for exec in container.execs() {
            if let Some(pid) = exec.process.living_pid() {
                // The call may have done that.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Tells the exits that can be told now.
    pub fn settle(&self, container: &Container) {
        let execs = container.execs();
        for exec in &execs {
            self.tell_exit(container, &exec.process);
        }
        if !execs.iter().any(|exec| exec.process.is_live()) {
            // Before the exit that it explains.
            if let Some(exit) = container.init.due() {
                container.tell_oom(exit.status == KILLED);
            }
            self.tell_exit(container, &container.init);
        }
    }

    fn tell_exit(&self, container: &Container, process: &Process) {
        let Some(exit) = process.due() else { return };
        let id = if process.exec_id.is_empty() { &container.id } else { &process.exec_id };
        self.events.tell(
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
        process.told(exit);
    }

    /// Whose streams a process's are.
    pub fn owner<'a>(&'a self, id: &'a str, options: &oci::Options, is_exec: bool) -> Owner<'a> {
        let given = |id: u32| (id != 0).then_some(id);
        Owner {
            namespace: &self.namespace,
            id,
            uid: given(options.io_uid),
            gid: given(options.io_gid),
            is_exec,
        }
    }
}
