//! How far a save is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far the layers of a save are. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    totals: Arc<Totals>,
}

#[derive(Debug, Default)]
struct Totals {
    planned: AtomicU64,
    read: AtomicU64,
    sent: AtomicU64,
}

impl Progress {
    /// Bytes of tar that are to be read in all, as far as is known: it grows with each pass.
    pub fn planned_bytes(&self) -> u64 {
        self.totals.planned.load(Ordering::Relaxed)
    }

    /// Adds to what is to be read.
    pub(in crate::save) fn plan(&self, bytes: u64) {
        self.totals.planned.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of tar that were read for layers that are there or on their way; a layer that starts again is
    /// taken off first.
    pub fn read_bytes(&self) -> u64 {
        self.totals.read.load(Ordering::Relaxed)
    }

    /// Bytes that were handed to the registry, those that were sent twice counted twice.
    pub fn sent_bytes(&self) -> u64 {
        self.totals.sent.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self) -> Arc<Count> {
        Arc::new(Count { progress: self.clone(), read: AtomicU64::new(0), keeps: false.into() })
    }
}

/// What one try of one layer adds to the progress; taken off again when it is dropped without
/// [`keep`](Self::keep).
#[derive(Debug)]
pub(super) struct Count {
    progress: Progress,
    read: AtomicU64,
    keeps: std::sync::atomic::AtomicBool,
}

impl Count {
    pub(super) fn read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
        self.progress.totals.read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.progress.totals.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The layer is there: what was counted stays.
    pub(super) fn keep(&self) {
        self.keeps.store(true, Ordering::Relaxed);
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        if !self.keeps.load(Ordering::Relaxed) {
            let read = self.read.load(Ordering::Relaxed);
            self.progress.totals.read.fetch_sub(read, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_again_is_taken_off() {
        let progress = Progress::default();
        let first = progress.count();
        first.read(10);
        first.sent(5);
        assert_eq!((progress.read_bytes(), progress.sent_bytes()), (10, 5));
        drop(first);
        let second = progress.count();
        second.read(7);
        second.keep();
        drop(second);
        assert_eq!((progress.read_bytes(), progress.sent_bytes()), (7, 5));
    }
}
