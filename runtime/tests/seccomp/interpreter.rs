//! Classic BPF as the kernel runs it for seccomp, with only the instructions that ours use.

use ampoule::plan::seccomp::bpf::op;

/// `struct seccomp_data`, but for the instruction pointer.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    pub number: u32,
    pub token: u32,
    pub args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.token,
            16..64 if offset.is_multiple_of(4) => {
                (self.args[(offset as usize - 16) / 8] >> (8 * (offset % 8))) as u32
            }
            _ => panic!("seccomp_data has nothing to read at {offset}"),
        }
    }
}

fn parts(word: u64) -> (u16, usize, usize, u32) {
    (word as u16, (word >> 16 & 0xff) as usize, (word >> 24 & 0xff) as usize, (word >> 32) as u32)
}

/// What bpf_check_classic() and seccomp_check_filter() demand (net/core/filter.c, kernel/seccomp.c).
pub fn check(program: &[u64]) {
    assert!((1..=4096).contains(&program.len()), "{} instructions", program.len());
    assert_eq!(*program.last().unwrap() as u16, op::RETURN, "the last is no return");
    for (at, word) in program.iter().enumerate() {
        let (code, yes, no, value) = parts(*word);
        let farthest = match code {
            op::IF_EQUAL | op::IF_GREATER | op::IF_AT_LEAST | op::IF_BITS => yes.max(no),
            op::JUMP => value as usize,
            op::LOAD => {
                assert!(value < 64 && value.is_multiple_of(4), "load of {value}");
                0
            }
            op::AND | op::RETURN => 0,
            other => panic!("unknown instruction {other:#x} at {at}"),
        };
        assert!(at + 1 + farthest < program.len() || code == op::RETURN, "{at} jumps out");
    }
}

/// The verdict, and after how many instructions.
pub fn run(program: &[u64], data: &Data) -> (u32, usize) {
    let (mut at, mut held, mut steps) = (0, 0u32, 0);
    loop {
        let (code, yes, no, value) = parts(program[at]);
        at += 1;
        steps += 1;
        let branch = |taken| if taken { yes } else { no };
        match code {
            op::LOAD => held = data.word(value),
            op::AND => held &= value,
            op::JUMP => at += value as usize,
            op::IF_EQUAL => at += branch(held == value),
            op::IF_GREATER => at += branch(held > value),
            op::IF_AT_LEAST => at += branch(held >= value),
            op::IF_BITS => at += branch(held & value != 0),
            op::RETURN => return (value, steps),
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}
