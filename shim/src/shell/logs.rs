//! Reading a container's log, which may be rotated while it is read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use linux::absent::{absent, metadata};

use super::container_dir::{ContainerDir, ContainerStatus};
use crate::stdout;

/// How soon new output is seen. (A change of a file on any filesystem, and its rotation, can be seen this way.)
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// `logs`
pub fn logs(dir: &ContainerDir, follow: bool) -> Result<()> {
    let log = dir.about()?.log;
    let mut rotated = log.clone().into_os_string();
    rotated.push(".1");
    if let Some(mut older) = absent(File::open(rotated)).context("open the older log")? {
        copy(&mut older)?;
    }
    let mut reader = LogReader::open(log)?;
    loop {
        // Asked before the log is read: nothing comes after the exit.
        let is_last = !follow || dir.status()? != ContainerStatus::Running;
        reader.more()?;
        if is_last {
            return Ok(());
        }
        sleep(POLL_INTERVAL);
    }
}

/// Follows a log, from file to file.
pub struct LogReader {
    path: PathBuf,
    file: Option<File>,
}

impl LogReader {
    /// From the beginning of what is there now.
    ///
    /// # Errors
    /// The file can't be opened.
    pub fn open(path: PathBuf) -> Result<LogReader> {
        let file = absent(File::open(&path)).context("open the log")?;
        Ok(LogReader { file, path })
    }

    /// From the end of what is there now.
    ///
    /// # Errors
    /// As those of [`LogReader::open`].
    pub fn at_end(path: PathBuf) -> Result<LogReader> {
        let mut reader = LogReader::open(path)?;
        if let Some(file) = &mut reader.file {
            match std::io::Seek::seek(file, std::io::SeekFrom::End(0)) {
                // A log that is a pipe has its end where it is read.
                Err(e) if e.raw_os_error() == Some(libc::ESPIPE) => {}
                other => drop(other.context("go to the end of the log")?),
            }
        }
        Ok(reader)
    }

    /// Prints what has come.
    ///
    /// # Errors
    /// The file can't be read, or stdout not written to.
    pub fn more(&mut self) -> Result<()> {
        if let Some(file) = &mut self.file {
            copy(file)?;
        }
        if self.file.as_ref().map_or(Ok(true), |file| is_rotated(file, &self.path))? {
            // What was written before the rotation.
            if let Some(file) = &mut self.file {
                copy(file)?;
            }
            if let Some(next) = absent(File::open(&self.path)).context("open the log")? {
                copy(self.file.insert(next))?;
            }
        }
        Ok(())
    }
}

/// Whether another file has taken its place. While none has, there may be more to come.
fn is_rotated(file: &File, path: &Path) -> Result<bool> {
    let (old, new) = (file.metadata().context("stat the log")?, metadata(path).context("stat the log")?);
    Ok(new.is_some_and(|new| (old.dev(), old.ino()) != (new.dev(), new.ino())))
}

/// Copies to stdout up to the end. Whoever reads may have had enough.
fn copy(from: &mut File) -> Result<()> {
    let mut block = vec![0; 64 << 10];
    loop {
        let len = from.read(&mut block).context("read the log")?;
        if len == 0 {
            return Ok(());
        }
        if !stdout::print(&block[..len])? {
            std::process::exit(0);
        }
    }
}
