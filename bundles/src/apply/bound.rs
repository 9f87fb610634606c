//! How much of an archive may be read between two entries: long names and extended headers are read into memory whole.

use std::cell::Cell;
use std::io::{self, Read};

use tar::{Entry, EntryType};

/// No path has more than 4 KiB and no attribute more than 64 (linux/limits.h).
const MAX_HEADERS: u64 = 1 << 20;
const BLOCK: u64 = 512;

/// The end of what may be read, as a place in the archive.
pub(super) struct Bound {
    at: Cell<u64>,
    end: Cell<u64>,
}

impl Default for Bound {
    fn default() -> Self {
        Bound { at: Cell::new(0), end: Cell::new(MAX_HEADERS) }
    }
}

impl Bound {
    /// The archive, up to there.
    pub(super) fn on<'b>(&'b self, archive: &'b mut dyn Read) -> impl Read + use<'b> {
        Bounded { archive, bound: self }
    }

    /// What an entry holds is limited by other means.
    pub(super) fn lift(&self) {
        self.end.set(u64::MAX);
    }

    /// What is left of this entry is passed over, and then come the headers of the next.
    ///
    /// # Errors
    /// Its header tells no size.
    pub(super) fn set(&self, entry: &Entry<'_, impl Read>) -> io::Result<()> {
        // A sparse file's size is not what it takes in the archive.
        let size = match entry.header().entry_type() {
            EntryType::GNUSparse => entry.header().entry_size()?,
            _ => entry.size(),
        };
        let next = entry.raw_file_position().saturating_add(size.div_ceil(BLOCK).saturating_mul(BLOCK));
        self.end.set(next.max(self.at.get()).saturating_add(MAX_HEADERS));
        Ok(())
    }
}

struct Bounded<'b> {
    archive: &'b mut dyn Read,
    bound: &'b Bound,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (at, end) = (self.bound.at.get(), self.bound.end.get());
        if at >= end && !buffer.is_empty() {
            return Err(io::Error::other(format!("a header is longer than {} KiB", MAX_HEADERS >> 10)));
        }
        let length = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let read = self.archive.read(&mut buffer[..length])?;
        self.bound.at.set(at + read as u64);
        Ok(read)
    }
}
