//! How far a restore is.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far a restore is, in bytes that came from the registry: shared with whoever shows it.
#[derive(Debug, Default)]
pub struct RestoreProgress {
    done: AtomicU64,
    total: AtomicU64,
}

impl RestoreProgress {
    /// Bytes fetched so far, and bytes in all; the total is 0 before the restore begins.
    pub fn bytes(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    pub(super) fn begin(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    pub(super) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
}
