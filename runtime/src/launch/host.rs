//! On the host: one match arm for each of its steps.

use std::fs::File;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::unistd::Pid;

use super::channel::{FromInit, HostEnd, Reached};
use super::procfs::Procfs;
use super::{cgroup, foreground, hooks, id_maps, init, mounts, namespaces, net_devices, resctrl, send_fd};
use crate::container::gate;
use crate::container::record::Record;
use crate::container::status::Init;
use crate::container::store::Locked;
use crate::container::systemd;
use crate::plan::Plan;
use crate::plan::step::{HostStep, InitSync};
use crate::spec::NamespaceKind;

/// The host's side of a launch.
pub(super) struct Host<'a> {
    pub(super) plan: &'a Plan,
    pub(super) record: &'a Record,
    /// The container that is made, if one is.
    pub(super) creation: Option<Creation<'a>>,
    /// What the new process inherits, by slot.
    pub(super) handles: Vec<Option<OwnedFd>>,
    /// Where it is to park.
    pub(super) gate: Option<OwnedFd>,
    /// The pty master of the container's terminal, once it is known.
    pub(super) master: Option<OwnedFd>,
    /// Where its system calls can be answered, with a seccomp profile that asks for that.
    listener: Option<OwnedFd>,
}

/// A container that is being made, and the bytes of its document.
#[derive(Clone, Copy)]
pub(super) struct Creation<'a> {
    pub(super) locked: &'a Locked,
    pub(super) config: &'a [u8],
}

/// Once there is a process to talk to.
pub(super) struct Peer<'a> {
    pub(super) channel: &'a HostEnd,
    pub(super) pid: Pid,
}

impl<'a> Host<'a> {
    pub(super) fn new(plan: &'a Plan, record: &'a Record, creation: Option<Creation<'a>>) -> Self {
        let handles = (0..plan.slots).map(|_| None).collect();
        Host { plan, record, creation, handles, gate: None, master: None, listener: None }
    }

    /// What is done before there is a process.
    pub(super) fn pre_clone(&mut self) -> Result<()> {
        self.plan.pre_clone.iter().try_for_each(|step| self.run(step, None))
    }

    /// What is done while there is one.
    pub(super) fn post_clone(&mut self, peer: &Peer<'_>) -> Result<()> {
        self.plan.post_clone.iter().try_for_each(|step| self.run(step, Some(peer)))
    }

    /// Carries one step out; `peer` is there after the clone.
    pub(super) fn run(&mut self, step: &HostStep, peer: Option<&Peer<'_>>) -> Result<()> {
        self.step(step, peer).map_err(|reason| match step {
            // What the new process could not do is reported with its own step's text; "error running KIND hook #N" says it all.
            HostStep::Expect { .. } | HostStep::RunHooks { .. } => reason,
            step => anyhow::anyhow!(init::explain(step.json_path(), step, &reason)),
        })
    }

    fn step(&mut self, step: &HostStep, peer: Option<&Peer<'_>>) -> Result<()> {
        match step {
            HostStep::MakeCgroup { dir } => cgroup::make(dir),
            HostStep::EnableControllers { dir, controllers, required } => {
                cgroup::enable(dir, controllers, required)
            }
            HostStep::InheritCpuset { dir } => cgroup::inherit_cpuset(dir),
            HostStep::WriteCgroup { dir, file, values, missing, .. } => {
                cgroup::write(dir, file, values, missing)
            }
            HostStep::RefuseFrozen { dir, file } => cgroup::refuse_frozen(dir, file),
            HostStep::AttachDeviceFilter { dir, program, .. } => cgroup::limit_devices(dir, program),
            HostStep::StartScope { scope, dir, properties } => {
                let pid = there(peer)?.pid;
                systemd::start(scope, properties, pid.as_raw())?;
                cgroup::check_inside(dir, pid)
            }
            HostStep::SetScopeProperties { scope, properties } => systemd::set(scope, properties),
            HostStep::ChownCgroup { dir, uid, gid } => cgroup::own(dir, *uid, *gid),
            HostStep::OpenCgroup { dir, slot } => {
                self.handles[slot.0] = Some(cgroup::open_to_enter(dir)?);
                Ok(())
            }
            // The new process inherits it, and exec ends it.
            HostStep::ClearDumpable => nix::sys::prctl::set_dumpable(false).context("PR_SET_DUMPABLE"),
            HostStep::OpenRoot { path, slot } => {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                self.handles[slot.0] = Some(open(path, flags, Mode::empty()).context("open")?);
                Ok(())
            }
            HostStep::OpenNamespace { kind, path, slot } => {
                let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
                let namespace = open(path, flags, Mode::empty()).context("open")?;
                let own = || nix::sys::stat::stat("/proc/self/ns/mnt");
                if *kind == NamespaceKind::Mount && same(&fstat(&namespace)?, &own()?) {
                    bail!("is the host's own: its mounts would change");
                }
                self.handles[slot.0] = Some(namespace);
                Ok(())
            }
            HostStep::CreateUserNamespace { uids, gids, slot } => {
                self.handles[slot.0] = Some(id_maps::namespace(uids, gids)?);
                Ok(())
            }
            HostStep::CloneMount { source, recursive, attributes, id_map, slot, .. } => {
                let map =
                    id_map.as_ref().and_then(|map| Some((self.handles[map.slot.0].as_ref()?, map.recursive)));
                self.handles[slot.0] = Some(mounts::clone_host(source, *recursive, attributes, map)?);
                Ok(())
            }
            HostStep::RestorePidNamespaceForChildren => namespaces::enter_own("pid"),
            HostStep::MoveNetDevice { device, name, namespace } => {
                let theirs = match namespace {
                    Some(slot) => self.handles[slot.0].as_ref().map(OwnedFd::try_clone).transpose()?,
                    None => {
                        Some(File::open(format!("/proc/{}/ns/net", there(peer)?.pid)).context("open")?.into())
                    }
                };
                let theirs = theirs.context("its handle was never opened")?;
                net_devices::move_into(&theirs, device, name.as_deref())
            }
            HostStep::LoopbackUp => net_devices::loopback_up(there(peer)?.pid),
            HostStep::MakeRdtGroup { dir, schemata, shared } => resctrl::group(dir, schemata, *shared),
            HostStep::JoinRdtGroup { dir } => resctrl::enter(dir, there(peer)?.pid),
            HostStep::SetAffinity { cpus } => {
                linux::scheduling::run_on(&cpus.words).context("sched_setaffinity")
            }
            HostStep::SetOomScoreAdj { value } => {
                let path = format!("{}/oom_score_adj", there(peer)?.pid);
                Procfs::open()?.write(&path, &value.to_string())
            }
            HostStep::SetRlimit(limit) => {
                let pid = there(peer)?.pid.as_raw();
                linux::process::set_limit(pid, limit.resource, limit.soft, limit.hard).context("prlimit")
            }
            HostStep::MapIds { uids, gids, by } => id_maps::write(there(peer)?.pid, uids, gids, *by),
            HostStep::ListenAtGate => {
                self.gate = Some(gate::build(self.creation()?.locked.container.dir())?);
                Ok(())
            }
            HostStep::MarkCreating => self.creation()?.locked.mark_unready(),
            HostStep::SavePid => self.creation()?.locked.save_init(Init::of(there(peer)?.pid)?),
            HostStep::RunHooks { kind, hooks: all } => {
                let state = self.record.hook_state(kind.status(), there(peer)?.pid.as_raw());
                hooks::run(*kind, all, &state)
            }
            HostStep::Send { point } => match there(peer)?.channel.send(*point) {
                // When it is gone, it has sent why, and the next `Expect` receives that.
                Ok(()) | Err(Errno::EPIPE) => Ok(()),
                Err(e) => Err(e).context("write"),
            },
            HostStep::Expect { point } => self.expect(*point, there(peer)?),
            HostStep::SendConsole { socket } => {
                send_fd::send_fd(self.master.as_ref().context("no pty master came")?, socket, "/dev/ptmx")?;
                self.master = None;
                Ok(())
            }
            HostStep::SendSeccompListener { socket, metadata, init } => {
                let listener = self.listener.take().context("no listener came")?;
                let state = self.record.container_process_state(metadata, there(peer)?.pid.as_raw(), *init);
                send_fd::send_fd(listener, socket, &state)
            }
            HostStep::OpenGate => gate::go(there(peer)?.channel),
            HostStep::SaveConfig => self.creation()?.locked.save_config(self.creation()?.config),
            HostStep::PublishGate => self.creation()?.locked.publish_gate(),
        }
    }

    fn creation(&self) -> Result<Creation<'a>> {
        self.creation.context("no container is being made")
    }

    fn expect(&mut self, wanted: InitSync, peer: &Peer<'_>) -> Result<()> {
        let Reached { point, number, fd, .. } = match peer.channel.receive()? {
            FromInit::Reached(reached) => reached,
            FromInit::Failed { step, reason } => match self.plan.init.get(step) {
                Some(step) => bail!(init::explain(step.json_path(), step, &anyhow::anyhow!(reason))),
                None => bail!("{reason}"),
            },
            FromInit::End => bail!(
                "the new process was killed while the runtime expected: {wanted} (a memory limit below a few MB or a \
                 seccomp filter does that; see the kernel's log)"
            ),
        };
        if point != wanted {
            bail!("the new process sent: {point}, while the runtime expected: {wanted}");
        }
        match wanted {
            InitSync::Console => {
                self.master = fd;
                self.master.iter().for_each(foreground::first_size);
            }
            InitSync::SeccompListener => {
                let pidfd = linux::pidfd::open(peer.pid).context("pidfd_open")?;
                self.listener = Some(linux::pidfd::descriptor(pidfd, number).context("pidfd_getfd")?);
            }
            InitSync::Cloned | InitSync::ReadyForHooks | InitSync::ReadyForRlimits | InitSync::Ready => {}
        }
        Ok(())
    }
}

fn there<'p, 'c>(peer: Option<&'p Peer<'c>>) -> Result<&'p Peer<'c>> {
    peer.context("there is no process yet")
}

fn same(a: &FileStat, b: &FileStat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}
