//! What callers asked to be told about a new process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::launch::{Launched, passing};

/// Where it is to be told.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs, reason = "runc's own flags")]
pub struct HandOut<'a> {
    pub pid_file: Option<&'a Path>,
    pub pidfd_socket: Option<&'a Path>,
}

impl HandOut<'_> {
    /// What engines wait for, the pid file last: whoever sees it may rely on all the rest.
    pub(super) fn tell(&self, launched: &Launched) -> Result<()> {
        if let Some(socket) = self.pidfd_socket {
            passing::pass(&launched.pidfd, socket, "pidfd").context("--pidfd-socket")?;
        }
        if let Some(path) = self.pid_file {
            write_whole(path, &launched.pid.to_string())
                .with_context(|| format!("--pid-file {}", path.display()))?;
        }
        Ok(())
    }
}

/// A reader sees all of it or nothing.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let name = path.file_name().context("is no file name")?.to_string_lossy();
    let beside: PathBuf = path.with_file_name(format!(".{name}.ampoule"));
    fs::write(&beside, text).and_then(|()| fs::rename(&beside, path)).inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })?;
    Ok(())
}
