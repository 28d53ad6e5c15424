//! The consumer's end of a subscription: what the session hands over, and how it is settled.

use crate::delivery::Receipt as AnyReceipt;
use crate::{Delivery, QueueError};
use lapin::Acker;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use mothball_domain::id::JobId;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long handing an acknowledgement to the connection may take.
pub(super) const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// A readable message on its way to the consumer.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) job: JobId,
    pub(super) redelivered: bool,
    pub(super) receipt: Receipt,
}

/// The consumer's end of a subscription.
#[derive(Debug)]
pub(crate) struct Inbox {
    parcels: mpsc::Receiver<Parcel>,
    cancel: CancellationToken,
    closing: CancellationToken,
}

/// Both ends. One parcel fits between them: what waits beyond it waits in the session.
pub(super) fn pair(cancel: CancellationToken, closing: CancellationToken) -> (mpsc::Sender<Parcel>, Inbox) {
    let (sender, parcels) = mpsc::channel(1);
    (sender, Inbox { parcels, cancel, closing })
}

impl Inbox {
    pub(crate) async fn recv(&mut self) -> Option<Delivery> {
        loop {
            tokio::select! { biased;
                () = self.cancel.cancelled() => break,
                () = self.closing.cancelled() => break,
                parcel = self.parcels.recv() => {
                    let Parcel { job, redelivered, receipt } = parcel?;
                    // What was in between when the connection broke comes again; it is not ours any more.
                    if receipt.usable() {
                        return Some(Delivery { job, redelivered, receipt: AnyReceipt::RabbitMq(receipt) });
                    }
                }
            }
        }
        // Gives back what was on its way, so that the session need not wait for it.
        self.parcels.close();
        while self.parcels.try_recv().is_ok() {}
        None
    }
}

/// The right to settle one delivery.
#[derive(Debug)]
pub(crate) struct Receipt {
    /// Taken when it is settled.
    acker: Option<Acker>,
    returns: mpsc::Sender<Acker>,
    /// Tells the session that the delivery is still in somebody's hands.
    _held: TaskTrackerToken,
}

impl Receipt {
    pub(super) fn new(acker: Acker, returns: mpsc::Sender<Acker>, held: TaskTrackerToken) -> Self {
        Self { acker: Some(acker), returns, _held: held }
    }

    fn usable(&self) -> bool {
        self.acker.as_ref().is_some_and(Acker::usable)
    }

    pub(crate) async fn ack(mut self) -> Result<(), QueueError> {
        let acker = self.acker.take().ok_or(QueueError::Stale)?;
        settled(acker.ack(BasicAckOptions::default())).await
    }

    pub(crate) async fn nack(mut self) -> Result<(), QueueError> {
        let acker = self.acker.take().ok_or(QueueError::Stale)?;
        let options = BasicNackOptions { requeue: true, ..Default::default() };
        settled(acker.nack(options)).await
    }
}

/// Only `Ok(true)` was sent. lapin answers `Ok(false)`, not an error, when the channel is gone.
async fn settled(sent: impl Future<Output = lapin::Result<bool>>) -> Result<(), QueueError> {
    match timeout(SETTLE_LIMIT, sent).await {
        Ok(Ok(true)) => Ok(()),
        _ => Err(QueueError::Stale),
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(acker) = self.acker.take() {
            // Never full: it has room for every delivery that can be out. Closed when the session is
            // over, and then the broker has taken the delivery back already.
            self.returns.try_send(acker).ok();
        }
    }
}
