//! What the user reads: one line of error on stderr, and runc's log lines in `--log`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};
use interface::line::{one_line, rfc3339};

/// How grave a line is; the names are those of `--log-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "runc's own names")]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

impl Level {
    /// The word of `--log-level`, in any case; grades above `error` mean `error`, `trace` means `debug`.
    pub fn named(word: &str) -> Level {
        match word.to_ascii_lowercase().as_str() {
            "trace" | "debug" => Level::Debug,
            "warn" | "warning" => Level::Warning,
            "error" | "fatal" | "panic" => Level::Error,
            _ => Level::Info,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// Where lines go: engines read the error from `--log`, people from stderr.
pub struct Log {
    file: Option<File>,
    json: bool,
    level: Level,
}

impl Log {
    /// Opens `--log` for appending.
    ///
    /// # Errors
    /// A file that can't be opened.
    pub fn open(path: Option<&Path>, json: bool, level: Level) -> Result<Log> {
        let open = |path: &Path| {
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .with_context(|| format!("open log {}", path.display()))
        };
        Ok(Log { file: path.map(open).transpose()?, json, level })
    }

    /// Whether lines of that level are written at all.
    pub fn shows(&self, level: Level) -> bool {
        level >= self.level
    }

    /// Writes a line to the log file, or to stderr where there is none. A log that can't be written is no reason
    /// to fail the container.
    pub fn line(&self, level: Level, text: &str) {
        if !self.shows(level) {
            return;
        }
        let time = rfc3339(SystemTime::now());
        let line = match self.json {
            true => {
                let line = serde_json::json!({"level": level.name(), "msg": text, "time": time});
                format!("{line}\n")
            }
            false => format!("time={time:?} level={} msg={text:?}\n", level.name()),
        };
        let _ = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    /// `--debug` shows what will be done, step by step: those inside can't speak for themselves.
    pub fn trace(&self, plan: &dyn std::fmt::Display) {
        if self.shows(Level::Debug) {
            plan.to_string().lines().for_each(|line| self.line(Level::Debug, line));
        }
    }

    /// The one report of a failure: plain on stderr, and in the log file if there is one.
    pub fn failure(&self, text: &str) {
        if self.file.is_some() {
            self.line(Level::Error, text);
        }
        let _ = writeln!(std::io::stderr(), "ampoule: {}", one_line(text));
    }
}
