//! Device rules as a BPF program of type CGROUP_DEVICE (Linux 4.15): 1 allows, 0 refuses.
//!
//! It walks the rules from the last to the first and keeps in a register which of the asked bits no rule has decided
//! yet. An allowing rule takes its bits out, and the request passes when none is left; a refusing rule ends it when
//! one of its bits is still there. So each bit falls to the last rule that speaks of it, and common cases end early.

use anyhow::{Context, Result};

use super::{EVERY_ACCESS, Rule};

/// BPF_{LDX|MEM|W, ALU|MOV|X, ALU|AND|K, ALU|RSH|K, JMP|*|K, ALU64|MOV|K, JMP|EXIT} (linux/bpf_common.h, bpf.h).
pub(super) mod op {
    pub(in super::super) const LOAD_WORD: u8 = 0x61;
    pub(in super::super) const COPY32: u8 = 0xbc;
    pub(in super::super) const AND32: u8 = 0x54;
    pub(in super::super) const SHIFT_RIGHT32: u8 = 0x74;
    pub(in super::super) const JUMP_IF_EQUAL: u8 = 0x15;
    pub(in super::super) const JUMP_IF_BITS: u8 = 0x45;
    pub(in super::super) const JUMP_UNLESS_EQUAL: u8 = 0x55;
    pub(in super::super) const SET: u8 = 0xb7;
    pub(in super::super) const EXIT: u8 = 0x95;
}

/// The registers' numbers; BPF itself fixes the first two.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const UNDECIDED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

#[derive(Clone, Copy, PartialEq)]
enum Target {
    Allow,
    Refuse,
    NextRule,
}

#[derive(Default)]
struct Code {
    words: Vec<u64>,
    jumps: Vec<(usize, Target)>,
}

impl Code {
    /// One `struct bpf_insn` as the little-endian word that it is in memory.
    fn push(&mut self, op: u8, to: u8, from: u8, offset: i16, value: u32) {
        let low = u64::from(op) | u64::from(to | from << 4) << 8 | u64::from(offset as u16) << 16;
        self.words.push(low | u64::from(value) << 32);
    }

    fn jump(&mut self, op: u8, register: u8, value: u32, to: Target) {
        self.jumps.push((self.words.len(), to));
        self.push(op, register, 0, 0, value);
    }

    /// Lets every open jump to `target` arrive at the next instruction; says whether there was one.
    fn land(&mut self, target: Target) -> Result<bool> {
        let here = self.words.len();
        let before = self.jumps.len();
        for (from, _) in self.jumps.iter().filter(|(_, t)| *t == target) {
            let distance =
                i16::try_from(here - from - 1).context("linux.resources.devices: too many rules")?;
            self.words[*from] |= (distance as u64) << 16;
        }
        self.jumps.retain(|(_, t)| *t != target);
        Ok(self.jumps.len() < before)
    }

    fn rule(&mut self, rule: &Rule) -> Result<()> {
        let verdict = if rule.allow { Target::Allow } else { Target::Refuse };
        let tests = [
            (KIND, rule.devices.kind.map(|k| k as u32)),
            (MAJOR, rule.devices.major),
            (MINOR, rule.devices.minor),
        ];
        let mut tests =
            tests.into_iter().filter_map(|(register, wanted)| Some((register, wanted?))).peekable();
        while let Some((register, wanted)) = tests.next() {
            if tests.peek().is_none() && rule.access == EVERY_ACCESS {
                self.jump(op::JUMP_IF_EQUAL, register, wanted, verdict);
            } else {
                self.jump(op::JUMP_UNLESS_EQUAL, register, wanted, Target::NextRule);
            }
        }
        if rule.access != EVERY_ACCESS && rule.allow {
            self.push(op::AND32, UNDECIDED, 0, 0, u32::from(!rule.access & EVERY_ACCESS));
            self.jump(op::JUMP_IF_EQUAL, UNDECIDED, 0, Target::Allow);
        } else if rule.access != EVERY_ACCESS {
            self.jump(op::JUMP_IF_BITS, UNDECIDED, u32::from(rule.access), Target::Refuse);
        }
        self.land(Target::NextRule)?;
        Ok(())
    }

    fn answer(&mut self, target: Target) {
        self.push(op::SET, ANSWER, 0, 0, u32::from(target == Target::Allow));
        self.push(op::EXIT, 0, 0, 0, 0);
    }
}

/// The program for these rules, one instruction a word; `None` when they allow everything.
///
/// # Errors
/// When there are so many rules that a jump would be longer than BPF has.
pub fn program(rules: &[Rule]) -> Result<Option<Vec<u64>>> {
    let settled = rules.iter().rposition(Rule::settles_everything);
    let (default, rules) = match settled {
        Some(i) if rules[i].allow => (Target::Allow, &rules[i + 1..]),
        Some(i) => (Target::Refuse, &rules[i + 1..]),
        None => (Target::Refuse, rules),
    };
    if default == Target::Allow && rules.iter().all(|r| r.allow) {
        return Ok(None);
    }
    let mut code = Code::default();
    code.push(op::LOAD_WORD, KIND, CONTEXT, 0, 0);
    code.push(op::COPY32, UNDECIDED, KIND, 0, 0);
    code.push(op::AND32, KIND, 0, 0, 0xffff);
    code.push(op::SHIFT_RIGHT32, UNDECIDED, 0, 0, 16);
    code.push(op::LOAD_WORD, MAJOR, CONTEXT, 4, 0);
    code.push(op::LOAD_WORD, MINOR, CONTEXT, 8, 0);
    for rule in rules.iter().rev() {
        code.rule(rule)?;
    }
    let other = if default == Target::Allow { Target::Refuse } else { Target::Allow };
    code.land(default)?;
    code.answer(default);
    // The verifier refuses instructions that nothing leads to.
    if code.land(other)? {
        code.answer(other);
    }
    Ok(Some(code.words))
}
