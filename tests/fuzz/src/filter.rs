//! linux.seccomp → a program for the kernel. Verifier, interpreter and the profile's meaning, said naively, are those of
//! the runtime's own tests; here the profiles are anybody's.

#![allow(dead_code, missing_docs, reason = "files of a test, of which only some is called here")]

#[path = "../../../runtime/tests/seccomp/interpreter.rs"]
pub mod interpreter;
#[path = "../../../runtime/tests/seccomp/meaning.rs"]
mod meaning;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use ampoule::plan::seccomp::{Arch, compile};
use ampoule::spec::Seccomp;
use interpreter::{Data, check, run};
use meaning::{AARCH64, ARM, COLUMNS, Meaning, Numbers, RISCV64, X32_BIT, X86, X86_64, multiplexed};

static NUMBERS: LazyLock<Numbers> = LazyLock::new(Numbers::read);

/// More rules than that are left to the tests of whole profiles: meaning is sought naively.
const MAX_PROBES: usize = 4000;

/// A program is one that the kernel takes, and does what the profile says.
pub fn seccomp(bytes: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<Seccomp<'_>>(bytes) else { return };
    for native in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64] {
        let filter = match compile(&profile, native) {
            Ok(Some(filter)) => filter,
            Ok(None) => continue,
            Err(e) => {
                let text = format!("{e:#}");
                crate::one_line(&text);
                assert!(text.starts_with("linux.seccomp"), "{text:?} names no property");
                continue;
            }
        };
        check(&filter.program);
        let again = compile(&profile, native);
        assert!(again.is_ok_and(|again| again.is_some_and(|again| again == filter)));
        let meaning = Meaning::of(&profile, native, &NUMBERS);
        for data in probes(&profile, native).into_iter().take(MAX_PROBES) {
            let (got, wanted) = (run(&filter.program, &data).0, meaning.verdict(&data));
            assert_eq!(got, wanted, "{got:#x} is not {wanted:#x} for {data:x?} on {native:?}");
        }
    }
}

/// Calls at the edges of what the profile speaks of.
fn probes(profile: &Seccomp<'_>, native: Arch) -> Vec<Data> {
    let tokens: &[u32] = match native {
        Arch::X86_64 => &[X86_64, X86, AARCH64],
        Arch::Aarch64 => &[AARCH64, ARM, X86_64],
        _ => &[RISCV64, 0x1234],
    };
    let names: BTreeSet<&str> = profile.syscalls.iter().flat_map(|rule| &rule.names).map(|n| &**n).collect();
    let mut numbers = BTreeSet::from([0, 1, 1023, X32_BIT, 1 << 31, 3 << 30, u32::MAX]);
    for name in names.into_iter().take(64) {
        let own = COLUMNS.iter().filter_map(|arch| NUMBERS.number(name, arch));
        let all: Vec<u32> = own.chain(multiplexed(name).map(|(number, _)| number)).collect();
        numbers.extend(all.iter().flat_map(|n| [n.wrapping_sub(1), *n, n.wrapping_add(1)]));
    }
    let tests = profile.syscalls.iter().flat_map(|rule| &rule.args).take(16);
    let mut values = BTreeSet::from([0, 1, 1 << 32, u64::MAX]);
    values.extend(
        tests.flat_map(|test| [test.value, test.value_two]).flat_map(|v| [v, v.wrapping_add(1), v ^ 1 << 32]),
    );
    let values: Vec<u64> = values.into_iter().collect();
    let mut probes = Vec::new();
    for (n, value) in values.iter().enumerate() {
        // Alike, and all of them different.
        let others = std::array::from_fn(|i| values[(n + i) % values.len()]);
        for args in [[*value; 6], others] {
            for token in tokens {
                probes.extend(numbers.iter().map(|number| Data { number: *number, token: *token, args }));
            }
        }
    }
    probes
}
