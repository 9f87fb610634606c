//! A classic BPF program (linux/filter.h), written from its end to its beginning.
//!
//! Jumps of BPF lead forwards only, so that everything an instruction leads to is there before itself: no open jumps,
//! nothing to resolve. A conditional jump reaches 255 instructions; what lies farther gets a stepping stone on the way.

/// BPF_{LD|W|ABS, ALU|AND|K, JMP|JA, JMP|JEQ|K, JMP|JGT|K, JMP|JGE|K, JMP|JSET|K, RET|K} (linux/bpf_common.h).
#[allow(missing_docs, reason = "said above")]
pub mod op {
    pub const LOAD: u16 = 0x20;
    pub const AND: u16 = 0x54;
    pub const JUMP: u16 = 0x05;
    pub const IF_EQUAL: u16 = 0x15;
    pub const IF_GREATER: u16 = 0x25;
    pub const IF_AT_LEAST: u16 = 0x35;
    pub const IF_BITS: u16 = 0x45;
    pub const RETURN: u16 = 0x06;
}

/// BPF_MAXINSNS: the kernel takes no longer program.
pub(super) const MOST: usize = 4096;
/// How far a conditional jump reaches, less the two stones that its own branches may need.
const REACH: usize = 255 - 2;

/// Where an instruction stands, counted from the program's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// One instruction, `struct sock_filter`.
#[derive(Clone, Copy)]
struct Instruction {
    op: u16,
    yes: u8,
    no: u8,
    value: u32,
}

/// What is known when an instruction is reached: the word of `seccomp_data` in the accumulator, and what words are
/// equal to, or (the last) not equal to.
#[derive(Clone, Copy, Default)]
pub(super) struct Known<'a> {
    pub(super) loaded: Option<u32>,
    pub(super) equal: &'a [(u32, u32)],
    pub(super) unequal: Option<(u32, u32)>,
}

impl Known<'_> {
    /// Where a test of `word` goes, if that is certain already.
    fn decides(&self, word: u32, test: u16, value: u32) -> Option<bool> {
        if let Some((_, is)) = self.equal.iter().find(|(w, _)| *w == word) {
            return Some(holds(test, *is, value));
        }
        (test == op::IF_EQUAL && self.unequal == Some((word, value))).then_some(false)
    }
}

/// What a conditional jump asks about the accumulator.
fn holds(test: u16, is: u32, value: u32) -> bool {
    match test {
        op::IF_EQUAL => is == value,
        op::IF_GREATER => is > value,
        op::IF_AT_LEAST => is >= value,
        _ => is & value != 0,
    }
}

/// The program so far; its end stands first.
#[derive(Default)]
pub(super) struct Code {
    backwards: Vec<Instruction>,
    /// The nearest `return` of each value.
    returns: Vec<(u32, Label)>,
}

impl Code {
    pub(super) fn with_room() -> Code {
        Code { backwards: Vec::with_capacity(1024), returns: Vec::with_capacity(8) }
    }

    fn push(&mut self, op: u16, yes: u8, no: u8, value: u32) -> Label {
        self.backwards.push(Instruction { op, yes, no, value });
        Label(self.backwards.len() - 1)
    }

    /// How many instructions the next one would jump over to get there.
    fn distance(&self, to: Label) -> usize {
        self.backwards.len() - to.0 - 1
    }

    /// Ends with this verdict (SECCOMP_RET_*).
    pub(super) fn give(&mut self, verdict: u32) -> Label {
        if let Some((_, place)) = self.returns.iter().find(|(v, _)| *v == verdict) {
            return *place;
        }
        let place = self.push(op::RETURN, 0, 0, verdict);
        self.returns.push((verdict, place));
        place
    }

    /// Loads a word of `seccomp_data`, and goes on there.
    pub(super) fn load(&mut self, word: u32, then: Label) -> Label {
        self.next_is(then);
        self.push(op::LOAD, 0, 0, word)
    }

    /// Keeps these bits of the accumulator, and goes on there.
    pub(super) fn and(&mut self, mask: u32, then: Label) -> Label {
        self.next_is(then);
        self.push(op::AND, 0, 0, mask)
    }

    fn next_is(&mut self, then: Label) {
        if self.distance(then) > 0 {
            let over = self.distance(then) as u32;
            self.push(op::JUMP, 0, 0, over);
        }
    }

    /// Goes to `yes` when the test holds, to `no` otherwise.
    pub(super) fn test(&mut self, test: u16, value: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.in_reach(yes);
        let no = self.in_reach(no);
        let (yes, no) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(test, yes, no, value)
    }

    /// The place itself, or a stepping stone: another such `return`, which costs no time, or a jump, which costs one.
    fn in_reach(&mut self, place: Label) -> Label {
        let over = self.distance(place);
        if over <= REACH {
            return place;
        }
        let there = self.backwards[place.0];
        if there.op != op::RETURN {
            return self.push(op::JUMP, 0, 0, over as u32);
        }
        let copy = self.push(op::RETURN, 0, 0, there.value);
        self.returns.iter_mut().filter(|(v, _)| *v == there.value).for_each(|(_, nearest)| *nearest = copy);
        copy
    }

    /// The farthest place on the way from `place` that can be jumped to at once: loads of what is loaded and tests of
    /// what is known are left out.
    pub(super) fn shortcut(&self, place: Label, known: Known<'_>) -> Label {
        let (mut at, mut best) = (place.0, place);
        // What the accumulator would hold, had nothing been left out.
        let mut held = known.loaded;
        loop {
            let i = self.backwards[at];
            let branch = |taken| at - 1 - usize::from(if taken { i.yes } else { i.no });
            at = match i.op {
                op::LOAD => {
                    held = Some(i.value);
                    at - 1
                }
                op::JUMP => at - 1 - i.value as usize,
                op::IF_EQUAL | op::IF_GREATER | op::IF_AT_LEAST | op::IF_BITS => {
                    match held.and_then(|word| known.decides(word, i.op, i.value)) {
                        Some(taken) => branch(taken),
                        None => return best,
                    }
                }
                _ => return best,
            };
            if held == known.loaded || matches!(self.backwards[at].op, op::LOAD | op::RETURN) {
                best = Label(at);
            }
        }
    }

    /// The program from its beginning, one `struct sock_filter` a word as it is in a little-endian memory; or, when the
    /// kernel would not take it, its length.
    pub(super) fn program(self) -> Result<Vec<u64>, usize> {
        if self.backwards.len() > MOST {
            return Err(self.backwards.len());
        }
        let word = |i: &Instruction| {
            u64::from(i.op) | u64::from(i.yes) << 16 | u64::from(i.no) << 24 | u64::from(i.value) << 32
        };
        Ok(self.backwards.iter().rev().map(word).collect())
    }
}
