//! The document's words, judged.

use std::collections::HashSet;

use anyhow::{Result, bail};

use super::arch::Arch;
use super::rule::{Condition, Operator};
use super::syscalls::{self, Syscall};
use crate::spec::{ArgumentTest, Seccomp, Str, SyscallRule};

/// SECCOMP_RET_* (linux/seccomp.h): what the kernel does with a system call.
pub(super) mod verdict {
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    pub const KILL_THREAD: u32 = 0;
    pub const TRAP: u32 = 0x0003_0000;
    pub const ERRNO: u32 = 0x0005_0000;
    pub const NOTIFY: u32 = 0x7fc0_0000;
    pub const TRACE: u32 = 0x7ff0_0000;
    pub const LOG: u32 = 0x7ffc_0000;
    pub const ALLOW: u32 = 0x7fff_0000;
    pub const ENOSYS: u32 = ERRNO | 38;
}

const EPERM: u32 = 1;

pub(super) const ACTIONS: &[(&str, u32)] = &[
    ("SCMP_ACT_ALLOW", verdict::ALLOW),
    ("SCMP_ACT_ERRNO", verdict::ERRNO),
    ("SCMP_ACT_KILL", verdict::KILL_THREAD),
    ("SCMP_ACT_KILL_PROCESS", verdict::KILL_PROCESS),
    ("SCMP_ACT_KILL_THREAD", verdict::KILL_THREAD),
    ("SCMP_ACT_LOG", verdict::LOG),
    ("SCMP_ACT_NOTIFY", verdict::NOTIFY),
    ("SCMP_ACT_TRACE", verdict::TRACE),
    ("SCMP_ACT_TRAP", verdict::TRAP),
];

pub(super) const OPERATORS: &[(&str, Operator)] = &[
    ("SCMP_CMP_NE", Operator::NotEqual),
    ("SCMP_CMP_LT", Operator::Less),
    ("SCMP_CMP_LE", Operator::AtMost),
    ("SCMP_CMP_EQ", Operator::Equal),
    ("SCMP_CMP_GE", Operator::AtLeast),
    ("SCMP_CMP_GT", Operator::Greater),
    ("SCMP_CMP_MASKED_EQ", Operator::MaskedEqual),
];

/// SECCOMP_FILTER_FLAG_*. There is no other thread to synchronise with (TSYNC) when a filter is installed before exec.
pub(super) const FLAGS: &[(&str, u32)] = &[
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_LOG", 1 << 1),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", WAIT_KILLABLE_RECV),
];
const SPEC_ALLOW: u32 = 1 << 2;
const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// A profile that can be compiled.
pub(super) struct Profile<'a> {
    pub(super) default: u32,
    /// The native one first.
    pub(super) arches: Vec<Arch>,
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) flags: u32,
    pub(super) notify: bool,
    pub(super) unknown: Vec<&'a str>,
}

/// One entry of `syscalls`.
pub(super) struct Entry<'a> {
    pub(super) calls: Vec<(&'a str, Syscall)>,
    pub(super) verdict: u32,
    /// As runc has it: conditions on one argument only are alternatives, when an argument is named twice.
    pub(super) alternatives: bool,
    pub(super) conditions: Vec<Condition>,
}

fn one_of<T: Copy>(path: std::fmt::Arguments<'_>, value: &str, known: &[(&str, T)]) -> Result<T> {
    if let Some((_, meaning)) = known.iter().find(|(name, _)| *name == value) {
        return Ok(*meaning);
    }
    let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
    bail!("{path}: {value:?}, expected one of {}", names.join(", "))
}

/// Reads the profile for kernels of `native`; None when there is nothing in it.
pub(super) fn judge<'a>(seccomp: &'a Seccomp<'_>, native: Arch) -> Result<Option<Profile<'a>>> {
    if seccomp.default_action.is_empty() && seccomp.syscalls.is_empty() {
        return Ok(None); // runc reads it as no profile at all.
    }
    let default = &seccomp.default_action;
    let default =
        action("linux.seccomp", ["defaultAction", "defaultErrnoRet"], default, seccomp.default_errno_ret)?;
    if default == verdict::NOTIFY {
        // Whoever hands the listener over would wait for the listener.
        bail!("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY can be had for single system calls only");
    }
    let mut profile = Profile {
        default,
        arches: arches(&seccomp.architectures, native)?,
        entries: Vec::with_capacity(seccomp.syscalls.len()),
        flags: 0,
        notify: false,
        unknown: Vec::new(),
    };
    for (i, given) in seccomp.syscalls.iter().enumerate() {
        let entry = entry(i, given, &mut profile.unknown)?;
        profile.notify |= entry.verdict == verdict::NOTIFY;
        profile.entries.push(entry);
    }
    let mut seen = HashSet::new();
    profile.unknown.retain(|name| seen.insert(*name));
    profile.flags = flags(seccomp.flags.as_deref(), profile.notify)?;
    if profile.notify && seccomp.listener_path.is_empty() {
        bail!("linux.seccomp.listenerPath: missing, and SCMP_ACT_NOTIFY has to tell somebody");
    }
    Ok(Some(profile))
}

/// An action as the kernel has it, its data (an errno, or what a tracer gets) in the lower half.
fn action(path: &str, keys: [&str; 2], name: &str, data: Option<u32>) -> Result<u32> {
    let [key, errno] = keys;
    if name.is_empty() {
        bail!("{path}.{key}: missing");
    }
    let action = one_of(format_args!("{path}.{key}"), name, ACTIONS)?;
    match (action, data) {
        (verdict::ERRNO | verdict::TRACE, None) => Ok(action | EPERM),
        (verdict::ERRNO | verdict::TRACE, Some(data @ 0..=0xffff)) => Ok(action | data),
        (verdict::ERRNO | verdict::TRACE, Some(data)) => {
            bail!("{path}.{errno}: {data}, expected at most 65535")
        }
        (_, Some(_)) => bail!("{path}.{errno}: {name} returns none"),
        (_, None) => Ok(action),
    }
}

fn arches(names: &[Str<'_>], native: Arch) -> Result<Vec<Arch>> {
    let mut arches = vec![native];
    for (i, name) in names.iter().enumerate() {
        let arch = one_of(format_args!("linux.seccomp.architectures[{i}]"), name, Arch::NAMES)?;
        // Of the others this kernel runs no program.
        arches.extend(arch.filter(|arch| arch.runs_on(native) && !arches.contains(arch)));
    }
    Ok(arches)
}

/// Without the property runc lets speculation be (SPEC_ALLOW): before Linux 5.16 a filter would slow its program down.
fn flags(names: Option<&[Str<'_>]>, notify: bool) -> Result<u32> {
    let Some(names) = names else { return Ok(SPEC_ALLOW) };
    let mut flags = 0;
    for (i, name) in names.iter().enumerate() {
        flags |= one_of(format_args!("linux.seccomp.flags[{i}]"), name, FLAGS)?;
    }
    // It is about those who wait for a listener; without one the kernel refuses it.
    Ok(if notify { flags } else { flags & !WAIT_KILLABLE_RECV })
}

fn entry<'a>(i: usize, given: &'a SyscallRule<'_>, unknown: &mut Vec<&'a str>) -> Result<Entry<'a>> {
    let path = format!("linux.seccomp.syscalls[{i}]");
    let verdict = action(&path, ["action", "errnoRet"], &given.action, given.errno_ret)?;
    let mut conditions = Vec::with_capacity(given.args.len());
    for (n, test) in given.args.iter().enumerate() {
        conditions.push(condition(&path, n, test)?);
    }
    let mut calls = Vec::with_capacity(given.names.len());
    for (n, name) in given.names.iter().enumerate() {
        match syscalls::find(name) {
            Some(call) => calls.push((&**name, call)),
            None if name.is_empty() => bail!("{path}.names[{n}]: is empty"),
            None => unknown.push(name),
        }
        if verdict == verdict::NOTIFY && &**name == "write" {
            // The init says with it that there is a listener: nobody would be there yet to let it.
            bail!("{path}.names[{n}]: SCMP_ACT_NOTIFY can't be had for write");
        }
    }
    let twice = |c: &Condition| conditions.iter().filter(|other| other.argument == c.argument).count() > 1;
    Ok(Entry { calls, verdict, alternatives: conditions.iter().any(twice), conditions })
}

fn condition(path: &str, n: usize, test: &ArgumentTest<'_>) -> Result<Condition> {
    let operator = one_of(format_args!("{path}.args[{n}].op"), &test.op, OPERATORS)?;
    let argument = match test.index {
        index @ 0..=5 => index as u8,
        index => bail!("{path}.args[{n}].index: {index}, expected 0 to 5"),
    };
    let (value, mask) = match operator {
        // As libseccomp: bits outside the mask don't count on either side.
        Operator::MaskedEqual => (test.value & test.value_two, test.value),
        _ => (test.value, u64::MAX),
    };
    Ok(Condition { argument, operator, value, mask })
}
