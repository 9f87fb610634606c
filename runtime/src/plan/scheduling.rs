//! On which processors a process runs, when it gets them and the disks, where its memory lies, and as what kind of
//! machine the kernel presents itself (config.md#linux-process, config-linux.md).

use anyhow::{Result, bail};

use super::draft::Draft;
use super::step::{CpuSet, MemoryPolicy, NumberList, PayloadStep, Scheduler};
use crate::spec::{self, Process, Str};

/// The spec's words, and the kernel's numbers for them.
type Words = &'static [(&'static str, u64)];

/// linux/sched.h
const POLICIES: Words = &[
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", FIFO),
    ("SCHED_RR", ROUND_ROBIN),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", ISO),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", DEADLINE),
];
const FIFO: u64 = 1;
const ROUND_ROBIN: u64 = 2;
const ISO: u64 = 4;
const DEADLINE: u64 = 6;

/// linux/sched.h
const SCHEDULER_FLAGS: Words = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// linux/ioprio.h
const IO_CLASSES: Words = &[("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];
const IO_CLASS_SHIFT: u16 = 13;

/// linux/mempolicy.h
pub(super) const MEMORY_MODES: Words = &[
    ("MPOL_DEFAULT", DEFAULT),
    ("MPOL_PREFERRED", PREFERRED),
    ("MPOL_BIND", BIND),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", LOCAL),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];
const DEFAULT: u64 = 0;
const PREFERRED: u64 = 1;
const BIND: u64 = 2;
const LOCAL: u64 = 4;

/// linux/mempolicy.h
pub(super) const MEMORY_FLAGS: Words = &[
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", RELATIVE),
    ("MPOL_F_STATIC_NODES", STATIC),
];
const RELATIVE: u64 = 1 << 14;
const STATIC: u64 = 1 << 15;

/// linux/personality.h
const DOMAINS: Words = &[("LINUX", 0), ("LINUX32", 8)];

/// The most that a kernel can be built for: CONFIG_NR_CPUS, and 1 << CONFIG_NODES_SHIFT.
const MOST_CPUS: u32 = 8192;
const MOST_NODES: u32 = 1024;

fn value(words: Words, word: &str, at: &str) -> Result<u64> {
    let names = || words.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    match words.iter().find(|(name, _)| *name == word) {
        Some((_, value)) => Ok(*value),
        None if word.is_empty() => bail!("{at}: missing, expected one of {}", names()),
        None => bail!("{at}: {word:?}, expected one of {}", names()),
    }
}

fn flags(words: Words, given: &[Str<'_>], at: &str) -> Result<u64> {
    given
        .iter()
        .enumerate()
        .try_fold(0, |sum, (n, word)| Ok(sum | value(words, word, &format!("{at}[{n}]"))?))
}

/// Reads the kernel's list format: `0-3,7`. Empty: no numbers.
fn numbers(text: &str, most: u32, at: &str) -> Result<NumberList> {
    let mut words = Vec::new();
    for part in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else {
            bail!("{at}: {part:?} in {text:?}, expected numbers and ranges such as 0-3,7")
        };
        if first > last || last >= most {
            bail!("{at}: {part:?} in {text:?}, expected rising numbers below {most}");
        }
        words.resize(words.len().max(last as usize / 64 + 1), 0);
        (first..=last).for_each(|n| words[n as usize / 64] |= 1 << (n % 64));
    }
    Ok(NumberList { text: text.to_owned(), words })
}

fn scheduler(given: &spec::Scheduler<'_>) -> Result<Scheduler> {
    const AT: &str = "process.scheduler";
    let policy = value(POLICIES, &given.policy, "process.scheduler.policy")?;
    let real_time = matches!(policy, FIFO | ROUND_ROBIN);
    if policy == ISO {
        bail!("{AT}.policy: SCHED_ISO is a number that Linux keeps free; no kernel has it");
    }
    if !(-20..=19).contains(&given.nice) {
        bail!("{AT}.nice: {}, expected -20 to 19", given.nice);
    }
    match given.priority {
        0 if !real_time => {}
        1..=99 if real_time => {}
        other if real_time => bail!("{AT}.priority: {other}, expected 1 to 99 with {}", given.policy),
        other => bail!("{AT}.priority: {other}, and only SCHED_FIFO and SCHED_RR have priorities"),
    }
    let (runtime, deadline, period) = (given.runtime, given.deadline, given.period);
    if policy != DEADLINE {
        for (name, value) in [("runtime", runtime), ("deadline", deadline), ("period", period)] {
            if value != 0 {
                bail!("{AT}.{name}: {value}, and only SCHED_DEADLINE has one");
            }
        }
    } else if runtime == 0 || runtime > deadline || (period != 0 && deadline > period) {
        // sched(7); a period of 0 stands for the deadline.
        bail!("{AT}.deadline: expected runtime ≤ deadline ≤ period, got {runtime}, {deadline}, {period}");
    }
    Ok(Scheduler {
        name: given.policy.to_string(),
        policy: policy as u32,
        nice: given.nice,
        priority: given.priority as u32,
        flags: flags(SCHEDULER_FLAGS, &given.flags, "process.scheduler.flags")?,
        runtime,
        deadline,
        period,
    })
}

fn io_priority(given: &spec::IoPriority<'_>) -> Result<PayloadStep> {
    let class = value(IO_CLASSES, &given.class, "process.ioPriority.class")?;
    if !(0..=7).contains(&given.priority) {
        bail!("process.ioPriority.priority: {}, expected 0 to 7", given.priority);
    }
    let value = (class as u16) << IO_CLASS_SHIFT | given.priority as u16;
    Ok(PayloadStep::SetIoPriority { class: given.class.to_string(), priority: given.priority as u16, value })
}

/// set_mempolicy(2)
fn memory_policy(given: &spec::MemoryPolicy<'_>) -> Result<MemoryPolicy> {
    const AT: &str = "linux.memoryPolicy";
    let mode = value(MEMORY_MODES, &given.mode, "linux.memoryPolicy.mode")?;
    let flags = flags(MEMORY_FLAGS, &given.flags, "linux.memoryPolicy.flags")?;
    let nodes = numbers(&given.nodes, MOST_NODES, "linux.memoryPolicy.nodes")?;
    match (mode, nodes.words.is_empty()) {
        (DEFAULT | LOCAL, false) => bail!("{AT}.nodes: {:?}, and {} takes none", &*given.nodes, given.mode),
        (DEFAULT | LOCAL | PREFERRED, _) | (_, false) => {}
        (_, true) => bail!("{AT}.nodes: missing; {} needs at least one", given.mode),
    }
    if flags & (STATIC | RELATIVE) == STATIC | RELATIVE {
        bail!("{AT}.flags: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other");
    }
    let words = given.flags.iter().map(|flag| flag.to_string()).collect();
    Ok(MemoryPolicy { name: given.mode.to_string(), words, mode: (mode | flags) as u32, nodes })
}

fn personality(given: &spec::Personality<'_>) -> Result<PayloadStep> {
    let value = value(DOMAINS, &given.domain, "linux.personality.domain")?;
    if let Some(flag) = given.flags.first() {
        bail!("linux.personality.flags[0]: {:?}, and the spec has no flags yet", &**flag);
    }
    Ok(PayloadStep::SetPersonality { domain: given.domain.to_string(), value })
}

/// Steps that need rights, or calls that a seccomp profile may forbid, the payload's own.
pub(super) fn scheduling(draft: &mut Draft<'_>, process: &Process<'_>) -> Result<()> {
    affinity(process)?;
    let linux = &draft.spec.linux;
    let personality = linux.personality.as_ref().map(personality).transpose()?;
    let policy = linux.memory_policy.as_ref().map(memory_policy).transpose()?;
    let priority = process.io_priority.as_ref().map(io_priority).transpose()?;
    let scheduler = process.scheduler.as_ref().map(scheduler).transpose()?;
    draft.steps(personality);
    draft.steps(policy.map(PayloadStep::SetMemoryPolicy));
    draft.steps(priority);
    // Last: SCHED_DEADLINE forbids fork(2).
    draft.steps(scheduler.map(PayloadStep::SetScheduler));
    Ok(())
}

/// What `exec` runs on, before and after it enters the container's cgroup. config.md has it left alone for the init.
pub(super) fn affinity(process: &Process<'_>) -> Result<(Option<CpuSet>, Option<CpuSet>)> {
    let Some(given) = &process.exec_cpu_affinity else { return Ok((None, None)) };
    let read = |text: &Str<'_>, name: &str| {
        let cpus = numbers(text, MOST_CPUS, &format!("process.execCPUAffinity.{name}"))?;
        Ok::<_, anyhow::Error>(Some(cpus).filter(|cpus| !cpus.words.is_empty()))
    };
    Ok((read(&given.initial, "initial")?, read(&given.last, "final")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(text: &str) -> Result<Vec<u64>, String> {
        numbers(text, 128, "at").map(|n| n.words).map_err(|e| e.to_string())
    }

    #[test]
    fn lists_are_the_kernels() {
        assert_eq!(mask("").unwrap(), [0; 0]);
        assert_eq!(mask("0-3,7").unwrap(), [0b1000_1111]);
        assert_eq!(mask(" 64 , 127").unwrap(), [0, 1 | 1 << 63]);
        for wrong in ["3-1", "128", "0-4294967295", "a", "1,", "-1", "1-2-3"] {
            assert!(mask(wrong).unwrap_err().starts_with("at: "), "{wrong}");
        }
    }
}
