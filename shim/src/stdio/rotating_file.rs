//! `file://PATH?max-size=BYTES`: a log that is rotated.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::open;

/// A file that is renamed to `PATH.1` before it grows too large, and begun anew.
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    len: u64,
    max_size: u64,
}

impl RotatingFile {
    /// # Errors
    /// The file can't be opened.
    pub fn open(path: &Path, max_size: u64) -> Result<RotatingFile> {
        let file = File::from(open::append(path)?);
        let len = file.metadata()?.len();
        Ok(RotatingFile { path: path.to_owned(), file, len, max_size })
    }

    /// Appends some of the bytes, and says how many.
    ///
    /// # Errors
    /// Those of rename(2), open(2) and write(2).
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, io::Error> {
        if self.len > 0 && self.len + bytes.len() as u64 > self.max_size {
            let mut rotated = self.path.clone().into_os_string();
            rotated.push(".1");
            fs::rename(&self.path, rotated)?;
            self.file = File::options().append(true).create(true).open(&self.path)?;
            self.len = 0;
        }
        let len = self.file.write(bytes)?;
        self.len += len as u64;
        Ok(len)
    }
}
