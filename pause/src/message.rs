//! What pause says as an init: one line a message, in tini's form: `[WARN  pause (1)] …`.

use crate::sys::{self, Text};
use ampoule_pause::text::{self, Digits, Joined};

/// A kind of message, numbered by the verbosity from which it is said.
#[derive(Clone, Copy)]
pub enum Level {
    /// The end.
    Fatal,
    /// Something that its user would want to change.
    Warn,
    /// The command's beginning and end.
    Info,
    /// Each signal and each child.
    Debug,
}

/// How each level begins, seven letters wide.
const NAMES: &[u8] = b"[FATAL [WARN  [INFO  [DEBUG ";

/// Says things under a name.
pub struct Speaker<'a> {
    /// The name that pause was called by.
    pub name: &'a [u8],
    /// How much it says.
    pub verbosity: u32,
}

impl Speaker<'_> {
    /// Says a text and a word in one line on stderr, if it may. Very long ones are cut.
    pub fn say(&self, level: Level, text: Text, word: &[u8]) {
        if level as u32 <= self.verbosity {
            let (mut digits, mut room) = (Digits::default(), [0; 512]);
            let pid = text::decimal(sys::pid() as u32, &mut digits);
            let level = NAMES.chunks(7).nth(level as usize).unwrap_or_default();
            let mut line = Joined::new(&mut room);
            line.add(level).add(self.name).add(b" (").add(pid).add(b")] ");
            sys::write(2, line.add(text.bytes()).add(word).add(b"\n").bytes());
        }
    }

    /// Says a line that ends in a number.
    pub fn count(&self, level: Level, text: Text, number: u32) {
        self.say(level, text, text::decimal(number, &mut Digits::default()));
    }
}
