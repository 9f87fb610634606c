//! One process of a container, its init or an exec: created, running, exited.

use std::sync::{Mutex, MutexGuard, PoisonError};

use containerd_shim_protos::api::Status;
use tokio::sync::watch;

use crate::fault::{Answer, Fault};
use crate::reaper::Exit;
use crate::stdio::{Io, Streams};

/// Where it is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Created,
    /// A call of the runtime is under way. What it starts may end before the call does.
    Starting,
    Running,
    /// Its exit has been told.
    Exited,
}

struct State {
    phase: Phase,
    pid: i32,
    started: bool,
    /// It has ended, whether or not that could be told already.
    ended: Option<Exit>,
}

/// A process.
pub struct Process {
    /// The exec's id; empty for an init.
    pub exec_id: String,
    pub streams: Streams,
    /// The shim's side of its streams.
    pub io: Mutex<Io>,
    state: Mutex<State>,
    /// Written once.
    exit: watch::Sender<Option<Exit>>,
}

impl Process {
    /// A process that waits to be started. An exec has no pid yet.
    pub fn new(exec_id: &str, streams: Streams, io: Io, pid: i32) -> Process {
        let state = Mutex::new(State { phase: Phase::Created, pid, started: false, ended: None });
        let exec_id = exec_id.to_owned();
        Process { exec_id, streams, io: Mutex::new(io), state, exit: watch::Sender::new(None) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shim's side of its streams.
    pub fn io(&self) -> MutexGuard<'_, Io> {
        self.io.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its pid; 0 when it has none yet.
    pub fn pid(&self) -> i32 {
        self.state().pid
    }

    /// Its exit, once that has been told.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until its exit has been told.
    pub async fn wait(&self) -> Exit {
        let mut news = self.exit.subscribe();
        // The sender is in `self`.
        let exit = news.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        exit.unwrap_or(crate::engine::NEVER_RAN)
    }

    /// In containerd's words.
    pub fn status(&self) -> Status {
        match self.state().phase {
            Phase::Created | Phase::Starting => Status::CREATED,
            Phase::Running => Status::RUNNING,
            Phase::Exited => Status::STOPPED,
        }
    }

    /// Begins to start it.
    ///
    /// # Errors
    /// It is, or was, running already.
    pub fn begin(&self) -> Answer<()> {
        let mut state = self.state();
        match (state.phase, state.ended) {
            (Phase::Created, None) => state.phase = Phase::Starting,
            (Phase::Exited, _) | (_, Some(_)) => {
                return Err(Fault::precondition("process has exited already"));
            }
            _ => return Err(Fault::precondition("process is running already")),
        }
        Ok(())
    }

    /// It runs, or has run.
    pub fn started(&self, pid: i32) {
        let mut state = self.state();
        (state.phase, state.pid, state.started) = (Phase::Running, pid, true);
    }

    /// It could not be started, and may be tried again.
    pub fn not_started(&self) {
        self.state().phase = Phase::Created;
    }

    /// It has ended.
    pub fn ended(&self, exit: Exit) {
        self.state().ended = Some(exit);
        self.io().ended();
    }

    /// Its exit, if that is to be told now.
    pub fn due(&self) -> Option<Exit> {
        let state = self.state();
        if matches!(state.phase, Phase::Created | Phase::Running) { state.ended } else { None }
    }

    /// Whether it has ended, told or not.
    pub fn has_ended(&self) -> bool {
        self.state().ended.is_some()
    }

    /// Its exit has been told.
    pub fn told(&self, exit: Exit) {
        self.state().phase = Phase::Exited;
        self.exit.send_replace(Some(exit));
    }

    /// Whether it runs, or may do so in a moment.
    pub fn is_live(&self) -> bool {
        matches!(self.state().phase, Phase::Starting | Phase::Running)
    }

    /// Whether it has run.
    pub fn was_started(&self) -> bool {
        self.state().started
    }

    /// Whether it was never started.
    pub fn is_new(&self) -> bool {
        self.state().phase == Phase::Created
    }

    /// Its pid, as long as a signal reaches it and nobody else: a pid is free only once its process was reaped.
    pub fn living_pid(&self) -> Option<i32> {
        let state = self.state();
        (state.phase == Phase::Running && state.ended.is_none()).then_some(state.pid)
    }
}
