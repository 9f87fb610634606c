//! One process of a container: its init or an exec.

mod state;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use containerd_shim_protos::api::Status;
use tokio::sync::watch;

use crate::reaper::Exit;
use crate::rpc_error::{RpcError, RpcResult};
use crate::stdio::{ProcessIo, StdioConfig};
pub use state::Method;
use state::{Refusal, State};

/// Which process of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessRef {
    Init,
    /// The exec of that id.
    Exec(String),
}

/// As requests name it: an empty exec id is the init.
impl From<String> for ProcessRef {
    fn from(exec_id: String) -> ProcessRef {
        if exec_id.is_empty() { ProcessRef::Init } else { ProcessRef::Exec(exec_id) }
    }
}

impl ProcessRef {
    /// The exec id of responses, which is empty for the init.
    pub fn exec_id(&self) -> &str {
        match self {
            ProcessRef::Init => "",
            ProcessRef::Exec(id) => id,
        }
    }
}

/// A process.
pub struct Process {
    pub container_id: String,
    pub which: ProcessRef,
    pub stdio: StdioConfig,
    /// The shim's side of its streams.
    io: Mutex<ProcessIo>,
    life: Mutex<Life>,
    /// Where clients wait for its exit. Written once, when that is published.
    exit: watch::Sender<Option<Exit>>,
}

struct Life {
    state: State,
    pid: i32,
}

/// `container web`, or `exec top of web`: what an error is about.
impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            ProcessRef::Init => write!(f, "container {}", self.container_id),
            ProcessRef::Exec(id) => write!(f, "exec {id} of {}", self.container_id),
        }
    }
}

impl Process {
    /// A process that waits to be started. An exec has no pid yet, which is 0.
    pub fn new(
        container_id: &str,
        which: ProcessRef,
        stdio: StdioConfig,
        io: ProcessIo,
        pid: i32,
    ) -> Process {
        Process {
            container_id: container_id.to_owned(),
            which,
            stdio,
            io: Mutex::new(io),
            life: Mutex::new(Life { state: State::Created, pid }),
            exit: watch::Sender::new(None),
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        // Whoever panics ends the program.
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shim's side of its streams.
    pub fn io(&self) -> MutexGuard<'_, ProcessIo> {
        self.io.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its pid; 0, as the protocol has it, when it has none yet.
    pub fn pid(&self) -> i32 {
        self.life().pid
    }

    /// Its exit, once that is published.
    pub fn exit(&self) -> Option<Exit> {
        self.life().state.published_exit()
    }

    /// Waits until its exit is published.
    pub async fn wait(&self) -> Exit {
        let mut published = self.exit.subscribe();
        // The sender is in `self`.
        let exit = published.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        exit.unwrap_or(Exit::NEVER_RAN)
    }

    /// In containerd's words.
    pub fn status(&self) -> Status {
        self.life().state.status()
    }

    /// # Errors
    /// The state of the process doesn't allow the call.
    pub fn check(&self, method: Method) -> RpcResult<()> {
        let state = self.life().state;
        state.check(method).map_err(|refusal| self.refuse(refusal))
    }

    fn refuse(&self, refusal: Refusal) -> RpcError {
        match refusal {
            Refusal::NotStarted => RpcError::failed_precondition(format!("{self} was not started")),
            Refusal::IsRunning => RpcError::failed_precondition(format!("{self} is running")),
            Refusal::HasEnded => RpcError::failed_precondition(format!("{self} has exited already")),
            // containerd's own words.
            Refusal::AlreadyFinished => RpcError::not_found("process already finished"),
        }
    }

    /// Begins to start it.
    ///
    /// # Errors
    /// The process is running, or has ended.
    pub fn begin_start(&self) -> RpcResult<()> {
        let mut life = self.life();
        life.state.check(Method::Start).map_err(|refusal| self.refuse(refusal))?;
        life.state = State::Starting { ended: None };
        Ok(())
    }

    /// The process was started, and may have ended by now.
    pub fn started(&self, pid: i32) {
        let mut life = self.life();
        (life.state, life.pid) = (life.state.after_start(true), pid);
    }

    /// The process couldn't be started. Another start may be tried, if it hasn't ended.
    pub fn not_started(&self) {
        let mut life = self.life();
        life.state = life.state.after_start(false);
    }

    /// The process has ended.
    pub fn ended(&self, exit: Exit) {
        let mut life = self.life();
        life.state = life.state.after_end(exit);
        drop(life);
        self.io().ended();
    }

    /// Its exit, if that is to be published now.
    pub fn pending_exit(&self) -> Option<Exit> {
        self.life().state.pending_exit()
    }

    /// Its exit was published: whoever waits for it gets it.
    pub fn published(&self, exit: Exit) {
        let mut life = self.life();
        life.state = life.state.after_publication();
        drop(life);
        self.exit.send_replace(Some(exit));
    }

    /// Whether the process is being started or runs: its exit is yet to come.
    pub fn is_live(&self) -> bool {
        matches!(self.life().state, State::Starting { .. } | State::Running)
    }

    /// Whether the process has been started.
    pub fn was_started(&self) -> bool {
        self.life().state.was_started()
    }

    /// Whether the process waits to be started.
    pub fn is_created(&self) -> bool {
        self.life().state == State::Created
    }

    /// Its pid, as long as a signal reaches it and nobody else: a pid is free only once its process was reaped.
    pub fn running_pid(&self) -> Option<i32> {
        let life = self.life();
        (life.state == State::Running).then_some(life.pid)
    }
}
