//! In the new process: the steps about what the process is a part of.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{sethostname, setsid};

use super::super::namespaces::{flag, offset_clocks};
use super::super::{cgroup, credentials};
use super::State;
use crate::plan::step::SetupStep;

pub(super) fn run(state: &mut State, step: &SetupStep) -> Result<()> {
    match step {
        SetupStep::JoinCgroup { slot, .. } => cgroup::enter(state.handle(*slot)?),
        SetupStep::BecomeRoot => credentials::change_ids(0, 0, &[]),
        SetupStep::JoinNamespace { kind, slot } => setns(state.handle(*slot)?, flag(*kind)).context("setns"),
        SetupStep::JoinNamespacesOf { kinds, slot, .. } => {
            let flags = kinds.iter().fold(CloneFlags::empty(), |flags, kind| flags | flag(*kind));
            setns(state.handle(*slot)?, flags).context("setns")
        }
        SetupStep::UnshareCgroup => unshare(CloneFlags::CLONE_NEWCGROUP).context("unshare"),
        SetupStep::UnshareTime { offsets } => offset_clocks(offsets),
        SetupStep::Setsid => setsid().context("setsid").map(drop),
        SetupStep::JoinSessionKeyring { name } => join_session_keyring(name),
        SetupStep::SetKeyLabel { label } => state.procfs()?.write_own(&["attr/keycreate"], label),
        SetupStep::SetHostname { name } => sethostname(name).context("sethostname"),
        SetupStep::SetDomainname { name } => linux::process::set_domainname(name).context("setdomainname"),
        SetupStep::LoopbackUp => linux::net::loopback_up().context("SIOCSIFFLAGS"),
        SetupStep::WriteSysctl { key, value } => state.procfs()?.write(&format!("sys/{key}"), value),
    }
}

fn join_session_keyring(name: &str) -> Result<()> {
    match linux::keyring::join(&std::ffi::CString::new(name)?) {
        // A kernel without keys has none to leak, either.
        Err(Errno::ENOSYS) => Ok(()),
        other => other.context("keyctl"),
    }
}
