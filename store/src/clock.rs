//! The time of an embedded store: the machine's, or one that its host holds.

use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A step back by more than this is a clock that was set right, not one that wavers.
const CORRECTION_US: i64 = 60_000_000;

/// A clock that stands still until its host moves it, so that a year can go by in seconds. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct HeldClock {
    now_us: Arc<AtomicI64>,
}

impl HeldClock {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        Self { now_us: Arc::new(AtomicI64::new(start.as_microsecond())) }
    }

    /// What it shows, to the microsecond.
    pub fn now(&self) -> Timestamp {
        time(self.now_us.load(Ordering::Relaxed))
    }

    /// Moves it on to `at`; it never runs back.
    pub fn move_to(&self, at: Timestamp) {
        self.now_us.fetch_max(at.as_microsecond(), Ordering::Relaxed);
    }
}

/// What tells an embedded store the time.
#[derive(Debug)]
pub(crate) enum Clock {
    /// The machine's clock, and the newest time that it has told: it never runs back while the process lives.
    Machine(AtomicI64),
    /// The host's.
    Held(HeldClock),
}

impl Clock {
    pub(crate) fn machine() -> Self {
        Self::Machine(AtomicI64::new(0))
    }

    pub(crate) fn is_held(&self) -> bool {
        matches!(self, Self::Held(_))
    }

    pub(crate) fn now(&self) -> Timestamp {
        match self {
            Self::Held(clock) => clock.now(),
            Self::Machine(newest_us) => machine_time(newest_us),
        }
    }
}

fn machine_time(newest_us: &AtomicI64) -> Timestamp {
    let wall_us = Timestamp::now().as_microsecond();
    let mut now_us = newest_us.fetch_max(wall_us, Ordering::Relaxed).max(wall_us);
    if now_us - wall_us > CORRECTION_US {
        // The clock had been wrong and was set right: to wait for it would stop every lease and retry for as long.
        tracing::warn!(seconds = (now_us - wall_us) / 1_000_000, "the clock was set back; following it");
        newest_us.store(wall_us, Ordering::Relaxed);
        now_us = wall_us;
    }
    time(now_us)
}

fn time(us: i64) -> Timestamp {
    Timestamp::from_microsecond(us).unwrap_or(Timestamp::UNIX_EPOCH)
}
