//! On the host: one match arm for each outside step.

use std::fs::File;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::unistd::Pid;

use super::Gate;
use super::channel::{Channel, Message};
use super::procfs::Procfs;
use super::{cgroup, foreground, hooks, id_maps, inside, mounts, namespaces, net_devices, passing, resctrl};
use crate::container::gate;
use crate::container::record::Record;
use crate::container::systemd;
use crate::plan::Plan;
use crate::plan::step::{Mark, Outside};
use crate::spec::NamespaceKind;

/// The host's side of a launch.
pub(super) struct Host<'a> {
    pub(super) plan: &'a Plan,
    pub(super) record: &'a Record,
    /// What the child inherits, by slot.
    pub(super) handles: Vec<Option<OwnedFd>>,
    /// The far end of the container's terminal, once it is known.
    pub(super) master: Option<OwnedFd>,
    /// Where its system calls can be answered, with a seccomp profile that asks for that.
    pub(super) listener: Option<OwnedFd>,
}

/// Once there is a process to talk to.
pub(super) struct Peer<'a> {
    pub(super) channel: &'a Channel,
    pub(super) pid: Pid,
}

impl<'a> Host<'a> {
    pub(super) fn new(plan: &'a Plan, record: &'a Record) -> Self {
        let handles = (0..plan.slots).map(|_| None).collect();
        Host { plan, record, handles, master: None, listener: None }
    }

    /// What is done before there is a process.
    pub(super) fn prepare(&mut self) -> Result<()> {
        self.plan.before.iter().try_for_each(|step| self.run(step, None))
    }

    /// What is done while there is one, up to its readiness. Through an open gate it goes on at once.
    pub(super) fn converse(&mut self, peer: &Peer<'_>, gate: Gate) -> Result<()> {
        self.play(&self.plan.after, peer, gate)
    }

    /// Carries out some of the steps of `after`.
    pub(super) fn play(&mut self, steps: &[Outside], peer: &Peer<'_>, gate: Gate) -> Result<()> {
        for step in steps {
            // The last wait is for readiness: nothing is left to do by then, so the gate need not be shut.
            if gate == Gate::Open && *step == (Outside::Hear { mark: Mark::Ready }) {
                gate::go(peer.channel)?;
            }
            self.run(step, Some(peer))?;
        }
        Ok(())
    }

    /// Carries one step out; `peer` is there after the clone.
    pub(super) fn run(&mut self, step: &Outside, peer: Option<&Peer<'_>>) -> Result<()> {
        // What the other side could not do is told in the words of its own step.
        if let Outside::Hear { mark } = step {
            return self.hear(*mark, peer);
        }
        self.step(step, peer).map_err(|reason| match step {
            // "error running KIND hook #N" says it all.
            Outside::RunHooks { .. } => reason,
            step => anyhow::anyhow!(inside::explain(step.property(), step, &reason)),
        })
    }

    fn step(&mut self, step: &Outside, peer: Option<&Peer<'_>>) -> Result<()> {
        match step {
            Outside::MakeCgroup { dir } => cgroup::make(dir),
            Outside::EnableControllers { dir, controllers, required } => {
                cgroup::enable(dir, controllers, required)
            }
            Outside::InheritCpuset { dir } => cgroup::inherit_cpuset(dir),
            Outside::WriteCgroup { dir, file, values, missing, .. } => {
                cgroup::write(dir, file, values, missing)
            }
            Outside::RefuseFrozen { dir, file } => cgroup::refuse_frozen(dir, file),
            Outside::LimitDevices { dir, program, .. } => cgroup::limit_devices(dir, program),
            Outside::StartScope { scope, dir, properties } => {
                let pid = there(peer)?.pid;
                systemd::start(scope, properties, pid.as_raw())?;
                cgroup::check_inside(dir, pid)
            }
            Outside::SetProperties { scope, properties } => systemd::set(scope, properties),
            Outside::OwnCgroup { dir, uid, gid } => cgroup::own(dir, *uid, *gid),
            Outside::OpenCgroup { dir, slot } => {
                self.handles[slot.0] = Some(cgroup::open_to_enter(dir)?);
                Ok(())
            }
            // The child inherits it, and exec ends it.
            Outside::ForbidTracing => nix::sys::prctl::set_dumpable(false).context("PR_SET_DUMPABLE"),
            Outside::OpenRoot { path, slot } => {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                self.handles[slot.0] = Some(open(path, flags, Mode::empty()).context("open")?);
                Ok(())
            }
            Outside::OpenNamespace { kind, path, slot } => {
                let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
                let namespace = open(path, flags, Mode::empty()).context("open")?;
                let own = || nix::sys::stat::stat("/proc/self/ns/mnt");
                if *kind == NamespaceKind::Mount && same(&fstat(&namespace)?, &own()?) {
                    bail!("is the host's own: its mounts would change");
                }
                self.handles[slot.0] = Some(namespace);
                Ok(())
            }
            Outside::MakeIdMap { uids, gids, slot } => {
                self.handles[slot.0] = Some(id_maps::namespace(uids, gids)?);
                Ok(())
            }
            Outside::CloneTree { source, recursive, attributes, id_map, slot, .. } => {
                let map =
                    id_map.as_ref().and_then(|map| Some((self.handles[map.slot.0].as_ref()?, map.recursive)));
                self.handles[slot.0] = Some(mounts::clone_host(source, *recursive, attributes, map)?);
                Ok(())
            }
            Outside::LeavePidNamespace => namespaces::enter_own("pid"),
            Outside::MoveDevice { device, name, namespace } => {
                let theirs = match namespace {
                    Some(slot) => self.handles[slot.0].as_ref().map(OwnedFd::try_clone).transpose()?,
                    None => {
                        Some(File::open(format!("/proc/{}/ns/net", there(peer)?.pid)).context("open")?.into())
                    }
                };
                let theirs = theirs.context("its handle was never opened")?;
                net_devices::move_into(&theirs, device, name.as_deref())
            }
            Outside::LoopbackUp => net_devices::loopback_up(there(peer)?.pid),
            Outside::RdtGroup { dir, schemata, shared } => resctrl::group(dir, schemata, *shared),
            Outside::EnterRdtGroup { dir } => resctrl::enter(dir, there(peer)?.pid),
            Outside::RunOn { cpus } => linux::scheduling::run_on(&cpus.words).context("sched_setaffinity"),
            Outside::OomScore { value } => {
                let path = format!("{}/oom_score_adj", there(peer)?.pid);
                Procfs::open()?.write(&path, &value.to_string())
            }
            Outside::Rlimit(limit) => {
                let pid = there(peer)?.pid.as_raw();
                linux::process::set_limit(pid, limit.resource, limit.soft, limit.hard).context("prlimit")
            }
            Outside::MapIds { uids, gids, by } => id_maps::write(there(peer)?.pid, uids, gids, *by),
            Outside::RunHooks { kind, hooks: all } => {
                // runtime.md#lifecycle: the namespaces stand, the program does not run yet.
                let state = self.record.hook_state("creating", there(peer)?.pid.as_raw());
                hooks::run(*kind, all, &state)
            }
            Outside::Tell { mark } => {
                let peer = there(peer)?;
                let told = peer.channel.tell(*mark, None);
                // When it is gone, it has said why, and the next step that listens will hear it.
                told.or_else(|e| if e == nix::errno::Errno::EPIPE { Ok(()) } else { Err(e) }).context("send")
            }
            Outside::PassConsole { socket } => {
                passing::pass(self.master.as_ref().context("no terminal came")?, socket, "/dev/ptmx")?;
                self.master = None;
                Ok(())
            }
            Outside::PassListener { socket, metadata, init } => {
                let listener = self.listener.take().context("no listener came")?;
                let state = self.record.container_process_state(metadata, there(peer)?.pid.as_raw(), *init);
                passing::pass(listener, socket, &state)
            }
            Outside::Hear { .. } => bail!("handled above"),
        }
    }

    fn hear(&mut self, wanted: Mark, peer: Option<&Peer<'_>>) -> Result<()> {
        match there(peer)?.channel.receive()? {
            Message::Mark { mark, value, .. } if mark == wanted as u8 && wanted == Mark::Listener => {
                let pidfd = linux::pidfd::open(there(peer)?.pid).context("pidfd_open")?;
                self.listener = Some(linux::pidfd::descriptor(pidfd, value).context("pidfd_getfd")?);
                Ok(())
            }
            Message::Mark { mark, fd, .. } if mark == wanted as u8 => {
                self.master = fd.or(self.master.take());
                if wanted == Mark::Console {
                    self.master.iter().for_each(foreground::first_size);
                }
                Ok(())
            }
            Message::Mark { mark, .. } => bail!("the new process said {mark} while {wanted} was due"),
            Message::Failed { step, reason } => match self.plan.inside.get(step) {
                Some(step) => bail!(inside::explain(step.property(), step, &anyhow::anyhow!(reason))),
                None => bail!("{reason}"),
            },
            Message::End => bail!(
                "the new process was killed while {wanted} was due (a memory limit below a few MB does that; see the kernel's log)"
            ),
        }
    }
}

fn there<'p, 'c>(peer: Option<&'p Peer<'c>>) -> Result<&'p Peer<'c>> {
    peer.context("there is no process yet")
}

fn same(a: &FileStat, b: &FileStat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}
