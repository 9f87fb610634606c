//! The states of a process, the steps from one to the next, and which call is allowed in which.

use containerd_shim_protos::api::Status;

use crate::reaper::Exit;

/// How far a process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The process waits to be started.
    Created,
    /// A call of the runtime that starts the process is under way. The process may have ended before that call has.
    Starting { ended: Option<Exit> },
    /// The process was started, and its end isn't known.
    Running,
    /// The process has ended, and its exit is not published yet.
    Ended { exit: Exit, was_started: bool },
    /// The exit of the process is published: clients that wait for it have it.
    Published { exit: Exit, was_started: bool },
}

/// The calls that depend on the state of a process. All others are the runtime's to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Start of the process.
    Start,
    /// Exec and its Start, in the container whose init the process is.
    Exec,
    /// Kill of an init alone, without the other processes of its container.
    KillInit,
    /// Kill of an exec.
    KillExec,
    /// Delete of the process; of an init, with its container.
    Delete,
}

/// Why a call is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotStarted,
    IsRunning,
    HasEnded,
    /// There is nobody to be killed, which clients take for success.
    AlreadyFinished,
}

impl State {
    /// THE table: which call is allowed in which state.
    ///
    /// # Errors
    /// Why it is not allowed.
    pub fn check(self, method: Method) -> Result<(), Refusal> {
        use Refusal::{AlreadyFinished, HasEnded, IsRunning, NotStarted};
        use State::{Created, Ended, Published, Running, Starting};
        match (method, self) {
            (Method::Start, Created) => Ok(()),
            (Method::Start, Starting { ended: None } | Running) => Err(IsRunning),
            (Method::Start, Starting { ended: Some(_) } | Ended { .. } | Published { .. }) => Err(HasEnded),

            (Method::Exec, Created | Starting { ended: None } | Running) => Ok(()),
            (Method::Exec, Starting { ended: Some(_) } | Ended { .. } | Published { .. }) => Err(HasEnded),

            // An init that waits is there to be killed; an exec has no pid yet.
            (Method::KillInit, Created | Starting { ended: None } | Running) => Ok(()),
            (Method::KillExec, Created | Starting { ended: None }) => Err(NotStarted),
            (Method::KillExec, Running) => Ok(()),
            (
                Method::KillInit | Method::KillExec,
                Starting { ended: Some(_) } | Ended { .. } | Published { .. },
            ) => Err(AlreadyFinished),

            // One that has ended waits until its exit is published: delete comes after exit.
            (Method::Delete, Created | Ended { .. } | Published { .. }) => Ok(()),
            (Method::Delete, Starting { .. } | Running) => Err(IsRunning),
        }
    }

    /// In containerd's words. They follow what is published.
    pub fn status(self) -> Status {
        match self {
            State::Created | State::Starting { .. } | State::Ended { was_started: false, .. } => {
                Status::CREATED
            }
            State::Running | State::Ended { was_started: true, .. } => Status::RUNNING,
            State::Published { .. } => Status::STOPPED,
        }
    }

    /// The exit that clients may know.
    pub fn published_exit(self) -> Option<Exit> {
        if let State::Published { exit, .. } = self { Some(exit) } else { None }
    }

    /// The exit that is to be published now.
    pub fn pending_exit(self) -> Option<Exit> {
        if let State::Ended { exit, .. } = self { Some(exit) } else { None }
    }

    /// Whether the process has been started, however that ended.
    pub fn was_started(self) -> bool {
        match self {
            State::Created | State::Starting { .. } => false,
            State::Running => true,
            State::Ended { was_started, .. } | State::Published { was_started, .. } => was_started,
        }
    }

    /// After the runtime's call: it has started the process, or it has failed.
    pub fn after_start(self, was_started: bool) -> State {
        match self {
            State::Starting { ended: Some(exit) } => State::Ended { exit, was_started },
            State::Starting { ended: None } if was_started => State::Running,
            State::Starting { ended: None } => State::Created,
            other => other,
        }
    }

    /// After the end of the process.
    pub fn after_end(self, exit: Exit) -> State {
        match self {
            State::Starting { .. } => State::Starting { ended: Some(exit) },
            State::Created | State::Running => State::Ended { exit, was_started: self.was_started() },
            other => other,
        }
    }

    /// After the exit was published.
    pub fn after_publication(self) -> State {
        match self {
            State::Ended { exit, was_started } => State::Published { exit, was_started },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    const EXIT: Exit = Exit { status: 7, at: UNIX_EPOCH };
    const STARTING: State = State::Starting { ended: None };

    #[test]
    fn an_end_during_the_start_is_held_until_the_start_is_told() {
        let held = STARTING.after_end(EXIT);
        assert_eq!(held.pending_exit(), None);
        assert_eq!(held.after_start(true), State::Ended { exit: EXIT, was_started: true });
        assert_eq!(held.after_start(false), State::Ended { exit: EXIT, was_started: false });
    }

    #[test]
    fn a_start_that_failed_can_be_tried_again() {
        assert_eq!(STARTING.after_start(false), State::Created);
        assert_eq!(STARTING.after_start(false).check(Method::Start), Ok(()));
        assert_eq!(STARTING.after_start(true).check(Method::Start), Err(Refusal::IsRunning));
    }

    #[test]
    fn an_exit_is_pending_once_only() {
        for state in [State::Created, State::Running] {
            let ended = state.after_end(EXIT);
            assert_eq!((ended.pending_exit(), ended.published_exit()), (Some(EXIT), None));
            let published = ended.after_publication();
            assert_eq!((published.pending_exit(), published.published_exit()), (None, Some(EXIT)));
            assert_eq!(published.was_started(), state == State::Running);
            // Nothing comes after it.
            assert_eq!(published.after_end(Exit { status: 8, ..EXIT }), published);
            assert_eq!(published.after_start(true), published);
        }
    }

    #[test]
    fn what_clients_see_is_stopped_only_when_its_exit_is_published() {
        let ended = State::Running.after_end(EXIT);
        assert_eq!((State::Created.status(), STARTING.status()), (Status::CREATED, Status::CREATED));
        assert_eq!((State::Running.status(), ended.status()), (Status::RUNNING, Status::RUNNING));
        assert_eq!(ended.after_publication().status(), Status::STOPPED);
    }

    #[test]
    fn a_process_that_has_ended_takes_no_call_but_delete() {
        for state in [State::Created, State::Running].map(|state| state.after_end(EXIT)) {
            for state in [state, state.after_publication()] {
                for method in [Method::Start, Method::Exec] {
                    assert_eq!(state.check(method), Err(Refusal::HasEnded), "{method:?} {state:?}");
                }
                for method in [Method::KillInit, Method::KillExec] {
                    assert_eq!(state.check(method), Err(Refusal::AlreadyFinished), "{method:?} {state:?}");
                }
                assert_eq!(state.check(Method::Delete), Ok(()));
            }
        }
    }
}
