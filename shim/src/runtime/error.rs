//! Errors of a runtime. Its exit code is the same for all of them, so what kind one is must be read in its text: here,
//! and nowhere else.

use std::path::PathBuf;
use std::{fmt, io};

use interface::message::{ALREADY_EXISTS, DOES_NOT_EXIST};

/// Why a call of a runtime failed.
#[derive(Debug)]
pub enum RuntimeError {
    /// The program can't be started.
    Start { program: PathBuf, source: io::Error },
    /// The program has ended with an error.
    Failed { kind: Kind, text: String },
}

/// What clients are told in a code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is no such container.
    NotFound,
    /// There is such a container already.
    AlreadyExists,
    Other,
}

/// What runtimes say: between the two parts there is an id or a path, unless the second is empty.
const MESSAGES: [(Kind, &str, &str); 6] = [
    // Ours, and runc.
    (Kind::NotFound, DOES_NOT_EXIST, ""),
    (Kind::AlreadyExists, ALREADY_EXISTS, ""),
    // crun (src/libcrun/status.c), and in its versions that lack the first: all verbs, and `delete`.
    (Kind::NotFound, "container `", "` does not exist"),
    (Kind::NotFound, "error opening file `", "/status`: No such file or directory"),
    (Kind::NotFound, "cannot open directory '", "': No such file or directory"),
    (Kind::AlreadyExists, "container `", "` already exists"),
];

impl RuntimeError {
    /// What a runtime of that name said last.
    pub fn failed(name: &str, message: &str) -> RuntimeError {
        RuntimeError::Failed { kind: Kind::of(message), text: format!("{name}: {message}") }
    }

    pub fn kind(&self) -> Kind {
        match self {
            RuntimeError::Start { .. } => Kind::Other,
            RuntimeError::Failed { kind, .. } => *kind,
        }
    }
}

impl Kind {
    fn of(message: &str) -> Kind {
        let says = |first, second| message.split_once(first).is_some_and(|(_, rest)| rest.contains(second));
        let found = MESSAGES.iter().find(|(_, first, second)| says(*first, *second));
        found.map_or(Kind::Other, |(kind, ..)| *kind)
    }
}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuntimeError::Start { program, .. } => write!(f, "start {}", program.display()),
            RuntimeError::Failed { text, .. } => f.write_str(text),
        }
    }
}

impl std::error::Error for RuntimeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RuntimeError::Start { source, .. } => Some(source),
            RuntimeError::Failed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_runtimes_words_are_understood() {
        for (kind, message) in [
            (Kind::NotFound, "container does not exist"),
            (Kind::NotFound, "exec failed: container does not exist"),
            (Kind::NotFound, "delete web: container does not exist"),
            (Kind::NotFound, "container `web` does not exist: error opening file"),
            (Kind::NotFound, "error opening file `/run/crun/web/status`: No such file or directory"),
            (Kind::NotFound, "cannot open directory '/run/crun/web': No such file or directory"),
            (Kind::AlreadyExists, "runc create failed: container with given ID already exists"),
            (Kind::AlreadyExists, "container `web` already exists"),
            (Kind::Other, "the cgroup does not exist"),
            (Kind::Other, "error opening file `/proc/1/cgroup`: No such file or directory"),
            (Kind::Other, "exec: \"already exists\": executable file not found in $PATH"),
            (Kind::Other, ""),
        ] {
            assert_eq!(Kind::of(message), kind, "{message}");
        }
    }
}
