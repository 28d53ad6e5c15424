//! The queue on a RabbitMQ broker. See the crate's documentation for the topology and the reasons.

mod backoff;
mod error;
mod inbox;
mod link;
mod publisher;
mod session;
mod settings;
mod supervisor;
mod topology;

pub(crate) use inbox::{Inbox, Receipt};
pub use settings::RabbitMqSettings;

use crate::delivery::Source;
use crate::{DeadLetter, Health, QueueError, Subscription, Target};
use mothball_domain::id::JobId;
use publisher::Publisher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use supervisor::Supervisor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use topology::Topology;

/// How long [`RabbitMq::close`] waits for the tasks; each of them has a shorter limit of its own.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// A queue on a RabbitMQ broker. A clone is another handle on the same connections.
#[derive(Debug, Clone)]
pub struct RabbitMq(Arc<Shared>);

/// What the publisher and the subscriptions have in common.
#[derive(Debug)]
struct Shared {
    settings: RabbitMqSettings,
    topology: Topology,
    publisher: Publisher,
    /// Every task of this queue; `close` joins them.
    tasks: TaskTracker,
    closing: CancellationToken,
    /// Sessions that hold a live consumer.
    consuming: AtomicUsize,
}

impl RabbitMq {
    pub(crate) fn new(settings: RabbitMqSettings) -> Self {
        let tasks = TaskTracker::new();
        let topology = Topology::new(&settings.prefix, settings.queue_len_max);
        let publisher = Publisher::new(settings.clone(), topology.clone(), tasks.clone());
        let (closing, consuming) = (CancellationToken::new(), AtomicUsize::new(0));
        Self(Arc::new(Shared { settings, topology, publisher, tasks, closing, consuming }))
    }

    pub(crate) async fn wake(&self, target: &Target, job: JobId) -> Result<(), QueueError> {
        self.0.publisher.wake(target, job).await
    }

    pub(crate) async fn declare(&self, target: &Target) -> Result<(), QueueError> {
        let Shared { publisher, topology, .. } = &*self.0;
        publisher.limited(async { topology.declare(&*publisher.channel().await?, target).await }).await
    }

    pub(crate) fn subscribe(
        &self,
        targets: Vec<Target>,
        prefetch: u16,
        cancel: CancellationToken,
    ) -> Subscription {
        let (sender, inbox) = inbox::pair(cancel.clone(), self.0.closing.clone());
        let (shared, prefetch) = (Arc::clone(&self.0), prefetch.max(1));
        let supervisor = Supervisor { shared, targets, prefetch, parcels: sender, cancel };
        self.0.tasks.spawn(supervisor.run());
        Subscription(Source::RabbitMq(inbox))
    }

    pub(crate) async fn health(&self) -> Result<Health, QueueError> {
        let Shared { publisher, topology, .. } = &*self.0;
        let count = async { topology.dead_count(&*publisher.channel().await?).await };
        let (dead_letters, problem) = match publisher.limited(count).await {
            Ok(count) => (Some(u64::from(count)), None),
            Err(QueueError::Closed) => return Err(QueueError::Closed),
            Err(problem) => (None, Some(problem)),
        };
        let blocked = matches!(problem, Some(QueueError::Blocked));
        Ok(Health {
            connected: problem.is_none() || blocked,
            blocked,
            consumers: self.0.consuming.load(Ordering::Relaxed),
            dead_letters,
            problem,
        })
    }

    pub(crate) async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let Shared { publisher, topology, .. } = &*self.0;
        publisher.limited(async { topology.dead_letters(&*publisher.channel().await?, limit).await }).await
    }

    pub(crate) async fn close(&self) {
        self.0.closing.cancel();
        self.0.publisher.close().await;
        self.0.tasks.close();
        if tokio::time::timeout(CLOSE_LIMIT, self.0.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.0.tasks.len(), "Queue tasks did not end in time");
        }
    }
}
