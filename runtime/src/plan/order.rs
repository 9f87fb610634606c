//! THE order: the life of a container from nothing to its program, top to bottom.
//!
//! Each line is one step or one small group of them. What comes before what, and why, is decided here only.

use anyhow::{Result, bail};

use super::step::{Inside, Mark, Outside};
use super::{
    Console, Draft, Driver, ExecRequest, cgroup, hooks, identity, intel_rdt, labels, mounts, namespaces,
    net_devices, rootfs, scheduling, seccomp, systemd,
};
use crate::spec::NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Time, User};
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
    let scoped = cgroups.scope.is_some(); //               systemd moves who is born already
    (d.cgroup_dirs, d.scope) = (cgroups.dirs, cgroups.scope);
    d.before.extend(cgroups.before);
    d.refuse_frozen(); //                                  who is born into one could not be ended, either
    d.warnings.extend(cgroups.warnings);
    let rdt = intel_rdt::intel_rdt(d)?;
    let owner = d.own_cgroup(); //                         so that a user namespace's root may divide its own group
    if scoped { &mut cgroups.after } else { &mut d.before }.extend(owner);
    if d.has_neighbors() {
        d.before.push(Outside::ForbidTracing); //          from its birth on, by those whose namespaces it joins
    }
    let joins = d.open_namespaces(); //                    while their paths still mean what the caller meant
    let network = joins.iter().find_map(|join| match join {
        Inside::Join { kind: Network, slot } => Some(*slot),
        _ => None,
    });
    let moves = net_devices::devices(d, network)?; //      into a joined namespace at once

    // ── Inside, from the first instruction ──────────────────────────────────────────────────────────────────
    let moved = scoped || !cgroups.enter.is_empty();
    if scoped {
        d.await_mark(Mark::Attached);
    }
    d.enter_cgroups(cgroups.enter); //                     all it costs is the container's from here on
    if d.namespaces.makes(User) {
        d.await_mark(Mark::IdsMapped); //                  before it the child is nobody, and may do nothing
    }
    let own_clocks = !offsets.is_empty();
    if own_clocks {
        d.inside.push(Inside::OffsetClocks { offsets }); // while /proc/self is its own: with its ids it loses that
    }
    d.inside.extend(joins); //                             the others' before anything is made in them
    if d.namespaces.has(User) && d.namespaces.maps_root() {
        d.inside.push(Inside::BecomeRoot); //              of the user namespace
    }
    d.inside.push(Inside::NewSession); //                  no controlling terminal of the caller's
    if !d.options.no_new_keyring {
        labels::keys(d, process)?;
        d.inside.push(Inside::SessionKeyring { name: format!("_ses.{}", d.id) });
    }
    if d.namespaces.makes(Network) {
        d.inside.push(Inside::LoopbackUp); //              as every runtime does: programs count on localhost
    }
    net_devices::await_them(d, &moves); //                 whom sysctls and hooks may name
    d.names(); //                                          hostname and domainname
    d.inside.extend(sysctls.into_iter().map(|(key, value)| Inside::Sysctl { key, value }));
    if d.namespaces.makes(Cgroup) && moved {
        d.inside.push(Inside::NewCgroupNamespace); //      its root is where the child is when it is made
    }

    // ── The tree of mounts, still beside the host's ─────────────────────────────────────────────────────────
    if d.namespaces.has(Mount) {
        d.inside.push(Inside::Isolate); //                 first: nothing below may reach the host
    }
    rootfs::attach(d);
    mounts::mounts(d)?;
    if d.namespaces.has(Mount) {
        rootfs::devices(d)?; //                            after mounts: /dev is one of them
    }
    if process.terminal {
        d.console(process, d.namespaces.has(Mount)); //    needs /dev/pts and makes /dev/console
    }
    hooks::before_pivot(d)?; //                            prestart, createRuntime, createContainer (config.md#lifecycle)
    d.make_working_directory(process)?; //                 while the root can still be written to
    rootfs::restrictions(d)?; //                           after hooks, which may need what is hidden here
    rootfs::enter(d)?; //                                  from here on the host's tree is out of reach

    // ── Who it is, and the wait for start ───────────────────────────────────────────────────────────────────
    d.await_mark(Mark::OnRecord); //                       or it could wait for ever, and nobody would know of it
    let beside = become_payload(d, process, None)?;
    hooks::inside(d)?; //                                  startContainer
    d.inside.extend(d.exec.take());

    // ── The clone, and the host's side of the conversation ──────────────────────────────────────────────────
    d.after.push(Outside::Tell { mark: Mark::OnRecord });
    d.spawn.into = cgroups.into;
    d.spawn.new = d.namespaces.new.clone();
    // Cgroup: made by the child once it is where it belongs, unless it is born there. Time: offsets are set before anyone is in it.
    d.spawn.new.retain(|kind| (*kind != Cgroup || !moved) && (*kind != Time || !own_clocks));
    if !d.spawn.join.is_empty() && !d.spawn.has_middle() {
        d.after.push(Outside::LeavePidNamespace);
    }
    if d.namespaces.makes(User) {
        d.after.push(d.namespaces.map(d.facts));
    }
    identity::oom_score(d, process)?; //                   by the host, for a process that has not changed its ids yet
    if d.namespaces.makes(User) {
        d.after.push(Outside::Tell { mark: Mark::IdsMapped });
    }
    d.after.extend(moves); //                              into the new one, once it is there
    d.after.extend(rdt);
    d.after.extend(cgroups.after); //                      while the child makes its mounts
    if scoped {
        d.after.push(Outside::Tell { mark: Mark::Attached });
    }
    hear_console(d, process);
    hooks::beside(d)?; //                                  prestart and createRuntime run here
    d.after.extend(beside);
    d.after.push(Outside::Hear { mark: Mark::Ready });
    Ok(())
}

/// A further process in a container that is there: who is born, what it joins, who it becomes.
pub(super) fn exec(d: &mut Draft<'_>, request: &ExecRequest<'_>) -> Result<()> {
    let process = request.process;
    let init = d.slot(); //                                the launch puts it there
    let (initial, last) = scheduling::affinity(process)?;
    d.before.extend(initial.map(|cpus| Outside::RunOn { cpus })); // while the container's cgroup does not bind it
    d.before.push(Outside::ForbidTracing); //              by those whose namespaces it joins (CVE-2016-9962)
    d.spawn.into = request.into.clone();
    d.spawn.neighbor = Some(request.init);
    // As an ordinary user one has rights over the other namespaces only inside the container's user namespace.
    let through_user = d.facts.powerless() && d.namespaces.has(User);
    let mut kinds = d.namespaces.all();
    for early in [User, Pid] {
        if kinds.contains(&early) && (early == Pid || through_user) {
            d.spawn.join.push((early, init));
            kinds.retain(|kind| *kind != early);
        }
    }

    d.enter_cgroups(request.enter.clone()); //             all it costs is the container's from here on
    d.inside.extend(last.map(|cpus| Inside::RunOn { cpus })); // of those that the cgroup leaves to it
    if !kinds.is_empty() {
        d.inside.push(Inside::JoinAll { kinds, init: request.init, slot: init });
    }
    if d.namespaces.has(User) && d.namespaces.maps_root() {
        d.inside.push(Inside::BecomeRoot); //              of the user namespace
    }
    d.inside.push(Inside::NewSession);
    if !d.options.no_new_keyring {
        labels::keys(d, process)?;
        d.inside.push(Inside::SessionKeyring { name: format!("_ses.{}", d.id) });
    }
    rootfs::reenter(d); //                                 a joined mount namespace shows the container's root as "/"
    if process.terminal {
        d.console(process, false); //                      /dev/console is the init's
    }
    let beside = become_payload(d, process, Some(request.init))?;
    d.inside.extend(d.exec.take());

    identity::oom_score(d, process)?;
    d.after.extend(intel_rdt::enter(d));
    hear_console(d, process);
    d.after.extend(beside);
    d.after.push(Outside::Hear { mark: Mark::Ready });
    Ok(())
}

/// Who it is: limits, then ids and capabilities, each the last moment that may set it; then ready for its start. What
/// the host does about limits and about a seccomp listener. `init` is the container's, where that is another process.
fn become_payload(d: &mut Draft<'_>, process: &Process<'_>, init: Option<i32>) -> Result<Vec<Outside>> {
    let filter = seccomp::moments(d.spec, process, init)?;
    let mut beside = identity::limits(d, process)?; //     late: one could be in the way of what comes before
    labels::process(d, process)?; //                       of what is executed; the kernel asks for no rights
    scheduling::scheduling(d, process)?; //                by rights that go next, by calls that the filter may forbid
    d.inside.extend(filter.privileged); //                 takes CAP_SYS_ADMIN, which goes next
    identity::credentials(d, process)?;
    identity::program(d, process)?; //                     found as the user who will run it
    d.inside.extend(filter.told); //                       while the runtime listens
    d.inside.push(Inside::Tell { mark: Mark::Ready });
    d.inside.push(Inside::Gate);
    d.inside.extend(filter.late); //                       so that it may forbid what was needed up to here
    beside.extend(filter.beside);
    Ok(beside)
}

fn hear_console(d: &mut Draft<'_>, process: &Process<'_>) {
    if process.terminal {
        d.after.push(Outside::Hear { mark: Mark::Console });
        if let Console::Socket(socket) = &d.options.console {
            d.after.push(Outside::PassConsole { socket: socket.clone() });
        }
    }
}

/// What contradicts before anything is planned.
pub(super) fn check(d: &Draft<'_>, process: &Process<'_>) -> Result<()> {
    check_process(d, process)?;
    if d.facts.powerless() && !d.namespaces.has(User) {
        bail!(
            "linux.namespaces: without root's rights it needs a user namespace; `ampoule spec --rootless` writes a \
             config.json that has one"
        );
    }
    if d.spec
        .linux
        .resources
        .unified
        .0
        .iter()
        .any(|(file, value)| &**file == "cgroup.freeze" && value.trim() != "0")
    {
        bail!(
            "linux.resources.unified[\"cgroup.freeze\"]: would stop the container before it is made; pause it once it is created"
        );
    }
    if d.namespaces.makes(User)
        && !d.namespaces.makes(Ipc)
        && d.spec.mounts.iter().any(|m| &*m.kind == "mqueue")
    {
        bail!("mounts: mqueue in a new user namespace needs a new ipc namespace in linux.namespaces");
    }
    Ok(())
}

/// The same, of the process alone.
pub(super) fn check_process(d: &Draft<'_>, process: &Process<'_>) -> Result<()> {
    if !process.cwd.starts_with('/') {
        bail!("process.cwd: {:?}, expected an absolute path", &*process.cwd);
    }
    match (&d.options.console, process.terminal) {
        (Console::Socket(_), false) => {
            bail!("process.terminal: false, so --console-socket has nothing to receive")
        }
        (Console::None, true) => {
            bail!(
                "process.terminal: true needs a terminal to run in, or --console-socket when nobody stays in the foreground"
            )
        }
        _ => Ok(()),
    }
}
