//! Going round: at every tick, and more rarely while the store is away.

use crate::Parts;
use mothball_store::StoreError;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// The longest wait after the store could not be asked.
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// The rounds of one loop.
pub(crate) struct Rounds<'a> {
    ticks: Interval,
    tick: Duration,
    /// The wait after the next round that fails.
    wait: Duration,
    /// What is looked up, in words.
    what: &'static str,
    shutdown: &'a CancellationToken,
}

impl<'a> Rounds<'a> {
    pub(crate) fn new(parts: &Parts, what: &'static str, shutdown: &'a CancellationToken) -> Self {
        Self::every(parts.settings.tick, what, shutdown)
    }

    /// Rounds at a tick of their own.
    pub(crate) fn every(tick: Duration, what: &'static str, shutdown: &'a CancellationToken) -> Self {
        let mut ticks = interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, tick, wait: tick, what, shutdown }
    }

    /// Waits for the next round. False when there is none.
    pub(crate) async fn next(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => false,
            _ = self.ticks.tick() => true,
        }
    }

    /// Says how the round ended, and waits longer the more of them failed.
    pub(crate) async fn ended(&mut self, round: Result<(), StoreError>) {
        let Err(error) = round else {
            self.wait = self.tick;
            return;
        };
        tracing::warn!(error = %error, "{} that are due could not be looked up; trying again", self.what);
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {}
            () = sleep(self.wait) => self.wait = (self.wait * 2).min(AGAIN_MAX),
        }
    }
}
