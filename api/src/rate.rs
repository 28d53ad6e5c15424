//! How often one key may call: a bucket of calls for each, which fills again with time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// Keys remembered at most. Only keys that work get a bucket, so strangers cannot fill it.
const KEYS_MAX: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Rates {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Rates {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: per_second.into(), burst: burst.max(1).into(), buckets: Mutex::default() }
    }

    /// Takes one call of `key` out of its bucket; false when it is empty.
    pub(crate) fn take(&self, key: &str, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= KEYS_MAX && !buckets.contains_key(key) {
            // Full buckets say nothing. When all are in use, forgetting them is kinder than refusing.
            buckets.retain(|_, bucket| self.filled(bucket, now) < self.burst);
            if buckets.len() >= KEYS_MAX {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket { left: self.burst, at: now });
        bucket.left = self.filled(bucket, now);
        bucket.at = now;
        let may = bucket.left >= 1.0;
        if may {
            bucket.left -= 1.0;
        }
        may
    }

    fn filled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let waited_s = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.left + waited_s * self.per_second).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_empties_fills_again_and_is_each_keys_own() {
        let rates = Rates::new(10, 3);
        let start = Instant::now();
        assert!((0..3).all(|_| rates.take("a", start)));
        assert!(!rates.take("a", start));
        assert!(rates.take("b", start));
        assert!(rates.take("a", start + Duration::from_millis(150)));
        assert!(!rates.take("a", start + Duration::from_millis(150)));
    }

    #[test]
    fn memory_is_bounded() {
        let rates = Rates::new(1, 2);
        let start = Instant::now();
        for i in 0..(KEYS_MAX * 2) {
            rates.take(&i.to_string(), start);
        }
        assert!(rates.buckets.lock().unwrap().len() <= KEYS_MAX);
    }
}
