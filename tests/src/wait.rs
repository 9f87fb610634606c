//! Waiting with an end.

use std::time::{Duration, Instant};

/// How long anything may take that should take milliseconds: generous, because CI machines are busy.
pub const fn patience() -> Duration {
    Duration::from_secs(20)
}

/// Waits until `condition` holds; panics with `what` when patience ends.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + patience();
    while !condition() {
        assert!(Instant::now() < end, "waited {:?} in vain for {what}", patience());
        std::thread::sleep(Duration::from_millis(2));
    }
}
