//! What the user reads: one line of error on stderr, and runc's log lines in `--log`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

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

/// The text without control characters: names from documents, images and containers are in it, and they must neither
/// break the line nor speak to a terminal.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// `2026-11-23T12:34:56.123456789Z`, as RFC 3339 and runc's state have it.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Civil date from days, in years that begin in March so that the leap day comes last
    // (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (h, m, s, ns) = (second / 3600, second / 60 % 60, second % 60, since.subsec_nanos());
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ns:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_line_has_no_control_characters() {
        assert_eq!(one_line("mount a\nb\x1b[2Jc on /é\u{9b}"), "mount a\\nb\\u{1b}[2Jc on /é\\u{9b}");
    }

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_795_478_400, "2026-11-24T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
