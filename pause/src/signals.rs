//! Signals: numbers, names, sets. Numbers are those of x86-64 and aarch64, which agree.

use crate::text;

/// A signal's number, 1 to 64.
pub type Signal = i32;

/// Terminal interrupt.
pub const INT: Signal = 2;
/// The one that nothing survives.
pub const KILL: Signal = 9;
/// A write to a pipe without a reader.
pub const PIPE: Signal = 13;
/// A timer ran out.
pub const ALRM: Signal = 14;
/// A polite request to end.
pub const TERM: Signal = 15;
/// A child ended.
pub const CHLD: Signal = 17;
/// A background process read from its terminal.
pub const TTIN: Signal = 21;
/// A background process wrote to its terminal.
pub const TTOU: Signal = 22;
/// The highest real-time signal.
pub const LAST: Signal = 64;

/// A set of signals as the kernel has it: bit `n - 1` is signal `n`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Set(pub u64);

impl Set {
    /// No signal.
    pub const NONE: Self = Self(0);

    /// Every signal. The kernel itself leaves out KILL and STOP.
    pub const ALL: Self = Self(!0);

    /// These signals.
    pub const fn of(signals: &[Signal]) -> Self {
        let mut bits = 0;
        let mut rest = signals;
        while let [first, others @ ..] = rest {
            bits |= 1 << (*first - 1);
            rest = others;
        }
        Self(bits)
    }

    /// Both sets together.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the other's signals.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The names of signals 1 to 31, in order.
const NAMES: &[u8] = b"HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT \
CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";

/// The signal of this name, with or without `SIG`, or of this number.
pub fn named(name: &[u8]) -> Option<Signal> {
    let bare = name.strip_prefix(b"SIG").unwrap_or(name);
    let known = NAMES.split(|byte| *byte == b' ').zip(1..).find(|(known, _)| *known == bare);
    known.map(|(_, number)| number).or_else(|| {
        text::number(name, LAST as u32).filter(|number| *number > 0).map(|number| number as Signal)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_with_and_without_sig() {
        let known = [
            ("HUP", 1),
            ("INT", INT),
            ("KILL", KILL),
            ("PIPE", PIPE),
            ("ALRM", ALRM),
            ("TERM", TERM),
            ("CHLD", CHLD),
            ("TTIN", TTIN),
            ("TTOU", TTOU),
            ("SYS", 31),
        ];
        for (name, signal) in known {
            assert_eq!(named(name.as_bytes()), Some(signal), "{name}");
            assert_eq!(named(format!("SIG{name}").as_bytes()), Some(signal), "{name}");
        }
        assert_eq!(NAMES.split(|byte| *byte == b' ').count(), 31);
    }

    #[test]
    fn numbers_are_signals_from_1_to_64() {
        assert_eq!(named(b"15"), Some(15));
        assert_eq!(named(b"64"), Some(64));
        for wrong in ["0", "65", "", "SIG", "SIG15", "TERMINATE", "term", "-9", "HUP INT"] {
            assert_eq!(named(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_set_has_the_kernels_bits() {
        assert_eq!(Set::of(&[]), Set::NONE);
        assert_eq!(Set::of(&[1, 2, 64]), Set(1 | 2 | 1 << 63));
        assert_eq!(Set::ALL.without(Set::of(&[CHLD])).and(Set::of(&[CHLD])), Set::ALL);
    }
}
