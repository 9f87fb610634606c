//! What a system call gets depending on its arguments.

use std::cmp::{Ordering, Reverse};

use super::bpf;

/// SCMP_CMP_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    NotEqual,
    Less,
    AtMost,
    Equal,
    AtLeast,
    Greater,
    MaskedEqual,
}

/// A test of one argument, `(argument & mask) OPERATOR value`, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) operator: Operator,
    pub(super) value: u64,
    pub(super) mask: u64,
}

impl Condition {
    /// libseccomp's order: later arguments first; single values before ranges, narrow ranges before wide ones.
    fn rank(&self) -> impl Ord {
        let (kind, width, open) = match self.operator {
            Operator::Equal => (0, !self.value, 0),
            Operator::NotEqual => (0, !self.value, 1),
            Operator::MaskedEqual => (0, !self.value, 2),
            Operator::Less => (1, self.value, 0),
            Operator::AtMost => (1, self.value, 1),
            Operator::Greater => (2, !self.value, 0),
            Operator::AtLeast => (2, !self.value, 1),
        };
        (Reverse(self.argument), kind, width, open, Reverse(self.mask))
    }
}

/// Conditions that have to hold together, and what follows when they do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// In the order of their ranks.
    pub(super) conditions: Vec<Condition>,
    pub(super) verdict: u32,
}

impl Rule {
    pub(super) fn new(conditions: &[Condition], verdict: u32) -> Rule {
        let mut conditions = conditions.to_vec();
        conditions.sort_by(|a, b| a.rank().cmp(&b.rank()));
        Rule { conditions, verdict }
    }

    /// The more specific first. Of two that ask the same the stricter, in the kernel's own order of verdicts.
    fn order(&self, other: &Rule) -> Ordering {
        let pairs = self.conditions.iter().zip(&other.conditions);
        pairs
            .map(|(a, b)| a.rank().cmp(&b.rank()))
            .find(|order| order.is_ne())
            .unwrap_or(other.conditions.len().cmp(&self.conditions.len()))
            .then((self.verdict as i32).cmp(&(other.verdict as i32)))
    }
}

/// Each rule once, and each combination of them once: system calls of several architectures share their code.
#[derive(Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    /// Which rules, in their order, and whether they look at all 64 bits.
    combinations: Vec<(Vec<u16>, bool)>,
    /// Whether there were more rules than a program can hold; then the others are not here.
    pub(super) overflown: bool,
}

impl Rules {
    /// The number of this rule.
    pub(super) fn add(&mut self, rule: Rule) -> u16 {
        let known = self.rules.iter().position(|c| *c == rule);
        known.unwrap_or_else(|| {
            // Each takes an instruction, and they are looked for one by one.
            self.overflown |= self.rules.len() == bpf::MOST;
            if !self.overflown {
                self.rules.push(rule);
            }
            self.rules.len() - 1
        }) as u16
    }

    /// The number of this combination.
    pub(super) fn combine(&mut self, mut rules: Vec<u16>, wide: bool) -> u16 {
        rules.sort_by(|a, b| self.rules[usize::from(*a)].order(&self.rules[usize::from(*b)]));
        rules.dedup();
        let combination = (rules, wide);
        let known = self.combinations.iter().position(|c| *c == combination);
        known.unwrap_or_else(|| {
            self.combinations.push(combination);
            self.combinations.len() - 1
        }) as u16
    }

    /// How many combinations there are.
    pub(super) fn combinations(&self) -> usize {
        self.combinations.len()
    }

    /// The rules of a combination, in their order, and whether they look at all 64 bits.
    pub(super) fn combination(&self, number: u16) -> (impl DoubleEndedIterator<Item = &Rule>, bool) {
        let (rules, wide) = &self.combinations[usize::from(number)];
        (rules.iter().map(|c| &self.rules[usize::from(*c)]), *wide)
    }
}
