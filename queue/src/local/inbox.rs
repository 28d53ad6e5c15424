//! A subscription and its deliveries in this process.

use super::Shared;
use super::lane::Seat;
use crate::delivery::Receipt as AnyReceipt;
use crate::{Delivery, QueueError, Target};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A subscription of this process. It needs no task: whoever waits looks at the board itself.
#[derive(Debug)]
pub(crate) struct Inbox {
    shared: Arc<Shared>,
    seat: Seat,
    cancel: CancellationToken,
}

impl Inbox {
    pub(super) fn new(shared: Arc<Shared>, seat: Seat, cancel: CancellationToken) -> Self {
        Self { shared, seat, cancel }
    }

    pub(crate) async fn recv(&mut self) -> Option<Delivery> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // Listening before looking: a change in between is not missed.
            changed.as_mut().enable();
            if self.cancel.is_cancelled() || self.shared.closing.is_cancelled() {
                return None;
            }
            if let Some(handed) = self.shared.board().take(&self.seat) {
                let receipt = Receipt {
                    shared: Arc::clone(&self.shared),
                    target: handed.target,
                    tag: Some(handed.tag),
                };
                return Some(Delivery {
                    job: handed.job,
                    redelivered: handed.redelivered,
                    receipt: AnyReceipt::Local(receipt),
                });
            }
            tokio::select! {
                () = changed => {}
                () = self.cancel.cancelled() => return None,
                () = self.shared.closing.cancelled() => return None,
            }
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.shared.change(|board| board.stand_up(self.seat.id));
    }
}

/// The right to settle one delivery.
#[derive(Debug)]
pub(crate) struct Receipt {
    shared: Arc<Shared>,
    target: Target,
    /// Taken when it is settled.
    tag: Option<u64>,
}

impl Receipt {
    pub(crate) fn ack(mut self) -> Result<(), QueueError> {
        let tag = self.tag.take().ok_or(QueueError::Stale)?;
        let settled = self.shared.change(|board| board.settle(&self.target, tag));
        if settled { Ok(()) } else { Err(QueueError::Stale) }
    }

    pub(crate) fn nack(mut self) -> Result<(), QueueError> {
        if self.give_back() { Ok(()) } else { Err(QueueError::Stale) }
    }

    fn give_back(&mut self) -> bool {
        let Some(tag) = self.tag.take() else { return false };
        self.shared.change(|board| board.give_back(&self.target, tag))
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.give_back();
    }
}
