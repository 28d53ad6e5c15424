#![doc = include_str!("../README.md")]

mod delivery;
mod error;
mod health;
mod local;
mod message;
mod rabbitmq;
mod target;

#[cfg(feature = "contract")]
pub mod contract;

pub use delivery::{DELIVERY_LIMIT, Delivery, Subscription};
pub use error::QueueError;
pub use health::{DeadLetter, Health};
pub use local::Local;
pub use rabbitmq::{RabbitMq, RabbitMqSettings};
pub use target::Target;

use mothball_domain::id::JobId;
use tokio_util::sync::CancellationToken;

/// The port. Two adapters, both real products; a clone is another handle on the same queue.
#[derive(Debug, Clone)]
pub enum Queue {
    /// A RabbitMQ broker.
    RabbitMq(RabbitMq),
    /// This process.
    Local(Local),
}

impl Queue {
    /// A queue inside this process.
    pub fn local() -> Self {
        Self::Local(Local::new())
    }

    /// A queue on a RabbitMQ broker. Connects when it is first needed, so it never fails because the
    /// broker is away.
    pub fn rabbitmq(settings: RabbitMqSettings) -> Self {
        Self::RabbitMq(RabbitMq::new(settings))
    }

    /// Wakes whoever works for `target`, to look at `job`. `Ok` means that the wake-up is held safely
    /// until somebody acknowledges it; an error means that it may or may not be. Repeating it is
    /// harmless. Never takes longer than the publish timeout.
    pub async fn wake(&self, target: &Target, job: JobId) -> Result<(), QueueError> {
        match self {
            Self::RabbitMq(queue) => queue.wake(target, job).await,
            Self::Local(queue) => queue.wake(target, job),
        }
    }

    /// Makes the target's queue, so that wake-ups are held from now on, worker or not. Idempotent.
    pub async fn declare(&self, target: &Target) -> Result<(), QueueError> {
        match self {
            Self::RabbitMq(queue) => queue.declare(target).await,
            Self::Local(queue) => queue.declare(target),
        }
    }

    /// Takes wake-ups for `targets`, at most `prefetch` unsettled ones per target. Declares the
    /// targets, and subscribes anew for ever after whatever happens to the broker, until `cancel` is
    /// cancelled, the subscription is dropped, or the queue is closed.
    pub fn subscribe(&self, targets: Vec<Target>, prefetch: u16, cancel: CancellationToken) -> Subscription {
        match self {
            Self::RabbitMq(queue) => queue.subscribe(targets, prefetch, cancel),
            Self::Local(queue) => queue.subscribe(targets, prefetch, cancel),
        }
    }

    /// How the queue is. A broker that cannot be asked is an answer too ([`Health::problem`]); an
    /// error only says that this queue was closed.
    pub async fn health(&self) -> Result<Health, QueueError> {
        match self {
            Self::RabbitMq(queue) => queue.health().await,
            Self::Local(queue) => queue.health(),
        }
    }

    /// Looks at up to `limit` dead letters and leaves them where they are.
    pub async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        match self {
            Self::RabbitMq(queue) => queue.dead_letters(limit).await,
            Self::Local(queue) => queue.dead_letters(limit),
        }
    }

    /// Ends every subscription, closes the connections in order and joins every task, all within a
    /// limit. Idempotent; afterwards everything else answers [`QueueError::Closed`].
    pub async fn close(&self) {
        match self {
            Self::RabbitMq(queue) => queue.close().await,
            Self::Local(queue) => queue.close(),
        }
    }
}
