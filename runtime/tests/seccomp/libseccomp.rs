//! Against libseccomp itself, 2.5 or later.
//!
//! libseccomp has no ENOSYS for new calls, that is runc's; so the default is one that lets things pass.

mod sys;

use ampoule::plan::seccomp::Arch;
use ampoule::spec::Seccomp;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use crate::interpreter::{Data, run};
use crate::meaning::{AARCH64, ARM, COLUMNS, Numbers, RISCV64, X86, X86_64, alternatives, verdict};
use crate::{DOCKER, OPERATORS, PODMAN, VALUES, all_numbers, arb_args, filter, read};
use sys::{Comparison, Library};

/// SCMP_ARCH_X32: libseccomp's own, the kernel has none.
const X32: u32 = 0x4000_003e;

/// None where the library isn't: a loud skip, and a failure with STRICT=1.
fn library() -> Option<Library> {
    let library = Library::open();
    if library.is_none() {
        const MISSING: &str = "comparing with libseccomp needs libseccomp.so.2 (Debian: libseccomp2)";
        assert!(!std::env::var("STRICT").is_ok_and(|v| v == "1"), "{MISSING}");
        eprintln!("SKIP {MISSING}");
    }
    library
}

/// The profile's program, made as runc makes it. None: libseccomp refuses it (EEXIST, EINVAL).
fn theirs(library: &Library, profile: &Seccomp<'_>) -> Option<Vec<u64>> {
    let default = verdict(&profile.default_action, profile.default_errno_ret);
    let filter = library.filter(default);
    for arch in &profile.architectures {
        match &**arch {
            "SCMP_ARCH_X86" => filter.add_arch(X86),
            "SCMP_ARCH_X32" => filter.add_arch(X32),
            _ => {}
        }
    }
    let mut taken = true;
    for rule in &profile.syscalls {
        let verdict = verdict(&rule.action, rule.errno_ret);
        for name in rule.names.iter().filter(|_| verdict != default) {
            let number = library.number(X86_64, name);
            for tests in alternatives(rule).iter().filter(|_| number != -1) {
                let tests: Vec<Comparison> = tests.iter().map(comparison).collect();
                taken &= filter.add_rule(verdict, number, &tests);
            }
        }
    }
    taken.then(|| filter.program())
}

fn comparison(test: &ampoule::spec::ArgumentTest<'_>) -> Comparison {
    let operator = OPERATORS.iter().position(|op| *op == &*test.op).unwrap() as i32 + 1;
    Comparison { argument: test.index, operator, a: test.value, b: test.value_two }
}

#[test]
fn the_numbers_are_those_that_libseccomp_knows() {
    let Some(library) = library() else { return };
    let (numbers, mut agreed) = (Numbers::read(), 0);
    for name in numbers.names() {
        for (arch, token) in COLUMNS.iter().zip([X86_64, X86, X32, AARCH64, ARM, RISCV64]) {
            if let Ok(theirs) = u32::try_from(library.number(token, name)) {
                assert_eq!(numbers.number(name, arch), Some(theirs), "{name} on {arch}");
                agreed += 1;
            }
        }
    }
    println!("{agreed} numbers agree");
    assert!(agreed > 1500, "only {agreed} numbers were compared");
}

/// Runs both programs over all numbers; returns libseccomp's length and longest path.
fn compare(library: &Library, profile: &Seccomp<'_>, args: &[[u64; 6]]) -> Option<(usize, usize)> {
    let theirs = theirs(library, profile)?;
    let ours = filter(profile, Arch::X86_64).program;
    let mut worst = 0;
    for token in [X86_64, X86, 0x1234] {
        for number in all_numbers() {
            for args in args {
                let data = Data { number, token, args: *args };
                let (wanted, steps) = run(&theirs, &data);
                let got = run(&ours, &data).0;
                assert_eq!(
                    got, wanted,
                    "{got:#x} is not libseccomp's {wanted:#x} for {data:x?} of {profile:?}"
                );
                worst = worst.max(steps);
            }
        }
    }
    Some((theirs.len(), worst))
}

#[test]
fn the_engines_profiles_do_what_libseccomp_makes_of_them() {
    let Some(library) = library() else { return };
    for (engine, json) in [("podman", PODMAN), ("docker", DOCKER)] {
        let json = json.replace(r#""defaultAction": "SCMP_ACT_ERRNO""#, r#""defaultAction": "SCMP_ACT_LOG""#);
        let json: String =
            json.lines().filter(|l| !l.contains("defaultErrnoRet")).collect::<Vec<_>>().join("\n");
        let args = VALUES.map(|v| [v, 9, 9, v, v, v]);
        let (length, worst) = compare(&library, &read(&json), &args).expect("libseccomp takes it");
        println!("{engine}: libseccomp's has {length} instructions, at most {worst} on a path");
    }
}

/// Rules about a single system call. libseccomp 2.5 mixes up tests that several calls have in common: it keeps a block of
/// code once, though what follows it differs.
fn arb_rules(
    names: &'static [&'static str],
    actions: &'static [&'static str],
    count: usize,
    tests: impl Strategy<Value = Vec<Value>>,
) -> impl Strategy<Value = String> {
    let arches = subsequence(vec!["SCMP_ARCH_X86", "SCMP_ARCH_X32"], 0..=2);
    let default = select(&["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"][..]);
    (default, arches, select(names), vec((select(actions), tests), 1..=count)).prop_map(
        |(default, arches, name, rules)| {
            let rule = |(action, args)| json!({ "names": [name], "action": action, "args": args });
            let rules: Vec<_> = rules.into_iter().map(rule).collect();
            json!({ "defaultAction": default, "architectures": arches, "syscalls": rules }).to_string()
        },
    )
}

/// Tests of different arguments.
fn arb_tests() -> impl Strategy<Value = Vec<Value>> {
    vec(crate::arb_test(&OPERATORS), 0..4).prop_map(|mut tests| {
        let mut seen = Vec::new();
        tests.retain(|t| {
            !seen.contains(&t["index"]) && {
                seen.push(t["index"].clone());
                true
            }
        });
        tests
    })
}

/// A test of the first argument.
fn arb_range(operators: &'static [&'static str]) -> impl Strategy<Value = Vec<Value>> {
    (select(&VALUES[..6]), select(&VALUES[..6]), select(operators))
        .prop_map(|(value, two, op)| vec![json!({ "index": 0, "value": value, "valueTwo": two, "op": op })])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// (Not accept or semop: libseccomp 2.5 forgets i386's multiplexed form where there is no other. Not mseal: it is
    /// younger. Not several such rules: when one fails half-way,
    /// libseccomp 2.5 doesn't try all others.)
    #[test]
    fn a_rule_of_many_tests_does_what_libseccomp_makes_of_it(
        json in arb_rules(
            &["read", "write", "clone", "socket", "_llseek", "chmod"],
            &["SCMP_ACT_TRAP"],
            1,
            arb_tests(),
        ),
        args in arb_args(),
    ) {
        let Some(library) = library() else { return Ok(()) };
        compare(&library, &read(&json), &args);
    }

    /// One action besides the default: they can't contradict each other.
    #[test]
    fn many_rules_of_one_test_do_what_libseccomp_makes_of_them(
        json in arb_rules(&["read", "_llseek", "chmod"], &["SCMP_ACT_TRAP"], 7, arb_range(&OPERATORS)),
        low in vec(0..18u64, 4),
    ) {
        let Some(library) = library() else { return Ok(()) };
        compare(&library, &read(&json), &low.into_iter().map(|v| [v; 6]).collect::<Vec<_>>());
    }

    /// Two of them, about different values: otherwise what libseccomp does depends on which came first.
    #[test]
    fn of_rules_that_contradict_each_other_the_one_is_taken_that_libseccomp_takes(
        json in arb_rules(
            &["read", "_llseek", "chmod"],
            &["SCMP_ACT_TRAP", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL"],
            2,
            arb_range(&OPERATORS[..6]),
        ),
        low in vec(0..18u64, 4),
    ) {
        let rules = read(&json).syscalls;
        prop_assume!(rules.len() < 2 || rules[0].args[0].value != rules[1].args[0].value);
        let Some(library) = library() else { return Ok(()) };
        compare(&library, &read(&json), &low.into_iter().map(|v| [v; 6]).collect::<Vec<_>>());
    }
}
