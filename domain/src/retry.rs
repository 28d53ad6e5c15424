//! How long to wait: plain data and pure functions.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When to try a failed job again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts a job gets in all.
    pub max_attempts: u32,
    /// The wait after the first failed attempt.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 5, first: Duration::from_secs(2), max: Duration::from_secs(30) }
    }
}

impl RetryPolicy {
    /// The wait after failed attempt number `attempt` (1, 2, …): doubling, capped, with jitter.
    /// `random` in `0.0..1.0` spreads the wait over the upper half of the interval, so that jobs
    /// that failed together do not come back together.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let doubled = doubled(self.first, attempt.saturating_sub(1), self.max);
        doubled.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }
}

/// How long after its `published`-th publication a job is published again: 30 s · 2^k, at most ten
/// minutes, so that the queue of a node that is away is not flooded.
pub fn publish_again(published: u32) -> Duration {
    doubled(Duration::from_secs(30), published.saturating_sub(1), Duration::from_mins(10))
}

fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    2u32.checked_pow(times).and_then(|factor| first.checked_mul(factor)).unwrap_or(max).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let policy = RetryPolicy::default();
        let seconds: Vec<u64> = (1..=6).map(|n| policy.delay(n, 1.0).as_secs()).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 30, 30]);
        let seconds: Vec<u64> = (1..=7).map(|n| publish_again(n).as_secs()).collect();
        assert_eq!(seconds, [30, 60, 120, 240, 480, 600, 600]);
    }

    proptest! {
        #[test]
        fn a_wait_is_never_longer_than_the_cap_nor_shorter_than_half(attempt in 0..u32::MAX, random in -1.0f64..2.0) {
            let policy = RetryPolicy::default();
            let wait = policy.delay(attempt, random);
            prop_assert!(wait <= policy.max && wait >= policy.first / 2);
            prop_assert!(publish_again(attempt) <= Duration::from_mins(10));
        }
    }
}
