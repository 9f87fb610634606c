//! The search for a system call: by architecture, then by halves of its line of numbers.

use super::bpf::{Code, Label, op};
use super::conditions;
use super::profile::verdict;
use super::ranges::{Fate, Line};
use super::rule::Rules;

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

struct Writer<'a> {
    code: Code,
    rules: &'a Rules,
    default: u32,
    /// Where the combinations stand that have been written.
    written: Vec<Option<Label>>,
}

/// Writes the whole program. The error is how long it is, when that is too long.
pub(super) fn write(lines: &[Line], rules: &Rules, default: u32) -> Result<Vec<u64>, usize> {
    let written = vec![None; rules.combinations()];
    let mut w = Writer { code: Code::with_room(), rules, default, written };
    // What is asked first is written last.
    let mut otherwise = w.code.give(verdict::KILL_THREAD);
    for line in lines.iter().rev() {
        let search = w.search(&line.spans);
        let search = w.code.load(NUMBER, search);
        otherwise = w.code.test(op::IF_EQUAL, line.token, search, otherwise);
    }
    w.code.load(ARCH, otherwise);
    w.code.program()
}

impl Writer<'_> {
    /// The number is in the accumulator and lies within these spans.
    fn search(&mut self, spans: &[(u32, Fate)]) -> Label {
        match spans {
            [] => self.code.give(self.default),
            [(_, fate)] => self.fate(*fate),
            // A single number in the middle of others that are alike.
            [(_, around), (number, fate), (after, again)] if around == again && number + 1 == *after => {
                let (around, fate) = (self.fate(*around), self.fate(*fate));
                self.code.test(op::IF_EQUAL, *number, fate, around)
            }
            spans => {
                let (low, high) = spans.split_at(spans.len() / 2);
                let above = self.search(high);
                let below = self.search(low);
                self.code.test(op::IF_AT_LEAST, high[0].0, above, below)
            }
        }
    }

    fn fate(&mut self, fate: Fate) -> Label {
        let number = match fate {
            Fate::Verdict(verdict) => return self.code.give(verdict),
            Fate::Conditions(number) => number,
        };
        if let Some(place) = self.written[usize::from(number)] {
            return place;
        }
        let mut place = self.code.give(self.default);
        let (rules, wide) = self.rules.combination(number);
        for rule in rules.rev() {
            place = conditions::write(&mut self.code, rule, wide, place);
        }
        self.written[usize::from(number)] = Some(place);
        place
    }
}
