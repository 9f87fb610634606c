//! The new process: one match arm for each inside step. Ends in exec, never returns.
//!
//! It never logs. The first step that fails is told to the runtime, which knows the step's text, and the process ends.

use std::fmt::Display;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{chdir, getpid, sethostname, setsid};

use super::channel::{Channel, Message};
use super::namespaces::{self, flag};
use super::procfs::Procfs;
use super::restrictions::Masks;
use super::root::{Parent, Root};
use super::spawn::forget_the_host;
use super::{cgroup, credentials, hooks, program};
use crate::container::record::Record;
use crate::container::{criu, gate};
use crate::plan::Plan;
use crate::plan::path::ContainerPath;
use crate::plan::seccomp::Filter;
use crate::plan::step::{HookKind, Inside, Mark, Scheduler, Slot};

/// What the process has at hand.
pub(super) struct Init<'a> {
    pub(super) plan: &'a Plan,
    pub(super) record: &'a Record,
    pub(super) channel: Channel,
    /// Where to park; without one the channel is the gate (`run`).
    pub(super) gate: Option<OwnedFd>,
    pub(super) handles: Vec<Option<OwnedFd>>,
    /// The signal mask that the caller had.
    pub(super) signals: SigSet,
}

/// What it has at hand on its way, and what it finds out.
#[derive(Default)]
pub(super) struct Found {
    /// What the runtime has opened for it, and the mounts that only this process could copy, by slot.
    pub(super) handles: Vec<Option<OwnedFd>>,
    heard: u16,
    root: Option<Root>,
    parent: Parent,
    procfs: Option<Procfs>,
    masks: Masks,
    home: Option<String>,
    program: String,
    /// Open until exec, for the runtime to take.
    listener: Option<OwnedFd>,
    /// Where failures go once the gate is behind.
    stream: Option<OwnedFd>,
}

const NEVER_OPENED: &str = "its handle was never opened";
const NO_ROOT: &str = "there is no root yet";

/// Plays the plan's inside steps.
pub(super) fn play(mut init: Init<'_>) -> ! {
    if let Err(reason) = forget_the_host(&init) {
        init.channel.fail(0, &format!("{reason:#}"));
        linux::process::exit_now(1);
    }
    // Exactly the modes that are asked for, until the plan sets the payload's own mask.
    linux::process::set_umask(0);
    let mut found = Found { handles: std::mem::take(&mut init.handles), ..Found::default() };
    for (n, step) in init.plan.inside.iter().enumerate() {
        // Any other step may mount over it.
        if !matches!(step, Inside::MakeNode { .. } | Inside::Symlink { .. }) {
            found.parent = Parent::default();
        }
        // What comes next may be a limit on open files, below the numbers of all that was open for the root's making.
        if matches!(step, Inside::Rlimit(_) | Inside::Tell { mark: Mark::LimitsDue }) {
            found.forget_the_roots_making();
        }
        // From here on the kernel resolves paths that the container has made. A magic link of its (/proc/self/fd/N) leads
        // wherever we have something open, close-on-exec or not (CVE-2024-21626): nothing of the host's may be.
        if matches!(step, Inside::WorkingDirectory { .. }) {
            found.forget_the_roots_making();
            found.procfs = None;
        }
        let Err(reason) = init.step(&mut found, step) else { continue };
        match &found.stream {
            Some(stream) => gate::failed(stream, &explain(step.property(), step, &reason)),
            // The runtime listens behind the gate by now.
            None if matches!(step, Inside::Gate) && init.gate.is_none() => {
                gate::failed(&init.channel, &explain(step.property(), step, &reason));
            }
            None => init.channel.fail(n, &format!("{reason:#}")),
        }
        break;
    }
    linux::process::exit_now(1)
}

/// The one line about a failed step.
pub(super) fn explain(property: &str, step: &dyn Display, reason: &anyhow::Error) -> String {
    match property {
        "" => format!("{step}: {reason:#}"),
        property => format!("{property}: {step}: {reason:#}"),
    }
}

impl Init<'_> {
    fn step(&self, found: &mut Found, step: &Inside) -> Result<()> {
        match step {
            Inside::Await { mark } => self.hear(found, *mark),
            Inside::Tell { mark } => self.channel.tell(*mark, None).context("the runtime is gone"),
            Inside::EnterCgroup { slot, .. } => cgroup::enter(found.handle(*slot)?),
            Inside::BecomeRoot => credentials::change_ids(0, 0, &[]),
            Inside::Join { kind, slot } => setns(found.handle(*slot)?, flag(*kind)).context("setns"),
            Inside::JoinAll { kinds, slot, .. } => {
                let flags = kinds.iter().fold(CloneFlags::empty(), |flags, kind| flags | flag(*kind));
                setns(found.handle(*slot)?, flags).context("setns")
            }
            Inside::OffsetClocks { offsets } => namespaces::offset_clocks(offsets),
            Inside::NewCgroupNamespace => unshare(CloneFlags::CLONE_NEWCGROUP).context("unshare"),
            Inside::NewSession => setsid().context("setsid").map(drop),
            Inside::LabelKeys { label } => found.procfs()?.write_own(&["attr/keycreate"], label),
            Inside::SessionKeyring { name } => session_keyring(name),
            Inside::Hostname { name } => sethostname(name).context("sethostname"),
            Inside::Domainname { name } => linux::process::set_domainname(name).context("setdomainname"),
            Inside::LoopbackUp => linux::net::loopback_up().context("SIOCSIFFLAGS"),
            Inside::Sysctl { key, value } => found.procfs()?.write(&format!("sys/{key}"), value),
            Inside::RunHooks { kind, hooks: all } => {
                let status = if *kind == HookKind::CreateContainer { "creating" } else { "created" };
                // Its own number, as these hooks see it from inside (runc's choice).
                hooks::run(*kind, all, &self.record.hook_state(status, getpid().as_raw()))
            }
            Inside::Gate => self.wait_at_the_gate(found),
            Inside::Exec { args, env } => self.exec(found, args, env),
            Inside::Criu { program, socket, namespaces } => {
                let mut inherited = Vec::new();
                for slot in [socket].into_iter().chain(namespaces) {
                    inherited.push(found.handle(*slot)?);
                }
                let (args, env) = criu::command(program, &inherited)?;
                found.program = program.display().to_string();
                self.exec(found, &args, &env)
            }
            step => self.build_root(found, step),
        }
    }

    pub(super) fn become_payload(&self, found: &mut Found, step: &Inside) -> Result<()> {
        match step {
            Inside::Rlimit(limit) => {
                linux::process::set_limit(0, limit.resource, limit.soft, limit.hard).context("setrlimit")
            }
            Inside::Apparmor { profile } => confine(found.procfs()?, profile),
            Inside::Selinux { label } => found.procfs()?.write_own(&["attr/exec"], label),
            Inside::RunOn { cpus } => linux::scheduling::run_on(&cpus.words).context("sched_setaffinity"),
            Inside::Personality { value, .. } => {
                linux::scheduling::set_personality(*value).context("personality")
            }
            Inside::MemoryPolicy(policy) => {
                linux::scheduling::set_memory_policy(policy.mode, &policy.nodes.words)
                    .context("set_mempolicy")
            }
            Inside::IoPriority { value, .. } => {
                linux::scheduling::set_io_priority(*value).context("ioprio_set")
            }
            Inside::Scheduler(wanted) => schedule(wanted),
            Inside::Umask { mask } => {
                linux::process::set_umask(*mask);
                Ok(())
            }
            Inside::WorkingDirectory { path } => {
                chdir(path.as_str()).context("chdir")?;
                inside_the_root()
            }
            Inside::NoNewPrivileges => nix::sys::prctl::set_no_new_privs().context("PR_SET_NO_NEW_PRIVS"),
            Inside::Credentials(wanted) => credentials::take(wanted),
            Inside::Seccomp(filter) => self.filter(found, filter),
            Inside::Home { uid } => {
                found.home = Some(format!("HOME={}", program::home(*uid)?));
                Ok(())
            }
            Inside::CloseOnExec { from } => linux::process::close_on_exec_from(*from).context("close_range"),
            Inside::FindProgram { name } => {
                let env = self.plan.inside.iter().find_map(|step| match step {
                    Inside::Exec { env, .. } => Some(&env[..]),
                    _ => None,
                });
                found.program = program::find(name, env.unwrap_or_default())?;
                Ok(())
            }
            _ => bail!("no such step inside"),
        }
    }

    fn hear(&self, found: &mut Found, mark: Mark) -> Result<()> {
        while found.heard & (1 << mark as u8) == 0 {
            match self.channel.receive()? {
                Message::Mark { mark, .. } => found.heard |= 1 << mark,
                _ => bail!("the runtime is gone"),
            }
        }
        Ok(())
    }

    fn filter(&self, found: &mut Found, filter: &Filter) -> Result<()> {
        found.listener =
            linux::seccomp::install(&filter.program, filter.flags, filter.notify).context("seccomp")?;
        match &found.listener {
            // By its number: to send it along, profiles would have to let sendmsg(2) go without asking.
            Some(fd) => {
                self.channel.tell_number(Mark::Listener, fd.as_raw_fd() as u32).context("the runtime is gone")
            }
            None => Ok(()),
        }
    }

    fn wait_at_the_gate(&self, found: &mut Found) -> Result<()> {
        found.stream = Some(match &self.gate {
            Some(listener) => gate::park(listener).context("accept")?,
            None if gate::heard_go(&self.channel) => self.channel.as_fd().try_clone_to_owned()?,
            None => bail!("the runtime is gone"),
        });
        Ok(())
    }

    fn exec(&self, found: &mut Found, args: &[String], env: &[String]) -> Result<()> {
        let mut env = env.to_vec();
        env.extend(found.home.take());
        for pair in env.iter_mut().filter(|pair| *pair == "LISTEN_PID=") {
            *pair = format!("LISTEN_PID={}", getpid());
        }
        if let Some(stream) = &found.stream {
            gate::about_to_exec(stream).context("the runtime is gone")?;
        }
        linux::process::default_sigpipe();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.signals), None).context("sigprocmask")?;
        Err(program::exec(&found.program, args, &env))
    }
}

impl Found {
    fn forget_the_roots_making(&mut self) {
        (self.root, self.masks) = (None, Masks::default());
        self.handles.clear();
    }

    fn handle(&self, slot: Slot) -> Result<BorrowedFd<'_>> {
        self.handles.get(slot.0).and_then(Option::as_ref).map(AsFd::as_fd).context(NEVER_OPENED)
    }

    /// Hands it over for good.
    pub(super) fn take(&mut self, slot: Slot) -> Result<OwnedFd> {
        self.handles.get_mut(slot.0).and_then(Option::take).context(NEVER_OPENED)
    }

    pub(super) fn hold(&mut self, dir: OwnedFd) {
        self.root = Some(Root::new(dir));
    }

    pub(super) fn root(&mut self) -> Result<&mut Root> {
        self.root.as_mut().context(NO_ROOT)
    }

    pub(super) fn root_and_masks(&mut self) -> Result<(&mut Root, &mut Masks)> {
        Ok((self.root.as_mut().context(NO_ROOT)?, &mut self.masks))
    }

    pub(super) fn root_and_procfs(&mut self) -> Result<(&Root, &Procfs)> {
        self.procfs()?;
        Ok((self.root.as_ref().context(NO_ROOT)?, self.procfs.as_ref().context("there is no procfs")?))
    }

    /// Where a node or link belongs: the handle on the directory, and its name there.
    pub(super) fn parent<'p>(&mut self, path: &'p ContainerPath) -> Result<(BorrowedFd<'_>, &'p str)> {
        self.parent.of(self.root.as_ref().context(NO_ROOT)?, path)
    }

    fn procfs(&mut self) -> Result<&Procfs> {
        if self.procfs.is_none() {
            self.procfs = Some(Procfs::open()?);
        }
        self.procfs.as_ref().context("there is no procfs")
    }
}

fn session_keyring(name: &str) -> Result<()> {
    match linux::keyring::join(&std::ffi::CString::new(name)?) {
        // A kernel without keys has none to leak, either.
        Err(Errno::ENOSYS) => Ok(()),
        other => other.context("keyctl"),
    }
}

/// Its own directory is there since Linux 5.8, for the others may be another module's.
fn confine(procfs: &Procfs, profile: &str) -> Result<()> {
    let done = procfs.write_own(&["attr/apparmor/exec", "attr/exec"], &format!("exec {profile}"));
    done.map_err(|e| match e.downcast_ref() {
        Some(Errno::ENOENT) => {
            anyhow::anyhow!("{e:#} (no such profile is loaded: apparmor_parser(8) loads one)")
        }
        _ => e,
    })
}

fn schedule(wanted: &Scheduler) -> Result<()> {
    let Scheduler { policy, nice, priority, flags, runtime, deadline, period, .. } = *wanted;
    let times = [runtime, deadline, period];
    match linux::scheduling::set_scheduler(policy, flags, nice, priority, times) {
        // sched(7), cpuset(7).
        Err(e @ (Errno::EPERM | Errno::EBUSY)) => {
            bail!(
                "sched_setattr: {e} (it takes CAP_SYS_NICE over the host; SCHED_DEADLINE also takes all processors, \
                 not a cpuset's)"
            )
        }
        other => other.context("sched_setattr"),
    }
}

/// A working directory outside the root would be a way out (CVE-2024-21626).
fn inside_the_root() -> Result<()> {
    let now = linux::process::working_directory().context("getcwd")?;
    if now.first() != Some(&b'/') {
        bail!("{} is outside the container", String::from_utf8_lossy(&now));
    }
    Ok(())
}
