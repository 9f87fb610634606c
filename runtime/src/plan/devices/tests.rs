use proptest::prelude::*;

use super::program::op;
use super::*;
use crate::spec::Str;

/// What the rules mean, said as the head of devices.rs says it.
fn meaning(rules: &[Rule], device: &Devices, access: u8) -> bool {
    [READ, WRITE, MKNOD].iter().filter(|bit| access & **bit != 0).all(|bit| {
        let last = rules.iter().rev().find(|r| r.devices.covers(device) && r.access & bit != 0);
        last.is_some_and(|r| r.allow)
    })
}

/// Runs a program as the kernel would, with only the instructions that ours use.
fn run(program: &[u64], device: &Devices, access: u8) -> bool {
    let context =
        [u32::from(access) << 16 | device.kind.unwrap() as u32, device.major.unwrap(), device.minor.unwrap()];
    let mut r = [0u64; 11];
    let mut at = 0;
    loop {
        let word = program[at];
        let (to, from) = (((word >> 8) & 15) as usize, ((word >> 12) & 15) as usize);
        let (offset, value) = ((word >> 16) as i16, u64::from((word >> 32) as u32));
        at += 1;
        let taken = match word as u8 {
            op::LOAD_WORD => {
                assert_eq!(from, 1, "only the context is read");
                r[to] = u64::from(context[usize::from(offset as u16) / 4]);
                false
            }
            op::COPY32 => {
                r[to] = r[from] & 0xffff_ffff;
                false
            }
            op::AND32 => {
                r[to] = r[to] & value & 0xffff_ffff;
                false
            }
            op::SHIFT_RIGHT32 => {
                r[to] = (r[to] & 0xffff_ffff) >> value;
                false
            }
            op::SET => {
                r[to] = value;
                false
            }
            op::JUMP_IF_EQUAL => r[to] == value,
            op::JUMP_UNLESS_EQUAL => r[to] != value,
            op::JUMP_IF_BITS => r[to] & value != 0,
            op::EXIT => return r[0] != 0,
            other => panic!("instruction {other:#x}"),
        };
        if taken {
            at = at.checked_add_signed(offset.into()).unwrap();
        }
    }
}

/// security/device_cgroup.c in small: one default, exceptions, and exact matches only when one is withdrawn.
fn kernel_v1(writes: &[HostStep], device: &Devices, access: u8) -> bool {
    let mut allowed = true;
    let mut exceptions: Vec<(String, u8)> = Vec::new();
    for write in writes {
        let HostStep::WriteCgroup { file, values, .. } = write else { panic!("{write:?}") };
        for value in values {
            let allow = file == "devices.allow";
            if value.starts_with('a') {
                allowed = allow;
                exceptions.clear();
                continue;
            }
            assert_ne!(allow, allowed, "the kernel would only withdraw exceptions here");
            let (devices, letters) = value.rsplit_once(' ').unwrap();
            let bits = letters.chars().fold(0, |b, c| {
                b | match c {
                    'r' => READ,
                    'w' => WRITE,
                    _ => MKNOD,
                }
            });
            exceptions.push((devices.to_owned(), bits));
        }
    }
    let matches = |pattern: &str| {
        let (kind, numbers) = pattern.split_once(' ').unwrap();
        let (major, minor) = numbers.split_once(':').unwrap();
        let number = |p: &str, n: Option<u32>| p == "*" || p == n.unwrap().to_string();
        let same_kind = kind == if device.kind == Some(Kind::Block) { "b" } else { "c" };
        same_kind && number(major, device.major) && number(minor, device.minor)
    };
    if allowed {
        !exceptions.iter().any(|(d, bits)| matches(d) && bits & access != 0)
    } else {
        exceptions.iter().any(|(d, bits)| matches(d) && access & !bits == 0)
    }
}

fn some_rule() -> impl Strategy<Value = Rule> {
    let kind = prop_oneof![Just(None), Just(Some(Kind::Block)), Just(Some(Kind::Character))];
    let number = || proptest::option::of(0u32..3);
    (any::<bool>(), kind, number(), number(), 1..=EVERY_ACCESS).prop_map(
        |(allow, kind, major, minor, access)| Rule { allow, devices: Devices { kind, major, minor }, access },
    )
}

fn every_request() -> impl Iterator<Item = (Devices, u8)> {
    let device = |n: u32| Devices {
        kind: Some([Kind::Block, Kind::Character][n as usize % 2]),
        major: Some(n / 2 % 3),
        minor: Some(n / 6 % 3),
    };
    (0..18).flat_map(move |n| (1..=EVERY_ACCESS).map(move |access| (device(n), access)))
}

proptest! {
    #[test]
    fn the_program_says_what_the_rules_mean(rules in proptest::collection::vec(some_rule(), 0..8)) {
        let program = program(&rules).unwrap();
        for (device, access) in every_request() {
            let said = program.as_ref().is_none_or(|p| run(p, &device, access));
            prop_assert_eq!(said, meaning(&rules, &device, access), "{:?} {}", device, access);
        }
    }

    /// v1 wants one exception for the whole request, so two that overlap without one covering the other may refuse
    /// what the rules allow; they never allow more, and a request for one kind of access is answered exactly.
    #[test]
    fn the_lines_of_v1_never_allow_more_than_the_rules(rules in proptest::collection::vec(some_rule(), 0..8)) {
        let Ok(writes) = v1(&rules, std::path::Path::new("/")) else { return Ok(()) };
        for (device, access) in every_request() {
            let (said, meant) = (kernel_v1(&writes, &device, access), meaning(&rules, &device, access));
            prop_assert!(meant || !said, "{:?} {}", device, access);
            if access.count_ones() == 1 {
                prop_assert_eq!(said, meant, "{:?} {}", device, access);
            }
        }
    }
}

fn given(allow: bool, kind: &'static str, major: Option<i64>, access: &'static str) -> DeviceRule<'static> {
    DeviceRule { allow, kind: Str(kind.into()), major, access: Str(access.into()), ..DeviceRule::default() }
}

#[test]
fn no_rules_and_refuse_everything_both_leave_the_default_devices() {
    for list in [vec![], vec![given(false, "", None, "rwm")]] {
        let rules = rules(&list).unwrap();
        let writes = v1(&rules, std::path::Path::new("/")).unwrap();
        let values: Vec<_> = writes
            .iter()
            .map(|w| match w {
                HostStep::WriteCgroup { file, values, .. } => (file.as_str(), values.join(", ")),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(values[0], ("devices.deny", "a".to_owned()));
        assert_eq!(values[1], (
            "devices.allow",
            "c *:* m, b *:* m, c 1:3 rwm, c 1:8 rwm, c 1:7 rwm, c 5:0 rwm, c 1:5 rwm, c 1:9 rwm, c 136:* rwm, c 5:2 rwm"
                .to_owned(),
        ));
        let program = program(&rules).unwrap().unwrap();
        assert!(program.len() < 50, "{} instructions", program.len());
    }
}

#[test]
fn a_privileged_container_needs_no_program() {
    let rules = rules(&[given(false, "a", None, "rwm"), given(true, "a", None, "rwm")]).unwrap();
    assert_eq!(program(&rules).unwrap(), None);
    assert_eq!(v1(&rules, std::path::Path::new("/")).unwrap().len(), 1);
}

#[test]
fn a_rule_that_is_none_names_its_path() {
    for (rule, error) in [
        (given(true, "p", None, "r"), "linux.resources.devices[0].type: \"p\" is none of a, b, c"),
        (given(true, "c", Some(-2), "r"), "linux.resources.devices[0].major: -2 is no device number"),
        (given(true, "c", None, ""), "linux.resources.devices[0].access: must not be empty"),
        (
            given(true, "c", None, "rx"),
            "linux.resources.devices[0].access: \"rx\" has a letter other than r, w and m",
        ),
    ] {
        assert_eq!(rules(&[rule]).unwrap_err().to_string(), error);
    }
}

#[test]
fn v1_says_so_when_it_cannot_make_an_exception_to_an_exception() {
    let rules = rules(&[given(true, "c", None, "rwm"), given(false, "c", Some(1), "r")]).unwrap();
    let error = v1(&rules, std::path::Path::new("/")).unwrap_err().to_string();
    assert_eq!(
        error,
        "linux.resources.devices: cgroup v1 can't take c 1:* r out of the wider c *:* rwm of an earlier rule"
    );
}
