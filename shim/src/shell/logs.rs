//! Reading a container's log, which may be put aside while it is read.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use linux::absent::{absent, metadata};

use super::home::{Home, Status};

/// How soon new output is seen. (A change of a file on any filesystem, and its being put aside, can be seen this way.)
const PAUSE: Duration = Duration::from_millis(20);

/// `logs`
pub fn print(home: &Home, follow: bool) -> Result<()> {
    let log = home.about()?.log;
    let mut aside = log.clone().into_os_string();
    aside.push(".1");
    if let Some(mut older) = absent(File::open(aside)).context("open the older log")? {
        copy(&mut older)?;
    }
    let mut reader = Reader::open(log)?;
    loop {
        // Before what is read: nothing comes after an end.
        let over = !follow || home.status()? != Status::Running;
        reader.more()?;
        if over {
            return Ok(());
        }
        sleep(PAUSE);
    }
}

/// Follows a log, from file to file.
pub struct Reader {
    path: PathBuf,
    file: Option<File>,
}

impl Reader {
    /// From the beginning of what is there now.
    ///
    /// # Errors
    /// The file can't be opened.
    pub fn open(path: PathBuf) -> Result<Reader> {
        let file = absent(File::open(&path)).context("open the log")?;
        Ok(Reader { file, path })
    }

    /// From the end of what is there now.
    ///
    /// # Errors
    /// As those of [`Reader::open`].
    pub fn at_end(path: PathBuf) -> Result<Reader> {
        let mut reader = Reader::open(path)?;
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
        if self.file.as_ref().map_or(Ok(true), |file| is_aside(file, &self.path))? {
            // What was written before it was put aside.
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
fn is_aside(file: &File, path: &Path) -> Result<bool> {
    let (old, new) = (file.metadata().context("stat the log")?, metadata(path).context("stat the log")?);
    Ok(new.is_some_and(|new| (old.dev(), old.ino()) != (new.dev(), new.ino())))
}

/// Copies to stdout up to the end. Whoever reads may have had enough.
fn copy(from: &mut File) -> Result<()> {
    let mut block = vec![0; 64 << 10];
    let mut stdout = std::io::stdout();
    loop {
        let len = from.read(&mut block).context("read the log")?;
        if len == 0 {
            return Ok(());
        }
        match stdout.write_all(&block[..len]).and_then(|()| stdout.flush()) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
            written => written.context("write the log")?,
        }
    }
}
