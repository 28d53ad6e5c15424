//! A wake-up in somebody's hands, and where it comes from.

use crate::{QueueError, local, rabbitmq};
use mothball_domain::id::JobId;

/// How often a wake-up may be given back or lost by its consumer before it becomes a dead letter. The
/// store's due time still finds its job.
pub const DELIVERY_LIMIT: u32 = 20;

/// Wake-ups for one consumer. Dropping it ends it: whatever it had not settled goes to somebody else.
#[derive(Debug)]
pub struct Subscription(pub(crate) Source);

#[derive(Debug)]
pub(crate) enum Source {
    RabbitMq(rabbitmq::Inbox),
    Local(local::Inbox),
}

impl Subscription {
    /// The next wake-up; waits for as long as it takes. `None` once cancelled or closed, and from then
    /// on. Cancel-safe: a wake-up is never lost in a `select!`.
    pub async fn recv(&mut self) -> Option<Delivery> {
        match &mut self.0 {
            Source::RabbitMq(inbox) => inbox.recv().await,
            Source::Local(inbox) => inbox.recv().await,
        }
    }
}

/// One wake-up. It is settled by value, once; dropped unsettled it is given back like [`nack`](Self::nack),
/// so that a worker that panics does not go deaf one delivery at a time.
#[derive(Debug)]
#[must_use = "a delivery that is dropped is given back and delivered again"]
pub struct Delivery {
    /// The job to look at.
    pub job: JobId,
    /// Whether somebody, perhaps we, had it before.
    pub redelivered: bool,
    pub(crate) receipt: Receipt,
}

#[derive(Debug)]
pub(crate) enum Receipt {
    RabbitMq(rabbitmq::Receipt),
    Local(local::Receipt),
}

impl Delivery {
    /// Done: it need not be delivered again. [`QueueError::Stale`] means that it will be all the same.
    pub async fn ack(self) -> Result<(), QueueError> {
        match self.receipt {
            Receipt::RabbitMq(receipt) => receipt.ack().await,
            Receipt::Local(receipt) => receipt.ack(),
        }
    }

    /// Not done: deliver it again, to anybody, at once. After [`DELIVERY_LIMIT`] times it becomes a dead
    /// letter, so whoever gives back for long waits in between.
    pub async fn nack(self) -> Result<(), QueueError> {
        match self.receipt {
            Receipt::RabbitMq(receipt) => receipt.nack().await,
            Receipt::Local(receipt) => receipt.nack(),
        }
    }
}
