//! Lines for containerd's log. The server's stderr is the bundle's fifo `log`, which containerd reads.

use std::fmt::Arguments;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use interface::line::rfc3339;

static DEBUG: AtomicBool = AtomicBool::new(false);

/// `-debug`.
pub fn show_debug(on: bool) {
    DEBUG.store(on, Ordering::Relaxed);
}

/// What somebody should look at.
pub fn warning(text: Arguments<'_>) {
    line("warning", text);
}

/// What helps to find an error.
pub fn debug(text: Arguments<'_>) {
    if DEBUG.load(Ordering::Relaxed) {
        line("debug", text);
    }
}

/// One write(2), so that lines of several shims don't mix. Where nobody reads, or too slowly, it is lost.
fn line(level: &str, text: Arguments<'_>) {
    let text = text.to_string();
    let line = format!("time={:?} level={level} msg={text:?}\n", rfc3339(SystemTime::now()));
    // Nobody is left to tell.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
