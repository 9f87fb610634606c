//! Which of many cases are tried when there is no time for all: an even sample, begun anywhere.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    /// At the most so many cases of a part.
    pub cases: Option<usize>,
    /// For so long, from when all is prepared.
    pub time: Option<Duration>,
    /// By how many threads.
    pub jobs: usize,
    /// Where a sample begins.
    pub seed: u64,
}

/// Works on all of these, or a sample.
pub fn work<T: Sync>(all: &[T], amount: Amount, work: impl Fn(&T) + Sync) {
    let order = order(all.len(), amount.seed);
    let count = amount.cases.map_or(all.len(), |cases| cases.min(all.len()));
    let end = amount.time.map(|time| Instant::now() + time);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..amount.jobs {
            scope.spawn(|| {
                while end.is_none_or(|end| Instant::now() < end) {
                    let step = next.fetch_add(1, Ordering::Relaxed);
                    if step >= count {
                        break;
                    }
                    work(&all[order[step]]);
                }
            });
        }
    });
}

/// Every index once, such that any number of steps from the first is spread evenly: sorted by the fractions of the golden
/// ratio's multiples, whose neighbors are never far apart (the three-gap theorem).
fn order(length: usize, seed: u64) -> Vec<usize> {
    let fraction = |index: &usize| (*index as f64 * 0.618_033_988_749_895).fract();
    let mut order: Vec<usize> = (0..length).collect();
    order.sort_by(|one, other| fraction(one).total_cmp(&fraction(other)));
    order.rotate_left(seed as usize % length.max(1));
    order
}

/// Random numbers, the same again for the same seed (xorshift64*).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below this.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_whole_round_meets_each_once_wherever_it_begins() {
        for length in 1..200 {
            for seed in [0, 1, 12_345] {
                assert_eq!(order(length, seed).into_iter().collect::<BTreeSet<_>>(), (0..length).collect());
            }
        }
    }

    #[test]
    fn half_a_round_leaves_no_wide_gap() {
        let mut met = order(1000, 7)[..500].to_vec();
        met.sort_unstable();
        assert!(met.windows(2).all(|pair| pair[1] - pair[0] < 10), "{met:?}");
    }
}
