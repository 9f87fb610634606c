//! Device rules: what they mean, as lines for cgroup v1 and as a program for v2.
//!
//! A request names a device and some of read, write and mknod. Each of those bits is decided by the last rule that
//! matches the device and speaks of that bit; with no such rule it is refused. The request passes when all its bits
//! do. (runtime-spec asks to apply the rules in their order; runc begins with everything refused, and so do we.)

use anyhow::{Result, bail};

use super::step::{HostStep, IfMissing};
use crate::spec::DeviceRule;

/// A jump of BPF's is of 16 bits, and each rule takes two instructions at the least.
const MOST: usize = 1 << 14;

/// The bits of `bpf_cgroup_dev_ctx.access_type >> 16` (linux/bpf.h).
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const EVERY_ACCESS: u8 = MKNOD | READ | WRITE;

/// The two types of device nodes, as `bpf_cgroup_dev_ctx.access_type & 0xffff` numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Block = 1,
    Character = 2,
}

/// Devices: `None` is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Devices {
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
}

impl Devices {
    const ALL: Devices = Devices { kind: None, major: None, minor: None };

    fn covers(&self, other: &Devices) -> bool {
        fn field<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.is_none() || a == b
        }
        field(self.kind, other.kind) && field(self.major, other.major) && field(self.minor, other.minor)
    }

    fn meets(&self, other: &Devices) -> bool {
        fn field<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        field(self.kind, other.kind) && field(self.major, other.major) && field(self.minor, other.minor)
    }
}

/// A rule of the document, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    allow: bool,
    devices: Devices,
    access: u8,
}

impl Rule {
    /// Whether no earlier rule can matter any more.
    fn settles_everything(&self) -> bool {
        self.devices == Devices::ALL && self.access == EVERY_ACCESS
    }
}

/// The rules of `linux.resources.devices`, and after them the devices that every container may use: making any node
/// (using it is another matter), the six of `/dev` that the spec demands, and pseudo-terminals. They are runc's, in
/// runc's order; like runc's they come last, so that "refuse everything" still leaves a working `/dev`.
///
/// # Errors
/// Names the JSON path of a rule that isn't one.
pub fn rules(given: &[DeviceRule<'_>]) -> Result<Vec<Rule>> {
    if given.len() > MOST {
        bail!("linux.resources.devices: {} rules, expected at most {MOST}", given.len());
    }
    let mut all = Vec::with_capacity(given.len() + 10);
    for (i, rule) in given.iter().enumerate() {
        all.push(judge(rule).map_err(|e| anyhow::anyhow!("linux.resources.devices[{i}].{e}"))?);
    }
    let mut allow = |kind, major, minor, access| {
        all.push(Rule { allow: true, devices: Devices { kind: Some(kind), major, minor }, access });
    };
    allow(Kind::Character, None, None, MKNOD);
    allow(Kind::Block, None, None, MKNOD);
    for (major, minor) in [(1, 3), (1, 8), (1, 7), (5, 0), (1, 5), (1, 9)] {
        allow(Kind::Character, Some(major), Some(minor), EVERY_ACCESS);
    }
    allow(Kind::Character, Some(136), None, EVERY_ACCESS);
    allow(Kind::Character, Some(5), Some(2), EVERY_ACCESS);
    Ok(all)
}

fn judge(rule: &DeviceRule<'_>) -> Result<Rule> {
    let kind = match &*rule.kind {
        "" | "a" => None,
        "b" => Some(Kind::Block),
        "c" => Some(Kind::Character),
        other => bail!("type: {other:?} is none of a, b, c"),
    };
    // Go callers write "any" as -1.
    let number = |name, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(n) => match i32::try_from(n) {
            Ok(n @ 0..) => Ok(Some(n as u32)),
            _ => bail!("{name}: {n} is no device number"),
        },
    };
    let mut access = 0;
    for letter in rule.access.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => bail!("access: {:?} has a letter other than r, w and m", &*rule.access),
        };
    }
    if access == 0 {
        bail!("access: must not be empty");
    }
    let devices = Devices { kind, major: number("major", rule.major)?, minor: number("minor", rule.minor)? };
    Ok(Rule { allow: rule.allow, devices, access })
}

/// The writes that give a fresh v1 cgroup these rules (cgroup-v1/devices.rst).
///
/// The kernel keeps one default and a list of exceptions to it, and silently ignores a line that would make an
/// exception to an exception. So the rules are reduced here to what it can hold.
///
/// # Errors
/// When they need an exception to an exception.
pub fn v1(rules: &[Rule], dir: &std::path::Path) -> Result<Vec<HostStep>> {
    let (allowed, exceptions) = reduce(rules)?;
    let write = |file: &str, values| HostStep::WriteCgroup {
        dir: dir.to_owned(),
        file: file.to_owned(),
        values,
        property: "linux.resources.devices".to_owned(),
        missing: IfMissing::Fail,
    };
    let (first, second) =
        if allowed { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
    let mut writes = vec![write(first, vec!["a".to_owned()])];
    if !exceptions.is_empty() {
        writes.push(write(second, exceptions.iter().map(line).collect()));
    }
    Ok(writes)
}

/// Whether devices are allowed by default, and what is excepted from that.
fn reduce(rules: &[Rule]) -> Result<(bool, Vec<(Devices, u8)>)> {
    let mut allowed = false;
    let mut exceptions: Vec<(Devices, u8)> = Vec::new();
    for rule in rules {
        if rule.settles_everything() {
            allowed = rule.allow;
            exceptions.clear();
            continue;
        }
        // The kernel reads `a` as everything, whatever stands behind it.
        let kinds = match rule.devices.kind {
            None => &[Kind::Character, Kind::Block][..],
            Some(Kind::Block) => &[Kind::Block],
            Some(Kind::Character) => &[Kind::Character],
        };
        for kind in kinds {
            let devices = Devices { kind: Some(*kind), ..rule.devices };
            if rule.allow == allowed {
                withdraw(&mut exceptions, &devices, rule.access)?;
            } else if let Some((_, access)) = exceptions.iter_mut().find(|(d, _)| *d == devices) {
                *access |= rule.access;
            } else {
                exceptions.push((devices, rule.access));
            }
        }
    }
    if !allowed {
        // One exception has to allow all that a request asks for (match_exception() in security/device_cgroup.c).
        for i in 0..exceptions.len() {
            let devices = exceptions[i].0;
            exceptions[i].1 =
                exceptions.iter().filter(|(d, _)| d.covers(&devices)).fold(0, |bits, (_, a)| bits | a);
        }
    }
    Ok((allowed, exceptions))
}

fn withdraw(exceptions: &mut Vec<(Devices, u8)>, devices: &Devices, access: u8) -> Result<()> {
    for (excepted, bits) in exceptions.iter_mut().filter(|(d, bits)| d.meets(devices) && bits & access != 0) {
        if !devices.covers(excepted) {
            bail!(
                "linux.resources.devices: cgroup v1 can't take {} out of the wider {} of an earlier rule",
                line(&(*devices, access)),
                line(&(*excepted, *bits))
            );
        }
        *bits &= !access;
    }
    exceptions.retain(|(_, bits)| *bits != 0);
    Ok(())
}

/// As in `devices.list`: `c 1:3 rwm`.
fn line((devices, access): &(Devices, u8)) -> String {
    let kind = match devices.kind {
        None => 'a',
        Some(Kind::Block) => 'b',
        Some(Kind::Character) => 'c',
    };
    let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
    let mut line = format!("{kind} {}:{} ", number(devices.major), number(devices.minor));
    for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
        if access & bit != 0 {
            line.push(letter);
        }
    }
    line
}

mod program;
pub use program::program;

#[cfg(test)]
mod tests;
