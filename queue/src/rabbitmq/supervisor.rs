//! Keeps one subscription alive: a session, and another, for ever. lapin's own recovery stays off: it
//! ends in silence after a channel error, or when its tries are used up.

use super::Shared;
use super::backoff::Backoff;
use super::inbox::Parcel;
use super::session::{End, Session};
use crate::Target;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The longest wait between two sessions.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A session that lasted this long was a good one.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// Why a subscription shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// In order: what is in somebody's hands may still be settled.
    Cancelled,
    /// Its consumer is gone.
    Abandoned,
}

#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) shared: Arc<Shared>,
    pub(super) targets: Vec<Target>,
    pub(super) prefetch: u16,
    pub(super) parcels: mpsc::Sender<Parcel>,
    pub(super) cancel: CancellationToken,
}

impl Supervisor {
    /// Runs sessions until the subscription shall end.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(BACKOFF_MAX);
        loop {
            let started = Instant::now();
            let error = match self.session().await {
                End::Stopped(_) => return,
                End::Lost(error) => error,
            };
            if started.elapsed() > GOOD_SESSION {
                backoff.reset();
            }
            let wait = backoff.after(&error);
            super::error::log("consume", &error, wait);
            tokio::select! { biased;
                _ = self.stopped() => return,
                () = sleep(wait) => {}
            }
        }
    }

    async fn session(&self) -> End {
        let opened = tokio::select! { biased;
            stop = self.stopped() => return End::Stopped(stop),
            opened = Session::open(self) => opened,
        };
        match opened {
            Ok(session) => {
                let _live = Live::new(&self.shared.consuming);
                tracing::info!(targets = self.targets.len(), "Subscribed to the broker");
                session.run(self).await
            }
            Err(error) => End::Lost(error),
        }
    }

    /// Waits until the subscription shall end.
    pub(super) async fn stopped(&self) -> Stop {
        tokio::select! { biased;
            () = self.cancel.cancelled() => Stop::Cancelled,
            () = self.shared.closing.cancelled() => Stop::Cancelled,
            () = self.parcels.closed() => Stop::Abandoned,
        }
    }
}

/// Counts a live session for as long as it lasts.
struct Live<'a>(&'a AtomicUsize);

impl<'a> Live<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
