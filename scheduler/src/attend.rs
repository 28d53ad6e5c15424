//! Attending to what is due: publish, publish again, place, rescue, give up. Retries, lost messages, crashed workers and
//! crashed APIs all end here.

use crate::Parts;
use crate::once::Round;
use crate::rounds::Rounds;
use mothball_domain::id::JobId;
use mothball_queue::{QueueError, Target};
use mothball_store::{Attend, StoreError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Jobs attended to in one round.
const BATCH: usize = 200;
/// Jobs attended to at the same time: a broker that answers slowly must not hold up the others.
const PARALLEL: usize = 16;
/// When a job or a schedule that cannot be read is looked at again.
pub(crate) const UNREADABLE_AGAIN: Duration = Duration::from_mins(10);

pub(crate) async fn run(parts: &Parts, shutdown: &CancellationToken) {
    let mut rounds = Rounds::new(parts, "jobs that are due", shutdown);
    while rounds.next().await {
        let done = Round::Jobs.go(parts, shutdown).await;
        rounds.ended(done).await;
    }
}

pub(crate) async fn round(parts: &Parts, shutdown: &CancellationToken) -> Result<(), StoreError> {
    let now = parts.store.now().await?;
    parts.metrics.last_tick.set(now.as_second());
    let due = parts.store.due(BATCH).await?;
    for batch in due.chunks(PARALLEL) {
        if shutdown.is_cancelled() {
            return Ok(());
        }
        let attended = futures_util::future::join_all(batch.iter().map(|id| attend(parts, *id))).await;
        attended.into_iter().collect::<Result<(), StoreError>>()?;
    }
    Ok(())
}

/// Attends to one job.
pub(crate) async fn attend(parts: &Parts, id: JobId) -> Result<(), StoreError> {
    let done = match parts.store.attend(id, parts.settings.attention()).await {
        // One job that cannot be read must not stop the others.
        Err(StoreError::Corrupt(what)) => {
            tracing::error!(job.id = %id, error = what, "a job that is due cannot be read; looking at it again later");
            parts.store.defer(id, UNREADABLE_AGAIN).await?;
            "unreadable"
        }
        // It is still due with the next round.
        Err(StoreError::Contended(times)) => {
            tracing::warn!(job.id = %id, times, "a job that is due changes all the time; trying again");
            "contended"
        }
        Err(error) => return Err(error),
        Ok(Attend::Nothing) => "nothing",
        Ok(Attend::Settled(job)) => {
            tracing::info!(job.id = %id, job.state = %job.state, "settled a job that no worker holds");
            "settled"
        }
        Ok(Attend::Publish(node)) => {
            let target = node.map_or(Target::Any, Target::Node);
            match publish(parts, &target, id).await {
                Ok(()) => {
                    parts.store.mark_published(id).await?;
                    "published"
                }
                Err(error) => {
                    // It is due again in two seconds.
                    tracing::warn!(job.id = %id, error = %error, "the job could not be published; trying again");
                    "not_published"
                }
            }
        }
    };
    parts.metrics.attended.with_label_values(&[done]).inc();
    Ok(())
}

/// Wakes the target; a target whose worker has never been here gets its queue, which holds the wake-up.
async fn publish(parts: &Parts, target: &Target, id: JobId) -> Result<(), QueueError> {
    match parts.queue.wake(target, id).await {
        Err(QueueError::Unroutable { .. }) => {
            parts.queue.declare(target).await?;
            parts.queue.wake(target, id).await
        }
        done => done,
    }
}
