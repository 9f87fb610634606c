//! The command line: tini's, catatonit's and Kubernetes' pause's as one table. The name that pause was called by
//! settles where they differ.

use crate::{signals, text};
use core::ffi::CStr;

/// What pause was asked to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Request {
    /// Hold the namespaces and reap.
    Pause,
    /// Run a command, as the options say.
    Run,
    /// Say name and version.
    Version,
    /// Say how to use it, and the licence.
    Help,
    /// What makes no sense.
    Mistake(Mistake),
}

/// What is wrong with a command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mistake {
    /// A command is needed.
    Command,
    /// The word is no flag, or holds a letter that is none.
    Flag,
    /// The word is, or ends in, no signal.
    Signal,
    /// The word is, or ends in, no exit code.
    Code,
    /// The word is, or ends in, no number of seconds.
    Seconds,
}

impl Mistake {
    /// The message, which goes on with the word.
    pub fn text(self) -> &'static CStr {
        match self {
            Self::Command => c"no command: ",
            Self::Flag => c"unknown flag: ",
            Self::Signal => c"not a signal: ",
            Self::Code => c"not an exit code: ",
            Self::Seconds => c"not a number of seconds: ",
        }
    }
}

/// How a command is run.
#[derive(Debug, PartialEq, Default)]
pub struct Options {
    /// Where in the arguments the command stands, or the word that is a mistake. Pause's own name is at 0.
    pub word: usize,
    /// `-s`: become a subreaper.
    pub subreaper: bool,
    /// `-g`: forward signals to the command's process group.
    pub group: bool,
    /// `-w`: warn of each orphan that is reaped.
    pub warn: bool,
    /// `-v`: how much to say: 0 only what is fatal, 1 warnings too, 2 and 3 more.
    pub verbosity: u32,
    /// `-p`: the signal that pause gets when its parent ends; 0 for none.
    pub parent_death: signals::Signal,
    /// `-e`: exit codes that become 0, one bit each.
    pub remapped: [u32; 8],
    /// `--grace`: seconds from TERM to KILL for what outlives the command.
    pub grace: Option<u32>,
}

impl Options {
    /// tini's environment variables, looked up with `get`. tini reads them after its flags, so they win.
    pub fn read_environment<'a>(&mut self, get: impl Fn(&[u8]) -> Option<&'a [u8]>) {
        self.subreaper |= get(b"TINI_SUBREAPER").is_some();
        self.group |= get(b"TINI_KILL_PROCESS_GROUP").is_some();
        if let Some(level) = get(b"TINI_VERBOSITY") {
            self.verbosity = text::number(level, u32::MAX).unwrap_or(0);
        }
    }

    /// The exit code to end with when the command ended with this one.
    pub fn exit_code(&self, code: u8) -> u8 {
        let word = self.remapped.get(usize::from(code >> 5)).unwrap_or(&0);
        if word >> (code & 31) & 1 == 1 { 0 } else { code }
    }

    fn remap(&mut self, code: u8) {
        if let Some(word) = self.remapped.get_mut(usize::from(code >> 5)) {
            *word |= 1 << (code & 31);
        }
    }
}

/// What `-h` says.
pub const HELP: &str = "\
usage: pause [-P]
       pause [-gsvw] [-e CODE] [-p SIGNAL] [--grace SECONDS] -- CMD [ARG]...
-e exit 0 for CODE, -g signal the group, -p on parent's end, -s subreaper,
-w warn of orphans, --grace TERM, then KILL, what outlives CMD, -V version
Apache-2.0
";

const CATATONIT: &[u8] = b"catatonit";
const TINI: [&[u8]; 3] = [CATATONIT, b"tini", b"docker-init"];

/// Whether this is a name under which pause is an init that needs a command.
pub fn is_tini(name: &[u8]) -> bool {
    TINI.contains(&name)
}

/// Reads a command line, which begins with pause's own name, into options. Flags end at the first word that is none, as
/// POSIX has it: `pause ls -l` runs `ls -l`. (glibc's getopt, and so Debian's tini, would take that `-l` for its own.)
pub fn parse<'a>(args: impl Iterator<Item = &'a [u8]>, options: &mut Options) -> Request {
    let mut line = Line { args, read: 0, options };
    let request = match line.request() {
        Ok(request) | Err(request) => request,
    };
    line.options.word = line.read.saturating_sub(1);
    request
}

/// A command line that is being read. An error of its methods is a request that needs no more reading.
struct Line<'o, I> {
    args: I,
    /// How many words have been read.
    read: usize,
    options: &'o mut Options,
}

type Going<T = ()> = Result<T, Request>;

impl<'a, I: Iterator<Item = &'a [u8]>> Line<'_, I> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let word = self.args.next();
        self.read += usize::from(word.is_some());
        word
    }

    fn request(&mut self) -> Going<Request> {
        let name = text::base_name(self.next().unwrap_or_default());
        // catatonit reaps wherever it runs, and says only what is fatal.
        self.options.subreaper = name == CATATONIT;
        self.options.verbosity = u32::from(!self.options.subreaper);
        let mut flags = false;
        while let Some(word) = self.next() {
            match word.strip_prefix(b"-") {
                // Flags end here, and so may the line.
                Some(b"-") if self.next().is_none() => break,
                // The command: the word behind `--`, or the first that is no flag. `-` is none.
                Some(b"-" | b"") | None => return Ok(Request::Run),
                Some(long @ [b'-', ..]) => self.long(long)?,
                Some(letters) => self.letters(letters)?,
            }
            flags = true;
        }
        if is_tini(name) || flags && self.options.verbosity < 2 {
            return Err(Request::Mistake(Mistake::Command));
        }
        Ok(if flags { Request::Version } else { Request::Pause })
    }

    /// `--version`, `--help`, `--grace SECONDS` or `--grace=SECONDS`, less the first dash.
    fn long(&mut self, word: &'a [u8]) -> Going {
        let seconds = match word.strip_prefix(b"-grace") {
            Some([]) => self.next().unwrap_or_default(),
            Some([b'=', seconds @ ..]) => seconds,
            _ if word == b"-version" => return Err(Request::Version),
            _ if word == b"-help" => return Err(Request::Help),
            _ => return Err(Request::Mistake(Mistake::Flag)),
        };
        self.options.grace = Some(or(text::number(seconds, u32::MAX), Mistake::Seconds)?);
        Ok(())
    }

    /// `-f`, `-fgh`, `-f VALUE`, `-fVALUE`: tini's `s p v w g e l h` and catatonit's `g P L V h`.
    fn letters(&mut self, mut letters: &'a [u8]) -> Going {
        while let [letter, others @ ..] = letters {
            letters = others;
            match letter {
                b's' => self.options.subreaper = true,
                b'g' => self.options.group = true,
                b'w' => self.options.warn = true,
                b'v' => self.options.verbosity += 1,
                b'P' => return Err(Request::Pause),
                b'V' => return Err(Request::Version),
                b'h' | b'l' | b'L' => return Err(Request::Help),
                b'p' | b'e' => return self.with_value(*letter, others),
                _ => return Err(Request::Mistake(Mistake::Flag)),
            }
        }
        Ok(())
    }

    fn with_value(&mut self, letter: u8, rest: &'a [u8]) -> Going {
        let value = if rest.is_empty() { self.next().unwrap_or_default() } else { rest };
        if letter == b'p' {
            self.options.parent_death = or(signals::named(value), Mistake::Signal)?;
        } else {
            self.options.remap(or(text::number(value, 255), Mistake::Code)? as u8);
        }
        Ok(())
    }
}

fn or<T>(value: Option<T>, mistake: Mistake) -> Going<T> {
    value.ok_or(Request::Mistake(mistake))
}

#[cfg(test)]
mod tests;
