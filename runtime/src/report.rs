//! What the user reads: one line of error on stderr, and runc's log lines in `--log`.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};
use interface::line::{one_line, rfc3339};
use linux::interrupt;
use nix::errno::Errno;

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
    ///
    /// # Errors
    /// One of the signals that end a wait came while nobody read.
    pub fn line(&self, level: Level, text: &str) -> Result<()> {
        if !self.shows(level) {
            return Ok(());
        }
        let time = rfc3339(SystemTime::now());
        let line = match self.json {
            true => {
                let line = serde_json::json!({"level": level.name(), "msg": text, "time": time});
                format!("{line}\n")
            }
            false => format!("time={time:?} level={} msg={text:?}\n", level.name()),
        };
        let stderr = std::io::stderr();
        let to = self.file.as_ref().map_or(stderr.as_fd(), AsFd::as_fd);
        match interrupt::write(to, line.as_bytes()) {
            Err(e @ Errno::EINTR) => Err(e).context("wait for a reader of the log"),
            _ => Ok(()),
        }
    }

    /// `--debug` shows what will be done, step by step: those inside can't speak for themselves.
    ///
    /// # Errors
    /// As those of [`Log::line`].
    pub fn trace(&self, plan: &dyn std::fmt::Display) -> Result<()> {
        if !self.shows(Level::Debug) {
            return Ok(());
        }
        plan.to_string().lines().try_for_each(|line| self.line(Level::Debug, line))
    }

    /// The one report of a failure: plain on stderr, and in the log file if there is one.
    pub fn failure(&self, text: &str) {
        if self.file.is_some() {
            // It is on its way to its end with this, and stderr may have a reader.
            let _ = self.line(Level::Error, text);
        }
        to_stderr(&format!("ampoule: {}\n", one_line(text)));
    }
}

/// Writes to stderr, until one of the signals that end a wait comes.
pub fn to_stderr(text: &str) {
    // There is no other place to report that stderr can't be written to.
    let _ = interrupt::write(std::io::stderr().as_fd(), text.as_bytes());
}
