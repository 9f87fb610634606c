//! `linux.seccomp` as the program that the kernel runs before each system call (seccomp(2)).
//!
//! The meaning is libseccomp's and runc's, so that a profile confines here as it does there:
//!
//! 1. A call from an architecture that is neither native nor listed kills its thread.
//! 2. A number above all that the profile names on its architecture is newer than the profile. It gets ENOSYS, on
//!    which programs fall back to an older call, unless the default lets things pass.
//! 3. A rule without conditions decides its system call; the first one, if there are several.
//! 4. Otherwise the most specific rule decides whose conditions all hold; `clause.rs` says which that is.
//! 5. Otherwise the default action does.
//!
//! From the document to the program, room by room: `profile` judges its words, `syscalls` (and `multiplex`, for i386)
//! turn names into numbers, `line` lays them out on a line from 0 to 2³²-1, `tree` searches that line and `conditions`
//! looks at arguments, both in the instructions of `bpf`.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::step::{Inside, Mark, Outside};
use crate::spec::{self, Process, Spec};

mod arch;
pub mod bpf;
mod clause;
mod conditions;
mod line;
mod multiplex;
mod profile;
mod syscalls;
mod tree;

pub use arch::Arch;
use clause::Clauses;

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

/// The moments at which a filter may be installed, one of which is chosen, and what the host has to do about it.
#[derive(Default)]
pub(super) struct Moments {
    /// While CAP_SYS_ADMIN is there: without no_new_privs the kernel asks for it.
    pub(super) privileged: Option<Inside>,
    /// While the runtime listens: it has to pass a listener on.
    pub(super) told: Option<Inside>,
    /// Last, so that the profile needn't allow what only the runtime does. (Hooks behind the gate run programs of the
    /// container, and so are filtered, as with runc.)
    pub(super) late: Option<Inside>,
    /// The host's side of the listener.
    pub(super) beside: Vec<Outside>,
}

/// Decides when the document's filter is installed.
pub(super) fn moments(spec: &Spec<'_>, process: &Process<'_>, init: Option<i32>) -> Result<Moments> {
    let mut moments = Moments::default();
    let Some(seccomp) = &spec.linux.seccomp else { return Ok(moments) };
    let Some(filter) = compile(seccomp, Arch::NATIVE)? else { return Ok(moments) };
    if filter.notify {
        let (socket, metadata) =
            (PathBuf::from(&*seccomp.listener_path), seccomp.listener_metadata.to_string());
        moments.beside =
            vec![Outside::Hear { mark: Mark::Listener }, Outside::PassListener { socket, metadata, init }];
    }
    let moment = match (process.no_new_privileges, filter.notify) {
        (false, _) => &mut moments.privileged,
        (true, true) => &mut moments.told,
        (true, false) => &mut moments.late,
    };
    *moment = Some(Inside::Seccomp(filter));
    Ok(moments)
}

/// The words that a profile may hold.
pub(super) fn words() -> super::known::Seccomp {
    let archs = Arch::NAMES.iter().filter(|(_, arch)| arch.is_some_and(|arch| arch.runs_on(Arch::NATIVE)));
    super::known::Seccomp {
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
    let mut clauses = Clauses::default();
    let calls: Vec<_> =
        profile.arches.iter().map(|arch| line::calls(&profile, *arch, &mut clauses)).collect();
    if clauses.overflown {
        bail!("linux.seccomp.syscalls: more than {} different conditions", bpf::MOST);
    }
    let program = tree::write(&line::lines(&profile, &calls), &clauses, profile.default);
    let program = program.or_else(|length| {
        bail!("linux.seccomp: its program needs {length} instructions, the kernel takes {}", bpf::MOST)
    })?;
    let unknown = profile.unknown.iter().map(|name| (*name).to_owned()).collect();
    Ok(Some(Filter { program, flags: profile.flags, notify: profile.notify, unknown }))
}
