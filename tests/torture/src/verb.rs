//! The verbs that are tried, in their forms: what must be there before, how each is called, and what must be true of the
//! world when it says that it succeeded.

use crate::bundle_kind::BundleKind;
use crate::subject::Subject;
use crate::trace::Target;
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A verb in one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Verb {
    /// `create`
    Create,
    /// `start`
    Start,
    /// `run`, to the program's end
    Run,
    /// `run --detach`
    RunDetached,
    /// `exec`, to the program's end
    Exec,
    /// `exec --detach`
    ExecDetached,
    /// `exec --tty --detach`, with a console socket
    ExecTty,
    /// `kill ID KILL`
    Kill,
    /// `kill --all ID TERM`
    KillAll,
    /// `pause`
    Pause,
    /// `resume`
    Resume,
    /// `update --pids-limit`
    Update,
    /// `delete` of one that has ended
    Delete,
    /// `delete --force` of one that runs
    DeleteForce,
    /// `delete --force` of one that is created
    DeleteCreated,
    /// `state`
    State,
    /// `list`
    List,
    /// `ps`
    Ps,
    /// `events --stats`
    Events,
}

/// Which process of a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Side {
    /// The runtime's own.
    Runtime,
    /// The one that it clones; for `start`, the init that waits.
    Child,
}

impl Side {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Side::Runtime => "runtime",
            Side::Child => "child",
        }
    }
}

/// The limit that `update` sets.
const UPDATED: &str = "77";

impl Verb {
    /// All of them.
    pub fn all() -> &'static [Self] {
        <Self as clap::ValueEnum>::value_variants()
    }

    /// As the command line has it.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).expect("none is hidden").get_name().to_owned()
    }

    /// Whether it can do anything with such a bundle. Without a cgroup nothing can be frozen, limited or counted. `run` in
    /// the foreground of a terminal needs somebody who sits there.
    pub fn suits(self, kind: BundleKind) -> bool {
        use Verb::*;
        let wants_cgroup = matches!(self, KillAll | Pause | Resume | Update | Ps | Events);
        (kind.has_cgroup() || !wants_cgroup) && !(self == Run && kind.has_terminal())
    }

    /// The processes that it has.
    pub fn sides(self) -> &'static [Side] {
        use Verb::*;
        match self {
            Create | Start | Run | RunDetached | Exec | ExecDetached | ExecTty => {
                &[Side::Runtime, Side::Child]
            }
            _ => &[Side::Runtime],
        }
    }

    /// Whether it makes the container.
    pub fn makes(self) -> bool {
        matches!(self, Verb::Create | Verb::Run | Verb::RunDetached)
    }

    /// Whether its report is that of the container's first process.
    pub fn starts_init(self) -> bool {
        self.makes() || self == Verb::Start
    }

    /// Whether it starts a program, whose report is the truth.
    pub fn starts(self) -> bool {
        self.starts_init() || matches!(self, Verb::Exec | Verb::ExecDetached | Verb::ExecTty)
    }

    /// Brings a container to where the verb finds it.
    pub fn prepare(self, subject: &mut Subject) {
        use Verb::*;
        match self {
            Create | Run | RunDetached => {}
            Start | DeleteCreated => subject.create(),
            Delete => {
                subject.create();
                subject.container.start().ok();
                subject.container.kill("KILL").ok();
                subject.container.wait_status("stopped");
            }
            Resume => {
                subject.create();
                subject.container.start().ok();
                subject.container.call(&["pause", &subject.container.id]).ok();
            }
            _ => {
                subject.create();
                subject.container.start().ok();
            }
        }
    }

    /// The process to trace for a side of it.
    pub fn target(self, side: Side, subject: &Subject) -> Target {
        match side {
            Side::Runtime => Target::Itself,
            Side::Child if self == Verb::Start => Target::Other(Pid::from_raw(subject.container.pid())),
            Side::Child => Target::Child,
        }
    }

    /// Its arguments.
    pub fn args(self, subject: &Subject) -> Vec<String> {
        use Verb::*;
        let id = subject.container.id.as_str();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        match self {
            Create => subject.args_for("create", &[]),
            Run => subject.args_for("run", &[]),
            RunDetached => subject.args_for("run", &["--detach"]),
            Start => words(&["start", id]),
            Exec => subject.exec_args(&[], false),
            ExecDetached => subject.exec_args(&["--detach"], true),
            ExecTty => subject.exec_args(&["--tty", "--detach"], true),
            Kill => words(&["kill", id, "KILL"]),
            KillAll => words(&["kill", "--all", id, "KILL"]),
            Pause => words(&["pause", id]),
            Resume => words(&["resume", id]),
            Update => words(&["update", "--pids-limit", UPDATED, id]),
            Delete => words(&["delete", id]),
            DeleteForce | DeleteCreated => words(&["delete", "--force", id]),
            State => words(&["state", id]),
            List => words(&["list", "--format", "json"]),
            Ps => words(&["ps", "--format", "json", id]),
            Events => words(&["events", "--stats", id]),
        }
    }

    /// What must hold when it has said 0 and `said` on stdout; the untruth otherwise.
    ///
    /// For verbs that start a program the report is the truth: see [`Subject::report`].
    pub fn truth(self, subject: &Subject, said: &str) -> Result<(), String> {
        use Verb::*;
        let json = || serde_json::from_str::<Value>(said).map_err(|e| format!("no JSON ({e}): {said:?}"));
        let should = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        match self {
            Create | Start | Run | RunDetached | Exec | ExecDetached | ExecTty => Ok(()),
            Kill | KillAll => should(subject.init_ends(), "killed, but the init lives"),
            Pause => should(subject.is_frozen(), "paused, but not frozen"),
            Resume => should(!subject.is_frozen(), "resumed, but still frozen"),
            Update => {
                let limit = subject.container.cgroups().read("pids", "pids.max");
                should(limit == UPDATED, &format!("updated, but pids.max is {limit}"))
            }
            Delete | DeleteForce | DeleteCreated => {
                let left = subject.container.leftovers();
                should(left.is_empty(), &format!("deleted, but left {left:?}"))
            }
            State => {
                let state = json()?;
                let is_right = state["status"] == "running" && state["pid"].as_i64().is_some_and(is_alive);
                should(is_right, &format!("a running container's state: {said:?}"))
            }
            List => {
                let list = json()?;
                let own = |one: &&Value| one["id"] == subject.container.id.as_str();
                let own = list.as_array().into_iter().flatten().find(own);
                let is_right = own.is_some_and(|one| one["status"] == "running");
                should(is_right, &format!("a running container's list: {said:?}"))
            }
            Ps => {
                let init = i64::from(subject.container.pid());
                let listed =
                    json()?.as_array().is_some_and(|pids| pids.iter().any(|p| p.as_i64() == Some(init)));
                should(listed, &format!("a running container's processes, without {init}: {said:?}"))
            }
            Events => {
                let pids = json()?["data"]["pids"]["current"].as_i64();
                should(pids.is_some_and(|pids| pids > 0), &format!("a running container's stats: {said:?}"))
            }
        }
    }
}

fn is_alive(pid: i64) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}
