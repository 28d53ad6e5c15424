//! How long a look may go on.

use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Until when a look goes on: until a moment, or until somebody has it stop. What has been seen by then is told.
#[derive(Debug, Clone)]
pub struct Until {
    at: Instant,
    stop: CancellationToken,
}

impl Until {
    /// Until this moment.
    pub fn at(at: Instant) -> Self {
        Self { at, stop: CancellationToken::new() }
    }

    /// For so long from now.
    pub fn after(time: Duration) -> Self {
        Self::at(Instant::now() + time)
    }

    /// The same, and no longer than until `stop` is cancelled.
    #[must_use]
    pub fn or(self, stop: CancellationToken) -> Self {
        Self { stop, ..self }
    }

    /// The same, and at least until this moment unless it is stopped.
    pub(super) fn not_before(&self, at: Instant) -> Self {
        Self { at: self.at.max(at), stop: self.stop.clone() }
    }

    /// With this part, in percent, of the time that is left.
    pub(super) fn part(&self, percent: u32) -> Self {
        let now = Instant::now();
        let part = self.at.saturating_duration_since(now) * percent / 100;
        Self { at: now + part, stop: self.stop.clone() }
    }

    /// How much time is left: none once it is over.
    pub(super) fn left(&self) -> Duration {
        if self.stop.is_cancelled() {
            Duration::ZERO
        } else {
            self.at.saturating_duration_since(Instant::now())
        }
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.left().is_zero()
    }
}
