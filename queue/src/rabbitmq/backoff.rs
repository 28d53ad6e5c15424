//! How long to wait before the next connection.

use crate::QueueError;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
/// What a person must repair does not get better by asking often, and each try is a line in two logs.
const DENIED: Duration = Duration::from_secs(10);

/// Doubling waits with jitter, so that the workers of a cluster do not come back all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    max: Duration,
}

impl Backoff {
    pub(super) fn new(max: Duration) -> Self {
        Self { failures: 0, max }
    }

    /// All went well for a while: the next wait is short again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after a failure.
    pub(super) fn after(&mut self, error: &QueueError) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(10)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let wait = if error.is_transient() { doubled } else { DENIED };
        // The hasher's random keys are randomness enough here.
        let random = RandomState::new().build_hasher().finish() % 1000;
        wait.mul_f64(0.75 + 0.25 * random as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_anew() {
        let max = Duration::from_secs(5);
        let mut backoff = Backoff::new(max);
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            last = backoff.after(&QueueError::Blocked);
            assert!(last <= max);
        }
        assert!(last >= max.mul_f64(0.75));
        backoff.reset();
        assert!(backoff.after(&QueueError::Blocked) <= FIRST);
        assert!(backoff.after(&QueueError::BadUrl) >= DENIED.mul_f64(0.75));
    }
}
