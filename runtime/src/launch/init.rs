//! The new process: carries out the plan's `init`, each stage in a file of its own, and the steps of its lifecycle here. Ends in
//! exec, never returns.
//!
//! It never logs. The number of the first step that fails goes to the runtime, which knows the step's text, and the process ends.

mod payload;
mod rootfs;
mod setup;

use std::fmt::Display;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::sys::signal::SigSet;
use nix::unistd::getpid;

use super::channel::InitEnd;
use super::hooks;
use super::procfs::Procfs;
use super::restrictions::Masks;
use super::root::{Parent, Root};
use super::spawn::forget_the_host;
use crate::container::gate;
use crate::container::record::Record;
use crate::plan::Plan;
use crate::plan::step::{FdSlot, HostSync, InitStep, LifecycleStep, RootfsStep};

/// What the process is given.
pub(super) struct Init<'a> {
    pub(super) plan: &'a Plan,
    pub(super) record: &'a Record,
    pub(super) channel: InitEnd,
    /// Where to park; without one the channel is the gate.
    pub(super) gate: Option<OwnedFd>,
    pub(super) handles: Vec<Option<OwnedFd>>,
    /// The signal mask that the caller had.
    pub(super) signals: SigSet,
}

/// What it has at hand on its way, and what it finds out.
#[derive(Default)]
struct State {
    /// What the runtime has opened for it, and the mounts that only this process could copy, by slot.
    handles: Vec<Option<OwnedFd>>,
    /// The points that the runtime has reached, a bit each.
    reached: u8,
    root: Option<Root>,
    parent: Parent,
    procfs: Option<Procfs>,
    masks: Masks,
    /// Of the program's environment, what is known in here only.
    env: Vec<String>,
    program: String,
    /// Open for the runtime to take.
    listener: Option<OwnedFd>,
    /// Where failures go once it is started.
    stream: Option<OwnedFd>,
}

const NEVER_OPENED: &str = "its handle was never opened";
const NO_ROOT: &str = "there is no root yet";
const RUNTIME_GONE: &str = "the runtime is gone";

/// Carries out the plan's `init` steps, one after the other.
pub(super) fn carry_out(mut init: Init<'_>) -> ! {
    if let Err(reason) = forget_the_host(&init) {
        init.channel.fail(0, &format!("{reason:#}"));
        linux::process::exit_now(1);
    }
    // Exactly the modes that are asked for, until the plan sets the payload's own mask.
    linux::process::set_umask(0);
    let mut state = State { handles: std::mem::take(&mut init.handles), ..State::default() };
    for (n, step) in init.plan.init.iter().enumerate() {
        let Err(reason) = init.step(&mut state, step) else { continue };
        let explained = || explain(step.json_path(), step, &reason);
        match &state.stream {
            Some(stream) => gate::failed(stream, &explained()),
            // Without a gate's socket the runtime waits in `gate::passed` by now, at this channel: so in the gate's words.
            None if is_wait_for_start(step) && init.gate.is_none() => {
                gate::failed(&init.channel, &explained())
            }
            None => init.channel.fail(n, &format!("{reason:#}")),
        }
        break;
    }
    linux::process::exit_now(1)
}

fn is_wait_for_start(step: &InitStep) -> bool {
    matches!(step, InitStep::Lifecycle(LifecycleStep::WaitForStart))
}

/// The one line about a failed step.
pub(super) fn explain(json_path: &str, step: &dyn Display, reason: &anyhow::Error) -> String {
    match json_path {
        "" => format!("{step}: {reason:#}"),
        json_path => format!("{json_path}: {step}: {reason:#}"),
    }
}

impl Init<'_> {
    fn step(&self, state: &mut State, step: &InitStep) -> Result<()> {
        // Only these two leave the mounts alone: any other may mount over the directory that is kept in `parent`.
        if !matches!(step, InitStep::Rootfs(RootfsStep::Mknod { .. } | RootfsStep::Symlink { .. })) {
            state.parent = Parent::default();
        }
        match step {
            InitStep::Setup(step) => setup::run(state, step),
            InitStep::Rootfs(step) => self.rootfs(state, step),
            InitStep::Payload(step) => self.payload(state, step),
            InitStep::Lifecycle(step) => self.lifecycle(state, step),
        }
    }

    fn lifecycle(&self, state: &mut State, step: &LifecycleStep) -> Result<()> {
        match step {
            LifecycleStep::Send { point } => self.channel.send(*point).context(RUNTIME_GONE),
            LifecycleStep::Wait { point } => self.wait(state, *point),
            LifecycleStep::RunHooks { kind, hooks: all } => {
                // Its pid in the container, where these hooks run (as runc has it).
                hooks::run(*kind, all, &self.record.hook_state(kind.status(), getpid().as_raw()))
            }
            LifecycleStep::WaitForStart => {
                state.stream = Some(match &self.gate {
                    Some(listener) => gate::park(listener).context("accept")?,
                    None if gate::wait_for_go(&self.channel) => self.channel.as_fd().try_clone_to_owned()?,
                    None => bail!(RUNTIME_GONE),
                });
                Ok(())
            }
        }
    }

    fn wait(&self, state: &mut State, point: HostSync) -> Result<()> {
        while state.reached & (1 << point as u8) == 0 {
            let reached = self.channel.receive()?.context(RUNTIME_GONE)?;
            state.reached |= 1 << reached as u8;
        }
        Ok(())
    }
}

impl State {
    fn handle(&self, slot: FdSlot) -> Result<BorrowedFd<'_>> {
        self.handles.get(slot.0).and_then(Option::as_ref).map(AsFd::as_fd).context(NEVER_OPENED)
    }

    fn procfs(&mut self) -> Result<&Procfs> {
        if self.procfs.is_none() {
            self.procfs = Some(Procfs::open()?);
        }
        self.procfs.as_ref().context("there is no procfs")
    }
}
