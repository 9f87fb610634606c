//! `linux.seccomp` as the program that the kernel runs before each system call (seccomp(2)).
//!
//! The meaning is libseccomp's and runc's, so that a profile confines here as it does there:
//!
//! 1. A call from an architecture that is neither native nor listed kills its thread.
//! 2. A number above all that the profile names on its architecture is newer than the profile. It gets ENOSYS, on
//!    which programs fall back to an older call, unless the default lets things pass.
//! 3. A rule without conditions decides its system call; the first one, if there are several.
//! 4. Otherwise the most specific rule decides whose conditions all hold; `rule.rs` says which that is.
//! 5. Otherwise the default action does.
//!
//! From the document to the program, room by room: `profile` judges its words, `syscalls` (and `multiplex`, for i386)
//! turn names into numbers, `ranges` lays them out from 0 to 2³²-1, `search` finds a number in them and `conditions`
//! looks at arguments, both in the instructions of `bpf`.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::step::{HostStep, HostSync, InitStep, InitSync, LifecycleStep, PayloadStep};
use crate::spec::{self, Process, Spec};

mod arch;
pub mod bpf;
mod conditions;
mod multiplex;
mod profile;
mod ranges;
mod rule;
mod search;
mod syscalls;

pub use arch::Arch;
use rule::Rules;

/// A filter, ready to be installed.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Filter {
    /// One `struct sock_filter` a word, as it stands in a little-endian memory.
    #[serde(skip)]
    pub program: Vec<u64>,
    /// SECCOMP_FILTER_FLAG_*, without the one that asks for a listener.
    pub flags: u32,
    /// Whether some system calls are left to a listener.
    pub notify: bool,
    /// Names that are no system call here, each once. config-linux.md#seccomp has them skipped.
    pub unknown: Vec<String>,
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "install the seccomp filter ({} instructions", self.program.len())?;
        if self.notify {
            f.write_str(", with a listener")?;
        }
        if !self.unknown.is_empty() {
            write!(f, ", without the unknown {}", self.unknown.join(", "))?;
        }
        f.write_str(")")
    }
}

/// The moments at which a filter may be installed, one of which is chosen, and what the host has to do about it.
#[derive(Default)]
pub(super) struct Moments {
    /// While CAP_SYS_ADMIN is there: without no_new_privs the kernel asks for it.
    pub(super) before_credentials: Vec<InitStep>,
    /// While the host still expects something: it has to send a listener on.
    pub(super) before_ready: Vec<InitStep>,
    /// Last, so that the profile needn't allow what only the runtime does. (Hooks behind the gate run programs of the
    /// container, and so are filtered, as with runc.)
    pub(super) last: Vec<InitStep>,
    /// The host's side of the listener.
    pub(super) host: Vec<HostStep>,
}

/// Decides when the document's filter is installed.
pub(super) fn moments(spec: &Spec<'_>, process: &Process<'_>, init: Option<i32>) -> Result<Moments> {
    let mut moments = Moments::default();
    let Some(seccomp) = &spec.linux.seccomp else { return Ok(moments) };
    let Some(filter) = compile(seccomp, Arch::NATIVE)? else { return Ok(moments) };
    if filter.notify {
        let (socket, metadata) =
            (PathBuf::from(&*seccomp.listener_path), seccomp.listener_metadata.to_string());
        moments.host = vec![
            HostStep::Expect { point: InitSync::SeccompListener },
            HostStep::SendSeccompListener { socket, metadata, init },
            HostStep::Send { point: HostSync::ListenerSent },
        ];
    }
    let moment = match (process.no_new_privileges, filter.notify) {
        (false, _) => &mut moments.before_credentials,
        (true, true) => &mut moments.before_ready,
        (true, false) => &mut moments.last,
    };
    let notify = filter.notify;
    moment.push(PayloadStep::InstallSeccomp(filter).into());
    if notify {
        moment.push(LifecycleStep::Wait { point: HostSync::ListenerSent }.into());
        moment.push(PayloadStep::CloseListener.into());
    }
    Ok(moments)
}

/// The words that a profile may hold.
pub(super) fn words() -> super::supported::Seccomp {
    let archs = Arch::NAMES.iter().filter(|(_, arch)| arch.is_some_and(|arch| arch.runs_on(Arch::NATIVE)));
    super::supported::Seccomp {
        actions: profile::ACTIONS.iter().map(|(name, _)| *name).collect(),
        operators: profile::OPERATORS.iter().map(|(name, _)| *name).collect(),
        flags: profile::FLAGS,
        archs: archs.map(|(name, _)| *name).collect(),
    }
}

/// Compiles a profile for kernels of `native`. None: there is nothing in it.
///
/// # Errors
/// The JSON path of what no profile can hold, or that the program would be longer than the kernel takes.
pub fn compile(seccomp: &spec::Seccomp<'_>, native: Arch) -> Result<Option<Filter>> {
    let Some(profile) = profile::judge(seccomp, native)? else { return Ok(None) };
    let mut rules = Rules::default();
    let calls: Vec<_> =
        profile.arches.iter().map(|arch| ranges::calls(&profile, *arch, &mut rules)).collect();
    if rules.overflown {
        bail!("linux.seccomp.syscalls: more than {} different conditions", bpf::MOST);
    }
    let program = search::write(&ranges::lines(&profile, &calls), &rules, profile.default);
    let program = program.or_else(|length| {
        bail!("linux.seccomp: its program needs {length} instructions, the kernel takes {}", bpf::MOST)
    })?;
    let unknown = profile.unknown.iter().map(|name| (*name).to_owned()).collect();
    Ok(Some(Filter { program, flags: profile.flags, notify: profile.notify, unknown }))
}
