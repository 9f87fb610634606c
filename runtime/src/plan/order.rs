//! THE order: the life of a container from nothing to its program, top to bottom.
//!
//! Each line is one step or one small group of them. What comes before what, and why, is decided here only.

use anyhow::Result;

use super::draft::Draft;
use super::path::ContainerPath;
use super::step::{FdSlot, HostStep, HostSync, InitSync, LifecycleStep, PayloadStep, RootfsStep, SetupStep};
use super::{
    Console, Driver, ExecRequest, Gate, cgroup, hooks, identity, intel_rdt, labels, mounts, namespaces,
    net_devices, program, recorded, rootfs, scheduling, seccomp, systemd,
};
use crate::spec::NamespaceKind::{Cgroup, Mount, Network, Pid, Time, User};
use crate::spec::Process;

pub(super) fn create(d: &mut Draft<'_>, process: &Process<'_>) -> Result<()> {
    // ── On the host, before there is a process ──────────────────────────────────────────────────────────────
    let offsets = namespaces::offsets(&d.spec.linux)?;
    let sysctls = namespaces::sysctls(d.spec, &d.namespaces)?;
    let mut cgroups = match d.options.driver {
        Driver::Cgroupfs => {
            cgroup::cgroups(d.facts, &d.spec.linux.cgroups_path, d.id, &d.spec.linux.resources)?
        }
        Driver::Systemd => systemd::cgroups(d.facts, d.spec, d.id)?,
    };
    let scoped = cgroups.scope.is_some(); //               systemd moves who is cloned already
    d.recorded = recorded::recorded(d, &cgroups)?;
    d.pre_clone.extend(cgroups.pre_clone);
    d.pre_clone.extend(cgroup::refuse_frozen(d)); //       a process that is cloned into a frozen cgroup never runs
    cgroups.warnings.into_iter().for_each(|warning| d.warn(warning));
    let rdt = intel_rdt::intel_rdt(d)?;
    let owner = cgroup::chown(d); //                       so that a user namespace's root may divide its own group
    if scoped { &mut cgroups.post_clone } else { &mut d.pre_clone }.extend(owner);
    if namespaces::has_neighbors(d) {
        d.pre_clone.push(HostStep::ClearDumpable); //      so that nobody in the joined namespaces can ptrace it
    }
    let joined = namespaces::open(d); //                   while their paths still mean what the caller meant
    let devices = net_devices::devices(d, joined.network)?; // they move into a joined namespace at once

    // ── In the new process, from the first instruction ──────────────────────────────────────────────────────
    let moved = scoped || !cgroups.enter.is_empty();
    if scoped {
        d.step(LifecycleStep::Wait { point: HostSync::InCgroup });
    }
    cgroup::join(d, cgroups.enter); //                     all it costs is the container's from here on
    if d.namespaces.makes(User) {
        // Until then its ids are the overflow ids, and it may do nothing.
        d.step(LifecycleStep::Wait { point: HostSync::IdsMapped });
    }
    let own_clocks = !offsets.is_empty();
    if own_clocks {
        d.step(SetupStep::UnshareTime { offsets }); //     while /proc/self is its own: with its ids it loses that
    }
    d.steps(joined.steps); //                              the others' before anything is made in them
    setsid(d, process)?;
    if d.namespaces.makes(Network) {
        d.step(SetupStep::LoopbackUp); //                  as every runtime does: programs count on localhost
    }
    net_devices::wait(d, &devices); //                     whom sysctls and hooks may name
    d.steps(namespaces::names(d.spec));
    d.steps(sysctls.into_iter().map(|(key, value)| SetupStep::WriteSysctl { key, value }));
    if d.namespaces.makes(Cgroup) && moved {
        d.step(SetupStep::UnshareCgroup); //               its root is where the process is when it is made
    }

    // ── The tree of mounts, still beside the host's ─────────────────────────────────────────────────────────
    if d.namespaces.has(Mount) {
        d.step(RootfsStep::MakeRootSlave); //              first: nothing below may reach the host
    }
    rootfs::attach(d);
    let dev = mounts::mounts(d)?;
    if d.namespaces.has(Mount) {
        rootfs::devices(d, dev)?; //                       after mounts: /dev is one of them
    }
    open_console(d, process, d.namespaces.has(Mount)); //  needs /dev/pts and makes /dev/console
    let host_hooks = hooks::before_pivot(d)?; //           prestart, createRuntime, createContainer (runtime.md#lifecycle)
    rootfs::working_directory(d, process); //              while the root can still be written to
    rootfs::restrictions(d)?; //                           after hooks, which may need what is hidden here
    rootfs::enter(d)?; //                                  from here on the host's tree is out of reach

    // ── Who it is, and the wait for start ───────────────────────────────────────────────────────────────────
    // Or it could wait for ever, and nobody would know of it.
    d.step(LifecycleStep::Wait { point: HostSync::PidSaved });
    let payload = become_payload(d, process, None)?;
    hooks::behind_the_gate(d)?; //                         startContainer
    d.step(payload.exec);

    // ── The clone, and the host's side of the conversation ──────────────────────────────────────────────────
    d.spawn.into = cgroups.into;
    d.spawn.new = d.namespaces.new.clone();
    // Cgroup: made by the process once it is where it belongs, unless it is cloned there. Time: offsets are set before anyone is in it.
    d.spawn.new.retain(|kind| (*kind != Cgroup || !moved) && (*kind != Time || !own_clocks));
    d.pre_clone.push(match d.options.gate {
        Gate::Published => HostStep::ListenAtGate,
        Gate::Passed => HostStep::MarkCreating,
    });
    d.post_clone.push(HostStep::SavePid); //               from here on there is a process to be found
    d.post_clone.push(HostStep::Send { point: HostSync::PidSaved });
    if !d.spawn.join.is_empty() && !d.spawn.has_intermediate() {
        d.post_clone.push(HostStep::RestorePidNamespaceForChildren);
    }
    if d.namespaces.makes(User) {
        d.post_clone.push(d.namespaces.map(d.facts));
    }
    identity::oom_score(d, process)?; //                   by the host, for a process that has not changed its ids yet
    if d.namespaces.makes(User) {
        d.post_clone.push(HostStep::Send { point: HostSync::IdsMapped });
    }
    d.post_clone.extend(devices); //                       into the new one, once it is there
    d.post_clone.extend(rdt);
    d.post_clone.extend(cgroups.post_clone); //            while the process makes its mounts
    if scoped {
        d.post_clone.push(HostStep::Send { point: HostSync::InCgroup });
    }
    expect_console(d, process);
    d.post_clone.extend(host_hooks); //                    prestart and createRuntime run here
    d.post_clone.extend(payload.host);
    ready(d);
    d.post_clone.push(HostStep::SaveConfig); //            for exec, which must not see what becomes of the bundle
    if d.options.gate == Gate::Published {
        d.post_clone.push(HostStep::PublishGate);
        d.post_clone.push(HostStep::Send { point: HostSync::GatePublished }); // up to here it ends if the runtime does
    }
    Ok(())
}

/// A further process in a container that is there: who is cloned, what it joins, who it becomes.
pub(super) fn exec(d: &mut Draft<'_>, request: &ExecRequest<'_>) -> Result<()> {
    let process = request.process;
    let init = d.slot(); //                                the launch puts it there
    let (initial, last) = scheduling::affinity(process)?;
    d.pre_clone.extend(initial.map(|cpus| HostStep::SetAffinity { cpus })); // while the container's cgroup does not bind it
    d.pre_clone.push(HostStep::ClearDumpable); //          so that nobody in there can ptrace it (CVE-2016-9962)
    d.spawn.into = request.into.clone();
    d.spawn.cgroup_of = Some(request.init);
    let kinds = join_early(d, init);

    cgroup::join(d, request.enter.clone()); //             all it costs is the container's from here on
    d.steps(last.map(|cpus| PayloadStep::SetAffinity { cpus })); // of those that the cgroup leaves to it
    if !kinds.is_empty() {
        d.step(SetupStep::JoinNamespacesOf { kinds, init: request.init, slot: init });
    }
    setsid(d, process)?;
    rootfs::reenter(d); //                                 a joined mount namespace shows the container's root as "/"
    open_console(d, process, false); //                    /dev/console is the init's
    let payload = become_payload(d, process, Some(request.init))?;
    d.step(payload.exec);

    identity::oom_score(d, process)?;
    d.post_clone.extend(intel_rdt::join(d));
    expect_console(d, process);
    d.post_clone.extend(payload.host);
    ready(d);
    Ok(())
}

/// What is joined before the clone; returns what is left to be joined after it.
fn join_early(d: &mut Draft<'_>, init: FdSlot) -> Vec<crate::spec::NamespaceKind> {
    let mut kinds = d.namespaces.all();
    // As an ordinary user one has rights over the other namespaces only inside the container's user namespace.
    let through_user = d.facts.needs_user_namespace() && d.namespaces.has(User);
    for early in [User, Pid] {
        if kinds.contains(&early) && (early == Pid || through_user) {
            d.spawn.join.push((early, init));
            kinds.retain(|kind| *kind != early);
        }
    }
    kinds
}

/// A session of its own, with its own keyring, as root of the user namespace.
fn setsid(d: &mut Draft<'_>, process: &Process<'_>) -> Result<()> {
    if d.namespaces.has(User) && d.namespaces.maps_root() {
        d.step(SetupStep::BecomeRoot); //                  of the user namespace
    }
    d.step(SetupStep::Setsid); //                          no controlling terminal of the caller's
    if !d.options.no_new_keyring {
        labels::keys(d, process)?;
        d.step(SetupStep::JoinSessionKeyring { name: format!("_ses.{}", d.id) });
    }
    Ok(())
}

/// What there is to do about the payload besides becoming it.
struct Payload {
    /// Of its limits, and of a seccomp listener.
    host: Vec<HostStep>,
    /// The last step of all.
    exec: PayloadStep,
}

/// Limits, labels, ids and capabilities, each as late as it can be set; then ready, and the wait for its start. `init` is the
/// container's, where that is another process.
fn become_payload(d: &mut Draft<'_>, process: &Process<'_>, init: Option<i32>) -> Result<Payload> {
    let filter = seccomp::moments(d.spec, process, init)?;
    d.step(RootfsStep::CloseRoot); //                      the limits below may be lower than its descriptors' numbers
    let mut host = identity::limits(d, process)?; //       late: one could be in the way of what comes before
    labels::process(d, process)?; //                       of what is executed; the kernel asks for no rights
    scheduling::scheduling(d, process)?; //                by rights that go next, by calls that the filter may forbid
    d.steps(filter.before_credentials); //                 without no_new_privs it takes CAP_SYS_ADMIN, which goes next
    d.step(identity::umask(process)?); //                  nothing more is made here
    d.step(PayloadStep::CloseProcfs); //                   the last that isn't the container's own
    d.step(PayloadStep::Chdir { path: ContainerPath::new(&process.cwd) }); // as root: the user needn't be able to
    if process.no_new_privileges {
        d.step(PayloadStep::SetNoNewPrivs); //             which lets anybody install a filter
    }
    identity::credentials(d, process)?;
    let exec = program::program(d, process)?; //           found as the user who will run it
    d.steps(filter.before_ready); //                       while the host still takes a listener
    d.step(LifecycleStep::Send { point: InitSync::Ready });
    if d.options.gate == Gate::Published {
        d.step(LifecycleStep::Wait { point: HostSync::GatePublished });
    }
    d.step(LifecycleStep::WaitForStart);
    d.steps(filter.last); //                               so that it may forbid what was needed up to here
    host.extend(filter.host);
    Ok(Payload { host, exec })
}

/// The host's last wait. A process that is not to wait for `start` may go on before: nothing is left to do by then.
fn ready(d: &mut Draft<'_>) {
    if d.options.gate == Gate::Passed {
        d.post_clone.push(HostStep::OpenGate);
    }
    d.post_clone.push(HostStep::Expect { point: InitSync::Ready });
}

fn open_console(d: &mut Draft<'_>, process: &Process<'_>, bind: bool) {
    if process.terminal {
        let size = process.console_size.as_ref().map(|s| (s.height, s.width));
        d.step(RootfsStep::OpenConsole { size, bind });
    }
}

fn expect_console(d: &mut Draft<'_>, process: &Process<'_>) {
    if process.terminal {
        d.post_clone.push(HostStep::Expect { point: InitSync::Console });
        if let Console::Socket(socket) = &d.options.console {
            d.post_clone.push(HostStep::SendConsole { socket: socket.clone() });
        }
    }
}
