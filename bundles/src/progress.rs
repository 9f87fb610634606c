//! How far it is, for a person who waits.

use std::io::{IsTerminal, Read};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Who waits less than that need not be told.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar on stderr, when that is a terminal and it takes longer than a second.
pub struct Progress {
    bar: ProgressBar,
    start: Instant,
}

impl Progress {
    /// For so many bytes in all.
    pub fn new(bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left") {
            bar.set_style(style);
        }
        Progress { bar, start: Instant::now() }
    }

    /// A reader whose bytes count.
    pub fn watch(&self, inner: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        Box::new(Watched { inner, bar: self.bar.clone(), start: self.start })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

struct Watched {
    inner: Box<dyn Read + Send>,
    bar: ProgressBar,
    start: Instant,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bar.inc(read as u64);
        if self.bar.is_hidden() && self.start.elapsed() > PATIENCE && std::io::stderr().is_terminal() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        Ok(read)
    }
}
