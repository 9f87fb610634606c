//! What is on file of a container. The runtime that made it may not have written all of it, and others may have damaged it.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use linux::absent::absent;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::record::Record;
use super::status::Init;
use super::store::{CONFIG, Container, INIT, RECORD};

/// Far more than a document has; what is larger is no file of ours.
const MAX_LEN: u64 = 16 << 20;

/// A record as it is found on file.
pub enum SavedRecord {
    /// All of it.
    Whole(Box<Record>),
    /// None, or its beginning: it is written before anything else is done, so the runtime was killed before that.
    CutShort,
    /// A text that nobody has begun to write as a record.
    Damaged(serde_json::Error),
}

/// An init as it is found on file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedInit {
    /// All of it.
    Whole(Init),
    /// None, or its beginning: it is written right after the clone, so the runtime was killed before that was over. The
    /// new process ends itself then.
    CutShort,
    /// A text that nobody has begun to write as one.
    Damaged,
}

impl SavedInit {
    fn of(text: &str) -> SavedInit {
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let Some(line) = text.strip_suffix('\n') else {
            let (pid, start_time) = text.split_once(' ').unwrap_or((text, ""));
            return if is_number(pid) && is_number(start_time) {
                SavedInit::CutShort
            } else {
                SavedInit::Damaged
            };
        };
        let parse = || {
            let (pid, start_time) =
                line.split_once(' ').filter(|(pid, start_time)| is_number(pid) && is_number(start_time))?;
            let pid = Some(Pid::from_raw(pid.parse().ok()?)).filter(|pid| pid.as_raw() > 0)?;
            Some(Init { pid, start_time: start_time.parse().ok()? })
        };
        parse().map_or(SavedInit::Damaged, SavedInit::Whole)
    }
}

impl Container {
    /// The immutable record.
    ///
    /// # Errors
    /// The file is missing or cut short: the runtime was killed before it had done anything else.
    pub fn record(&self) -> Result<Record> {
        self.read_record()?
            .with_context(|| format!("{} is missing or cut short", self.file(RECORD).display()))
    }

    /// The same, or None where the runtime was killed while writing it: the file is missing, or its text ends too early.
    ///
    /// # Errors
    /// The file can't be read or is damaged, which says nothing of what there is.
    pub fn read_record(&self) -> Result<Option<Record>> {
        match self.saved_record()? {
            SavedRecord::Whole(record) => Ok(Some(*record)),
            SavedRecord::CutShort => Ok(None),
            SavedRecord::Damaged(reason) => {
                Err(reason).with_context(|| format!("read {}: it is damaged", self.file(RECORD).display()))
            }
        }
    }

    /// What is on file of the record.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn saved_record(&self) -> Result<SavedRecord> {
        Ok(match serde_json::from_slice(&self.read(RECORD)?.unwrap_or_default()) {
            Ok(record) => SavedRecord::Whole(record),
            Err(reason) if reason.is_eof() => SavedRecord::CutShort,
            Err(reason) => SavedRecord::Damaged(reason),
        })
    }

    /// The init, or None where the runtime was killed before it was written.
    ///
    /// # Errors
    /// The file can't be read or is damaged, which says nothing of what runs.
    pub fn init(&self) -> Result<Option<Init>> {
        match self.saved_init()? {
            SavedInit::Whole(init) => Ok(Some(init)),
            SavedInit::CutShort => Ok(None),
            SavedInit::Damaged => Err(anyhow!("read {}: it is damaged", self.file(INIT).display())),
        }
    }

    /// What is on file of the init.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn saved_init(&self) -> Result<SavedInit> {
        Ok(SavedInit::of(&String::from_utf8_lossy(&self.read(INIT)?.unwrap_or_default())))
    }

    /// The bytes of the document that the container was created from.
    ///
    /// # Errors
    /// The file is missing: the runtime that creates the container was killed, or has not finished.
    pub fn config(&self) -> Result<Vec<u8>> {
        let why = || {
            format!(
                "read {}: it is not there; is the container still being created?",
                self.file(CONFIG).display()
            )
        };
        self.read(CONFIG)?.with_context(why)
    }

    /// The bytes of a file in its directory. None: it is not there.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let read = || {
            // Whatever has come to be there in its place, it is not waited for, not followed and no end of bytes.
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let file = match absent(openat(self.dir(), name, flags, Mode::empty())) {
                Err(Errno::ELOOP) => bail!("it is a symbolic link and not a regular file"),
                // A socket.
                Err(Errno::ENXIO) => bail!("it is not a regular file"),
                other => other?.map(File::from),
            };
            let Some(file) = file else { return Ok(None) };
            let kind = file.metadata().context("stat")?.file_type();
            if !kind.is_file() {
                bail!("it is not a regular file");
            }
            let mut bytes = Vec::new();
            file.take(MAX_LEN + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > MAX_LEN {
                bail!("it is larger than {} MiB", MAX_LEN >> 20);
            }
            Ok(Some(bytes))
        };
        read().with_context(|| format!("read {}", self.file(name).display()))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_is_whole_or_begun_and_anything_else_is_damage() {
        let whole = SavedInit::Whole(Init { pid: Pid::from_raw(12), start_time: 345 });
        assert_eq!(SavedInit::of("12 345\n"), whole);
        for begun in ["", "1", "12", "12 ", "12 345"] {
            assert_eq!(SavedInit::of(begun), SavedInit::CutShort, "{begun:?}");
        }
        for damaged in [
            "\n",
            "12\n",
            "12 \n",
            " 345\n",
            "0 1\n",
            "-1 1\n",
            "+1 1\n",
            "x",
            "12 x",
            "12 345\n\n",
            "12 345\n6",
            "99999999999 1\n",
        ] {
            assert_eq!(SavedInit::of(damaged), SavedInit::Damaged, "{damaged:?}");
        }
    }
}
