//! Compiled seccomp profiles do what the profile says: each program is run in an interpreter of BPF and compared with
//! the profile's meaning, said naively, and with libseccomp's program where that library is.

mod interpreter;
mod libseccomp;
mod meaning;

use std::time::Instant;

use ampoule::plan::seccomp::{Arch, Filter, compile};
use ampoule::spec::Seccomp;
use interpreter::{Data, check, run};
use meaning::{AARCH64, ARM, Meaning, Numbers, RISCV64, X32_BIT, X86, X86_64};
use proptest::array::uniform6;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

const PODMAN: &str = include_str!("podman.json");
const DOCKER: &str = include_str!("docker.json");
const TOKENS: [u32; 6] = [X86_64, X86, AARCH64, ARM, RISCV64, 0x1234];

fn read(json: &str) -> Seccomp<'_> {
    serde_json::from_str(json).unwrap()
}

fn filter(profile: &Seccomp<'_>, native: Arch) -> Filter {
    compile(profile, native).unwrap().unwrap()
}

/// Every number that a system call has, some that none has, and the ends of the line.
fn all_numbers() -> impl Iterator<Item = u32> {
    let odd = [983_040..983_050, X32_BIT - 2..X32_BIT, 0x7fff_fffe..0x8000_0400, 0xbfff_fffe..0xc000_0400];
    (0..1024).chain(X32_BIT..X32_BIT + 1024).chain(odd.into_iter().flatten()).chain(u32::MAX - 2..=u32::MAX)
}

fn compare(profile: &Seccomp<'_>, native: Arch, numbers: &Numbers, args: &[[u64; 6]]) -> usize {
    let program = filter(profile, native).program;
    check(&program);
    let meaning = Meaning::of(profile, native, numbers);
    let mut worst = 0;
    for token in TOKENS {
        for number in all_numbers() {
            for args in args {
                let data = Data { number, token, args: *args };
                let (got, steps) = run(&program, &data);
                let wanted = meaning.verdict(&data);
                assert_eq!(
                    got, wanted,
                    "{got:#x} is not {wanted:#x} for {data:x?} on {native:?} of {profile:?}"
                );
                worst = worst.max(steps);
            }
        }
    }
    worst
}

const VALUES: [u64; 12] =
    [0, 1, 2, 9, 16, 17, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0x2_0000_0009, u64::MAX - 1, u64::MAX];
const NAMES: [&str; 12] = [
    "read",
    "write",
    "clone",
    "socket",
    "accept",
    "semop",
    "mseal",
    "socketcall",
    "_llseek",
    "chmod",
    "no_such",
    "set_tls",
];
const ACTIONS: [&str; 9] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

fn arb_test(operators: &'static [&'static str]) -> impl Strategy<Value = Value> {
    (0u32..3, select(&VALUES[..]), select(&VALUES[..]), select(operators)).prop_map(
        |(index, value, value_two, op)| json!({ "index": index, "value": value, "valueTwo": value_two, "op": op }),
    )
}

/// Only these two actions carry a number.
fn errno_ret(action: &str, errno: Option<u32>) -> Option<u32> {
    errno.filter(|_| matches!(action, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE"))
}

fn arb_rule(names: Vec<&'static str>) -> impl Strategy<Value = Value> {
    let names = vec(select(names), 1..5);
    let errno = option::of(select(vec![0, 1, 38, 4095]));
    (names, select(&ACTIONS[..]), errno, vec(arb_test(&OPERATORS), 0..4)).prop_map(
        |(mut names, action, errno, args)| {
            // A listener can't be had for write.
            names.retain(|n| *n != "write" || action != "SCMP_ACT_NOTIFY");
            json!({ "names": names, "action": action, "errnoRet": errno_ret(action, errno), "args": args })
        },
    )
}

/// A profile's document, of fewer rules than `rules` about some of `names`.
fn arb_profile(rules: usize, names: Vec<&'static str>) -> impl Strategy<Value = String> {
    let arches = vec!["X86_64", "X86", "X32", "ARM", "S390X"].into_iter().map(|a| format!("SCMP_ARCH_{a}"));
    let arches = subsequence(arches.collect::<Vec<_>>(), 0..5);
    let errno = option::of(select(vec![1, 38]));
    (select(&ACTIONS[..8]), errno, arches, vec(arb_rule(names), 0..rules)).prop_map(
        |(default, errno, arches, rules)| {
            json!({
                "defaultAction": default,
                "defaultErrnoRet": errno_ret(default, errno),
                "architectures": arches,
                "listenerPath": "/run/agent",
                "syscalls": rules,
            })
            .to_string()
        },
    )
}

fn arb_args() -> impl Strategy<Value = Vec<[u64; 6]>> {
    let one = uniform6(prop_oneof![9 => select(&VALUES[..]), 1 => any::<u64>()]);
    vec(one, 3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Few names, so that several rules speak of each.
    #[test]
    fn programs_mean_what_their_profiles_mean(
        profile in arb_profile(12, NAMES.to_vec()),
        native in select(vec![Arch::X86_64, Arch::Aarch64, Arch::Riscv64]),
        args in arb_args(),
    ) {
        compare(&read(&profile), native, &Numbers::read(), &args);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Programs so long that jumps need stepping stones.
    #[test]
    fn long_programs_mean_what_their_profiles_mean(
        profile in arb_profile(300, { let mut all: Vec<_> = Numbers::read().names().collect(); all.sort_unstable(); all }),
        native in select(vec![Arch::X86_64, Arch::Aarch64]),
        args in arb_args(),
    ) {
        match compile(&read(&profile), native) {
            Ok(_) => _ = compare(&read(&profile), native, &Numbers::read(), &args[..1]),
            Err(e) => prop_assert!(e.to_string().ends_with("the kernel takes 4096"), "{e}"),
        }
    }
}

#[test]
fn the_engines_profiles_mean_what_they_say_within_25_instructions() {
    let numbers = Numbers::read();
    for (engine, json) in [("podman", PODMAN), ("docker", DOCKER)] {
        let profile = read(json);
        for native in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64] {
            let args = VALUES.map(|v| [v, 9, 9, v, v, v]);
            let worst = compare(&profile, native, &numbers, &args);
            println!(
                "{engine} on {native:?}: {} instructions, at most {worst} on a path",
                filter(&profile, native).program.len()
            );
            assert!(worst <= 25, "{engine} on {native:?}: {worst} instructions on a path");
        }
    }
}

#[test]
fn each_multiplexed_call_of_i386_is_told_by_its_code() {
    let numbers = Numbers::read();
    let multiplexed: Vec<_> = numbers.names().filter(|name| meaning::multiplexed(name).is_some()).collect();
    assert_eq!(multiplexed.len(), 32);
    for name in multiplexed {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{ "names": [name, "mseal"], "action": "SCMP_ACT_ALLOW" }],
        })
        .to_string();
        let profile = read(&profile);
        let program = filter(&profile, Arch::X86_64).program;
        let meaning = Meaning::of(&profile, Arch::X86_64, &numbers);
        let calls = [102, 117].into_iter().flat_map(|number| (0..32).map(move |code| (number, code)));
        let allowed = calls.filter(|(number, code)| {
            let data = Data { number: *number, token: X86, args: [*code, 0, 0, 0, 0, 0] };
            let got = run(&program, &data).0;
            assert_eq!(got, meaning.verdict(&data), "{name}: {data:?}");
            got == 0x7fff_0000
        });
        assert_eq!(allowed.count(), 1, "{name}");
    }
}

/// Prints the median; with `--release` it has to keep to the budget.
#[test]
fn the_engines_profiles_compile_within_300_microseconds() {
    for (engine, json) in [("podman", PODMAN), ("docker", DOCKER)] {
        let profile = read(json);
        let mut times: Vec<_> = (0..501)
            .map(|_| {
                let start = Instant::now();
                std::hint::black_box(compile(std::hint::black_box(&profile), Arch::X86_64).unwrap());
                start.elapsed()
            })
            .collect();
        println!("{engine}: first {:?}", times[0]);
        times.sort();
        println!("{engine}: median {:?}, worst {:?}", times[250], times[500]);
        assert!(cfg!(debug_assertions) || times[250].as_micros() <= 300, "{engine}: {:?}", times[250]);
    }
}
