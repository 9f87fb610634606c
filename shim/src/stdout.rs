//! Our stdout.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

/// Writes bytes for containerd, which reads them all.
///
/// # Errors
/// It has gone away.
pub fn write(bytes: &[u8]) -> Result<()> {
    write_all(bytes).context("write to stdout")
}

/// Writes bytes for somebody at a shell, who may have read enough. False: they have.
///
/// # Errors
/// They can't be written for another reason: the disk is full.
pub fn print(bytes: &[u8]) -> Result<bool> {
    match write_all(bytes) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => other.context("write to stdout").map(|()| true),
    }
}

fn write_all(bytes: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(bytes).and_then(|()| stdout.flush())
}
