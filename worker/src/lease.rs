//! Keeping the lease of a running job: renews it, carries progress, brings back a cancel.

use crate::halt::{Stop, StopSignal};
use mothball_domain::id::{Fence, JobId};
use mothball_domain::job::Progress;
use mothball_store::{Renewal, Store};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Progress is written at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// A lease that is kept until told to end.
pub(crate) struct Keeper {
    pub(crate) store: Store,
    pub(crate) id: JobId,
    pub(crate) fence: Fence,
    pub(crate) lease: Duration,
    pub(crate) stop: StopSignal,
    pub(crate) progress: watch::Receiver<Option<Progress>>,
}

impl Keeper {
    /// Renews until `ended`. A lease that is lost stops the attempt. A store that does not answer does not: everything
    /// short of a removal can be repeated, and before a removal the attempt asks the store itself.
    pub(crate) async fn keep(mut self, ended: CancellationToken) {
        let every = self.lease / 3;
        let mut next = Instant::now() + every.min(PROGRESS_EVERY * 2);
        loop {
            tokio::select! {
                biased;
                () = ended.cancelled() => return,
                () = tokio::time::sleep_until(next) => {}
            }
            let progress = *self.progress.borrow_and_update();
            match self.store.renew(self.id, self.fence, self.lease, progress).await {
                Ok(Renewal::Held { cancel: true }) => {
                    if self.stop.check().is_ok() {
                        tracing::info!(job.id = %self.id, "the job's owner wants it stopped");
                    }
                    self.stop.stop(Stop::Cancelled);
                }
                Ok(Renewal::Held { cancel: false }) => {}
                Ok(Renewal::Lost) => {
                    self.stop.stop(Stop::Lost);
                    return;
                }
                Err(error) => {
                    tracing::warn!(job.id = %self.id, error = %error, "the lease could not be renewed; trying again");
                }
            }
            let soon = Instant::now() + PROGRESS_EVERY;
            let due = Instant::now() + every;
            next = tokio::select! {
                biased;
                () = ended.cancelled() => return,
                // Progress that moves is written twice a second; a quiet step only keeps its lease. A cancel reaches a
                // quiet step within the shorter of a second and a third of the lease.
                changed = self.progress.changed() => if changed.is_ok() { soon } else { due },
                () = tokio::time::sleep_until(due.min(Instant::now() + PROGRESS_EVERY * 2)) => Instant::now(),
            };
        }
    }
}
