//! How a call of the runtime ended.

use serde_json::Value;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// A finished call: its code and what it (and the container, when they shared them) printed.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
    /// The command line, for messages.
    pub call: String,
}

impl Outcome {
    /// Runs any program to its end.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap_or_else(|e| panic!("run {command:?}: {e}"));
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr), call: format!("{command:?}") }
    }

    /// Panics with everything known unless the call succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// Panics unless the call failed as a runtime fails: code 1 and something on stderr.
    #[track_caller]
    pub fn fails(self) -> Self {
        assert_eq!(self.code, 1, "it should have failed with 1: {self}");
        assert!(!self.stderr.trim().is_empty(), "it failed without a word: {self}");
        self
    }

    /// Panics unless stderr has these words, in any case.
    #[track_caller]
    pub fn saying(self, words: &str) -> Self {
        assert!(self.stderr.to_lowercase().contains(&words.to_lowercase()), "not said: {words:?}: {self}");
        self
    }

    /// The probe's answers, in the order of the questions.
    #[track_caller]
    pub fn answers(&self) -> Vec<Value> {
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("not an answer ({e}): {self}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The probe's only answer.
    #[track_caller]
    pub fn answer(&self) -> Value {
        let mut answers = self.answers();
        assert_eq!(answers.len(), 1, "one answer was expected: {self}");
        answers.remove(0)
    }

    /// The probe's only answer, which is a text.
    #[track_caller]
    pub fn text(&self) -> String {
        let answer = self.answer();
        answer.as_str().unwrap_or_else(|| panic!("not a text: {answer}")).to_owned()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr, call } = self;
        write!(f, "`{call}` gave {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}
