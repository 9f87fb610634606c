//! The arguments of a system call, looked at in words of 32 bits.

use super::bpf::{Code, Known, Label, op};
use super::rule::{Condition, Operator, Rule};

/// Where the low word of an argument stands in `struct seccomp_data`, on a little-endian machine; the high one follows.
fn low(argument: u8) -> u32 {
    16 + 8 * u32::from(argument)
}

/// A condition on one architecture: which words it looks at, and where it leads.
struct Test {
    operator: Operator,
    word: u32,
    value: u64,
    mask: u64,
    wide: bool,
    yes: Label,
    no: Label,
}

/// Writes a rule; `otherwise` is where it leads when its conditions don't all hold.
pub(super) fn write(code: &mut Code, rule: &Rule, wide: bool, otherwise: Label) -> Label {
    let mut next = code.give(rule.verdict);
    for (n, condition) in rule.conditions.iter().enumerate().rev() {
        let known = equalities(&rule.conditions[..n], wide);
        let Condition { argument, mut operator, mut value, mut mask } = *condition;
        if !wide {
            (value, mask) = (value & 0xffff_ffff, mask & 0xffff_ffff);
        }
        let (mut yes, mut no) = (next, otherwise);
        let opposite = match operator {
            Operator::NotEqual => Some(Operator::Equal),
            Operator::Less => Some(Operator::AtLeast),
            Operator::AtMost => Some(Operator::Greater),
            _ => None,
        };
        if let Some(opposite) = opposite {
            operator = opposite;
            (yes, no) = (no, yes);
        }
        next = Test { operator, word: low(argument), value, mask, wide, yes, no }.write(code, known);
    }
    next
}

/// What the conditions before have made certain.
fn equalities(before: &[Condition], wide: bool) -> Vec<(u32, u32)> {
    let exact = before.iter().filter(|c| c.operator == Operator::Equal);
    let words = exact
        .flat_map(|c| [(low(c.argument), c.value as u32), (low(c.argument) + 4, (c.value >> 32) as u32)]);
    words.filter(|(word, _)| wide || word % 8 == 0).collect()
}

impl Test {
    fn write(&self, code: &mut Code, mut known: Vec<(u32, u32)>) -> Label {
        if self.operator == Operator::MaskedEqual {
            return self.masked(code);
        }
        let high = self.word + 4;
        let (value, value_high) = (self.value as u32, (self.value >> 32) as u32);
        let test = match self.operator {
            Operator::Greater => op::IF_GREATER,
            Operator::AtLeast => op::IF_AT_LEAST,
            _ => op::IF_EQUAL,
        };
        if self.wide {
            known.push((high, value_high));
        }
        let unequal = (test == op::IF_EQUAL).then_some((self.word, value));
        let here = Known { loaded: Some(self.word), equal: &known, unequal };
        let no = code.shortcut(self.no, here);
        let yes = code.shortcut(self.yes, Known { unequal: None, ..here });
        let place = code.test(test, value, yes, no);
        let place = code.load(self.word, place);
        if !self.wide {
            return place;
        }
        known.pop();
        let here = Known { loaded: Some(high), equal: &known, unequal: Some((high, value_high)) };
        let no = code.shortcut(self.no, here);
        let mut place = code.test(op::IF_EQUAL, value_high, place, no);
        if test != op::IF_EQUAL && value_high != u32::MAX {
            let yes = code.shortcut(self.yes, here);
            place = code.test(op::IF_GREATER, value_high, yes, place);
        }
        code.load(high, place)
    }

    /// Words of which the mask keeps nothing always match.
    fn masked(&self, code: &mut Code) -> Label {
        let mut place = self.yes;
        for (word, shift) in [(self.word, 0), (self.word + 4, 32)] {
            let (value, mask) = ((self.value >> shift) as u32, (self.mask >> shift) as u32);
            place = match (mask, value) {
                (0, _) => continue,
                (_, 0) => code.test(op::IF_BITS, mask, self.no, place),
                (u32::MAX, _) => code.test(op::IF_EQUAL, value, place, self.no),
                _ => {
                    let place = code.test(op::IF_EQUAL, value, place, self.no);
                    code.and(mask, place)
                }
            };
            place = code.load(word, place);
        }
        place
    }
}
