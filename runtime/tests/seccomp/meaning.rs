//! What a profile means, said as plainly as can be: rule by rule, for a single call, without any program.

use std::cmp::Ordering;
use std::collections::HashMap;

use ampoule::plan::seccomp::Arch;
use ampoule::spec::{ArgumentTest, Seccomp, SyscallRule};

use crate::interpreter::Data;

pub const X86_64: u32 = 0xc000_003e;
pub const X86: u32 = 0x4000_0003;
pub const AARCH64: u32 = 0xc000_00b7;
pub const ARM: u32 = 0x4000_0028;
pub const RISCV64: u32 = 0xc000_00f3;
pub const X32_BIT: u32 = 1 << 30;

pub const COLUMNS: [&str; 6] = ["X86_64", "X86", "X32", "AARCH64", "ARM", "RISCV64"];

/// The numbers of all names, read anew.
pub struct Numbers(HashMap<&'static str, [Option<u32>; 6]>);

impl Numbers {
    pub fn read() -> Numbers {
        let line = |line: &'static str| {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            let mut numbers: [Option<u32>; 6] = std::array::from_fn(|_| words.next().unwrap().parse().ok());
            numbers[2] = numbers[2].map(|n| n | X32_BIT);
            (name, numbers)
        };
        Numbers(include_str!("../../src/plan/seccomp/syscalls.txt").lines().map(line).collect())
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    pub fn number(&self, name: &str, arch: &str) -> Option<u32> {
        let column = COLUMNS.iter().position(|c| *c == arch).unwrap();
        self.0.get(name).and_then(|numbers| numbers[column])
    }
}

/// socketcall(2)'s and ipc(2)'s codes, from their manual pages.
pub fn multiplexed(name: &str) -> Option<(u32, u64)> {
    let socket = "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom \
                  shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg";
    if let Some(code) = socket.split(' ').position(|n| n == name) {
        return Some((102, code as u64 + 1));
    }
    let ipc = [
        (1, "semop semget semctl semtimedop"),
        (11, "msgsnd msgrcv msgget msgctl"),
        (21, "shmat shmdt shmget shmctl"),
    ];
    let (first, code) =
        ipc.iter().find_map(|(first, names)| Some((*first, names.split(' ').position(|n| n == name)?)))?;
    Some((117, first + code as u64))
}

pub fn verdict(action: &str, errno: Option<u32>) -> u32 {
    match action {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | errno.unwrap_or(1),
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | errno.unwrap_or(1),
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        other => panic!("{other}"),
    }
}

fn holds(test: &ArgumentTest<'_>, args: &[u64; 6], wide: bool) -> bool {
    let cut = |n: u64| if wide { n } else { n & 0xffff_ffff };
    let (x, a, b) = (cut(args[test.index as usize]), cut(test.value), cut(test.value_two));
    match &*test.op {
        "SCMP_CMP_NE" => x != a,
        "SCMP_CMP_LT" => x < a,
        "SCMP_CMP_LE" => x <= a,
        "SCMP_CMP_EQ" => x == a,
        "SCMP_CMP_GE" => x >= a,
        "SCMP_CMP_GT" => x > a,
        "SCMP_CMP_MASKED_EQ" => x & a == b & a,
        other => panic!("{other}"),
    }
}

/// Which of two tests is the more specific (Less: the first), when rules contradict each other.
fn more_specific(a: &ArgumentTest<'_>, b: &ArgumentTest<'_>) -> Ordering {
    let kind = |t: &ArgumentTest<'_>| match &*t.op {
        "SCMP_CMP_LT" | "SCMP_CMP_LE" => 1,
        "SCMP_CMP_GT" | "SCMP_CMP_GE" => 2,
        _ => 0,
    };
    let value = |t: &ArgumentTest<'_>| match &*t.op {
        "SCMP_CMP_MASKED_EQ" => t.value & t.value_two,
        _ => t.value,
    };
    let among = |t: &ArgumentTest<'_>| match &*t.op {
        "SCMP_CMP_EQ" | "SCMP_CMP_LT" | "SCMP_CMP_GT" => 0,
        "SCMP_CMP_MASKED_EQ" => 2,
        _ => 1,
    };
    let values = if kind(a) == 1 { value(a).cmp(&value(b)) } else { value(b).cmp(&value(a)) };
    let mask = |t: &ArgumentTest<'_>| if among(t) == 2 { t.value } else { u64::MAX };
    (b.index.cmp(&a.index))
        .then(kind(a).cmp(&kind(b)))
        .then(values)
        .then(among(a).cmp(&among(b)))
        .then(mask(b).cmp(&mask(a)))
}

/// The arch by name, and whether it is listed or native.
fn arch_of(profile: &Seccomp<'_>, native: Arch, data: &Data) -> Option<&'static str> {
    let listed = |name: &str| profile.architectures.iter().any(|a| **a == *format!("SCMP_ARCH_{name}"));
    let x32 = data.token == X86_64 && data.number >= X32_BIT && data.number != u32::MAX;
    Some(match (data.token, native) {
        (X86_64, Arch::X86_64) if x32 && !listed("X32") => return None,
        (X86_64, Arch::X86_64) if data.number >= X32_BIT && listed("X32") => "X32",
        (X86_64, Arch::X86_64) => "X86_64",
        (X86, Arch::X86_64) if listed("X86") => "X86",
        (AARCH64, Arch::Aarch64) => "AARCH64",
        (ARM, Arch::Aarch64) if listed("ARM") => "ARM",
        (RISCV64, Arch::Riscv64) => "RISCV64",
        _ => return None,
    })
}

/// The tests of a rule that have to hold together, in each of its alternatives.
pub fn alternatives<'a>(rule: &SyscallRule<'a>) -> Vec<Vec<ArgumentTest<'a>>> {
    let twice = (0..6).any(|i| rule.args.iter().filter(|t| t.index == i).count() > 1);
    if twice { rule.args.iter().map(|t| vec![t.clone()]).collect() } else { vec![rule.args.clone()] }
}

/// A rule's tests, the most specific first, and its verdict.
type Clause<'a> = (Vec<ArgumentTest<'a>>, u32);

/// Which of two clauses comes first.
fn order((a, v): &Clause<'_>, (b, w): &Clause<'_>) -> Ordering {
    let pairs = a.iter().zip(b).map(|(a, b)| more_specific(a, b));
    let strictest = (*v as i32).cmp(&(*w as i32));
    pairs.into_iter().find(|o| o.is_ne()).unwrap_or(b.len().cmp(&a.len())).then(strictest)
}

/// What a profile says on one architecture.
#[derive(Default)]
struct Said<'a> {
    clauses: HashMap<u32, Vec<Clause<'a>>>,
    /// The highest number that it names.
    newest: u32,
}

pub struct Meaning<'a> {
    profile: &'a Seccomp<'a>,
    native: Arch,
    default: u32,
    said: HashMap<&'static str, Said<'a>>,
}

impl<'a> Meaning<'a> {
    pub fn of(profile: &'a Seccomp<'a>, native: Arch, numbers: &Numbers) -> Meaning<'a> {
        let default = verdict(&profile.default_action, profile.default_errno_ret);
        let mut meaning = Meaning { profile, native, default, said: HashMap::new() };
        for arch in COLUMNS {
            let said = meaning.said.entry(arch).or_default();
            for rule in &profile.syscalls {
                for name in &rule.names {
                    let number = numbers.number(name, arch);
                    let through = multiplexed(name).filter(|_| arch == "X86");
                    for tests in alternatives(rule) {
                        number.into_iter().for_each(|number| said.add(number, tests.clone(), rule, default));
                        let Some((number, code)) = through else { continue };
                        let mut tests: Vec<_> = tests.into_iter().filter(|t| t.index != 0).collect();
                        let mut which = ArgumentTest::default();
                        which.op = ampoule::spec::Str("SCMP_CMP_EQ".into());
                        which.value = code;
                        tests.push(which);
                        said.add(number, tests, rule, default);
                    }
                }
            }
        }
        meaning
    }

    /// What this call gets.
    pub fn verdict(&self, data: &Data) -> u32 {
        const ENOSYS: u32 = 0x0005_0000 | 38;
        let passes =
            matches!(&*self.profile.default_action, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE");
        let is_new = |arch| {
            let newest = self.said[arch].newest;
            !passes && newest != 0 && data.number > newest
        };
        // Bit 31 without bit 30 is x86-64's for runc's ENOSYS, whatever libseccomp thinks of it.
        let bit31 = data.token == X86_64 && self.native == Arch::X86_64 && data.number >> 30 == 2;
        if bit31 && is_new("X86_64") {
            return ENOSYS;
        }
        let Some(arch) = arch_of(self.profile, self.native, data) else { return 0 };
        if bit31 || (data.number == u32::MAX && arch == "X86_64") {
            return self.default;
        }
        if is_new(arch) {
            return ENOSYS;
        }
        let Some(clauses) = self.said[arch].clauses.get(&data.number) else { return self.default };
        if let Some((_, verdict)) = clauses.iter().find(|(tests, _)| tests.is_empty()) {
            return *verdict;
        }
        let wide = !matches!(arch, "X86" | "X32" | "ARM");
        let matching = clauses.iter().filter(|(tests, _)| tests.iter().all(|t| holds(t, &data.args, wide)));
        matching.min_by(|a, b| order(a, b)).map_or(self.default, |(_, verdict)| *verdict)
    }
}

impl<'a> Said<'a> {
    fn add(&mut self, number: u32, mut tests: Vec<ArgumentTest<'a>>, rule: &SyscallRule<'_>, default: u32) {
        self.newest = self.newest.max(number);
        let verdict = verdict(&rule.action, rule.errno_ret);
        if verdict != default {
            tests.sort_by(more_specific);
            self.clauses.entry(number).or_default().push((tests, verdict));
        }
    }
}
