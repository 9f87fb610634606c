//! Whether anybody is there, at the path of a unix socket.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result};

/// Whether a server is there, at a socket's path.
///
/// # Errors
/// It can't be told.
pub fn listens(socket: &Path) -> Result<bool> {
    Ok(connect(socket)?.is_some())
}

/// A connection to it, if it is there.
///
/// # Errors
/// It can't be told.
pub fn connect(socket: &Path) -> Result<Option<UnixStream>> {
    match UnixStream::connect(socket) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        other => other.map(Some).with_context(|| format!("connect to {}", socket.display())),
    }
}
