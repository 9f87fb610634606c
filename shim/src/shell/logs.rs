//! Reading a container's log, which may be put aside while it is read.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use super::home::{Home, Status};

/// How soon new output is seen. (A change of a file on any filesystem, and its being put aside, can be seen this way.)
const PAUSE: Duration = Duration::from_millis(20);

/// `logs`
pub fn print(home: &Home, follow: bool) -> Result<()> {
    let log = home.about()?.log;
    let mut aside = log.clone().into_os_string();
    aside.push(".1");
    if let Ok(mut older) = File::open(aside) {
        copy(&mut older)?;
    }
    let mut reader = Reader::open(log);
    loop {
        // Before what is read: nothing comes after an end.
        let over = !follow || home.status() != Status::Running;
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
    pub fn open(path: PathBuf) -> Reader {
        Reader { file: File::open(&path).ok(), path }
    }

    /// From the end of what is there now.
    pub fn at_end(path: PathBuf) -> Reader {
        let mut reader = Reader::open(path);
        if let Some(file) = &mut reader.file {
            let _ = std::io::Seek::seek(file, std::io::SeekFrom::End(0));
        }
        reader
    }

    /// Prints what has come.
    ///
    /// # Errors
    /// The file can't be read, or stdout not written to.
    pub fn more(&mut self) -> Result<()> {
        if let Some(file) = &mut self.file {
            copy(file)?;
        }
        if self.file.as_ref().is_none_or(|file| !is_at(file, &self.path)) {
            // What was written before it was put aside.
            if let Some(file) = &mut self.file {
                copy(file)?;
            }
            if let Ok(next) = File::open(&self.path) {
                copy(self.file.insert(next))?;
            }
        }
        Ok(())
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(file), Ok(path)) => (file.dev(), file.ino()) == (path.dev(), path.ino()),
        _ => true,
    }
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
