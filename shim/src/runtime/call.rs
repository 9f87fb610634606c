//! One call of a runtime: started, waited for, and its error read from its log.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use linux::process::die_with_us;
use serde::Deserialize;

use super::{Kind, RuntimeError};
use crate::reaper::Reaper;

/// More than a runtime writes before its last line.
const MAX_LOG: u64 = 1 << 20;

/// One call of a runtime.
pub struct Call {
    pub command: Command,
    pub(super) log: PathBuf,
    pub(super) verb: String,
}

impl Call {
    /// Adds a flag, if it is wanted.
    pub fn flag(&mut self, name: &str, wanted: bool) -> &mut Call {
        if wanted {
            self.command.arg(name);
        }
        self
    }

    /// The path of a file beside the log that no other call uses.
    pub fn file(&self, extension: &str) -> PathBuf {
        self.log.with_extension(extension)
    }

    /// Makes the call, and waits for its end.
    ///
    /// # Errors
    /// The last error that the runtime logged, or that it can't be started.
    pub async fn run(mut self, reaper: &Reaper) -> Result<(), RuntimeError> {
        // Or it would go on after the shim's `delete`, which is there to remove what it makes.
        die_with_us(&mut self.command);
        let child = reaper.spawn(&mut self.command).map_err(|source| self.failed_start(source))?;
        // The container's own descriptors must not stay open here.
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let exit = child.end().await;
        self.result(exit.status)
    }

    /// The same in a program that has no reaper.
    ///
    /// # Errors
    /// As [`Call::run`].
    pub fn run_alone(mut self) -> Result<(), RuntimeError> {
        let status = self.command.status().map_err(|source| self.failed_start(source))?;
        self.result(status.code().unwrap_or(255) as u32)
    }

    fn failed_start(&self, source: std::io::Error) -> RuntimeError {
        RuntimeError::Start { program: self.command.get_program().into(), source }
    }

    fn result(self, status: u32) -> Result<(), RuntimeError> {
        let message = last_error(&self.log);
        // The bundle goes as a whole.
        let _ = fs::remove_file(&self.log);
        if status == 0 {
            return Ok(());
        }
        let name = Path::new(self.command.get_program()).file_name().unwrap_or_default().to_string_lossy();
        Err(match message {
            Some(message) => RuntimeError::failed(&name, &message),
            None => {
                let text = format!("{name} {} ended with {status} and logged no error", self.verb);
                RuntimeError::Failed { kind: Kind::Other, text }
            }
        })
    }
}

/// For an error, and so without one of its own: the message of the last line that is one.
fn last_error(log: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        level: String,
        msg: String,
    }
    let mut text = String::new();
    // Then it has logged none.
    File::open(log).ok()?.take(MAX_LOG).read_to_string(&mut text).ok()?;
    let mut lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines.find(|line| matches!(line.level.as_str(), "error" | "fatal" | "panic")).map(|line| line.msg)
}
