//! The count of cases and failures, and what is printed of it.

use crate::case::{Failure, Finding};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The figures of one part.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    /// Cases that were tried: those that came to the call.
    pub tried: usize,
    /// Cases whose verb ended before.
    pub unreached: usize,
    /// Failed creates that left something for `delete --force`.
    pub untidy: usize,
    /// How often each thing was wrong.
    pub found: BTreeMap<Failure, usize>,
}

impl Figures {
    /// How many things were wrong.
    pub fn failures(&self) -> usize {
        self.found.values().sum()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:6} tried", self.tried)?;
        for fault in Failure::ALL {
            write!(f, ", {} {fault}", self.found.get(&fault).unwrap_or(&0))?;
        }
        if self.untidy > 0 {
            write!(f, "; {} failed and left it to delete --force", self.untidy)?;
        }
        if self.unreached > 0 {
            write!(f, "; {} ended before their call", self.unreached)?;
        }
        Ok(())
    }
}

/// Takes what the workers of a part see.
pub struct Tally {
    part: &'static str,
    began: Instant,
    figures: Mutex<Figures>,
    /// How many minutes have been told of.
    minutes: AtomicU64,
}

impl Tally {
    /// Begins a part.
    pub fn begin(part: &'static str) -> Self {
        Self { part, began: Instant::now(), figures: Mutex::default(), minutes: AtomicU64::new(0) }
    }

    /// Tells how many cases there are.
    pub fn announce(&self, cases: usize) {
        print(&format!("{:8} {cases:6} cases", self.part));
    }

    /// Notes a case, and prints each thing that was wrong in it as a line that plays it again.
    pub fn note(&self, again: &str, at: &str, tried: bool, untidy: bool, found: &[Finding]) {
        let mut figures = self.figures.lock().expect("the figures");
        figures.tried += usize::from(tried);
        figures.unreached += usize::from(!tried);
        figures.untidy += usize::from(untidy);
        for (fault, seen) in found {
            *figures.found.entry(*fault).or_default() += 1;
            print(&format!("FAIL {again}  # {at}: {fault}: {}", shortened(seen)));
        }
        let minutes = self.began.elapsed().as_secs() / 60;
        if self.minutes.fetch_max(minutes, Ordering::Relaxed) < minutes {
            print(&format!("{:8} {figures} so far", self.part, figures = *figures));
        }
    }

    /// Ends the part with its line.
    pub fn end(self) -> Figures {
        let figures = self.figures.into_inner().expect("the figures");
        print(&format!("{:8} {figures}; {} s", self.part, self.began.elapsed().as_secs()));
        figures
    }
}

fn shortened(text: &str) -> String {
    let line = text.replace('\n', " | ");
    match line.char_indices().nth(600) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A line on stdout. Whoever reads it may have gone, which is no reason to stop.
pub fn print(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
