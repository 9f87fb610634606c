//! Waiting with a time limit; how long, and how often stress tests repeat, is for the environment to say.

use std::time::{Duration, Instant};

/// How long anything may take that should take milliseconds: generous, because CI machines are busy.
/// `PATIENCE`, in seconds, is for machines that are slower still.
pub fn patience() -> Duration {
    Duration::from_secs(number("PATIENCE", 20))
}

/// How often a test does what it must do many times: `REPEATS` percent of `times`, rounded up.
pub fn repeats(times: usize) -> usize {
    (times * number("REPEATS", 100) as usize).div_ceil(100)
}

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    let parse = |text: String| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"));
    std::env::var(name).map_or(otherwise, parse)
}

/// Waits until `condition` holds; panics with `what` when patience ends.
///
/// Between two looks it waits as long as the last one took: many of them start a program, and what is waited for may
/// want the same CPU.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + patience();
    loop {
        let looked = Instant::now();
        if condition() {
            return;
        }
        assert!(Instant::now() < end, "waited {:?} in vain for {what}", patience());
        std::thread::sleep(looked.elapsed().clamp(Duration::from_millis(2), Duration::from_millis(100)));
    }
}
