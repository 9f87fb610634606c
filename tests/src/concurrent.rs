//! Something that goes on in a thread of its own while a test does its work.

use crate::exchange;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends the other thread, also when this one panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Calls `again` again and again until `work` is done.
pub fn while_repeating<T>(mut again: impl FnMut() + Send, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                again();
            }
        });
        work()
    })
}

/// Has two names stand for each other's file again and again (RENAME_EXCHANGE) until `work` is done.
pub fn while_exchanging<T>(one: &Path, other: &Path, work: impl FnOnce() -> T) -> T {
    while_repeating(|| exchange(one, other).expect("exchange two names"), work)
}
