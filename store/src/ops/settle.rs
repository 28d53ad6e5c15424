//! Ending an attempt: the job, its container, the image's use and the bill, in one step.

use crate::db::tx::Tx;
use crate::ops::claim::held;
use crate::ops::due::illegal;
use crate::ops::{after, notices, purge, records, transact, undo};
use crate::{Store, StoreError, keys};
use jiff::Timestamp;
use mothball_domain::billing::Stored;
use mothball_domain::container::{Container, ContainerState, Port, Source};
use mothball_domain::failure::Failure;
use mothball_domain::id::{Fence, JobId};
use mothball_domain::image::Image;
use mothball_domain::job::{Job, JobSpec, Then};
use mothball_domain::state::{JobState, Transition};
use mothball_domain::undo::Gone;
use rust_decimal::Decimal;
use std::time::Duration;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Every step held.
    Succeeded(Effect),
    /// A step failed.
    Failed {
        /// Why.
        failure: Failure,
        /// The wait before the next attempt, if there is one.
        retry_after: Duration,
    },
    /// The worker is shutting down: the attempt does not count.
    Interrupted,
    /// The job's owner wanted it stopped, and everything is cleaned up.
    Cancelled,
}

/// What success did to the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// It was launched, or started again.
    Running {
        /// Its Docker id.
        docker_id: String,
        /// Where its ports can be reached.
        ports: Vec<Port>,
    },
    /// It was stopped.
    Stopped,
    /// It is gone from its node.
    Removed,
    /// The image is out of every list, and can be restored for so long; where that is no time at all, its content is gone
    /// from the registry unless something needs it.
    ImageRemoved {
        /// How long.
        undo: Duration,
    },
    /// The content that was to be purged is gone from the registry.
    ContentRemoved,
}

/// What came of settling.
#[derive(Debug, Clone, PartialEq)]
pub enum Settled {
    /// The job as it stands now.
    Done(Box<Job>),
    /// The caller does not hold the job any more: nothing was written.
    Lost,
}

impl Store {
    /// Ends the attempt that `fence` holds. Atomic. Repeated after an error it answers `Lost` when the first time
    /// had worked.
    pub async fn settle(&self, id: JobId, fence: Fence, outcome: &Outcome) -> Result<Settled, StoreError> {
        let settled = transact!(self, |tx| settle(tx, id, fence, outcome).await);
        if let Ok(Settled::Done(job)) = &settled {
            self.count_attempt(job, outcome);
        }
        settled
    }
}

async fn settle(tx: &mut Tx<'_>, id: JobId, fence: Fence, outcome: &Outcome) -> Result<Settled, StoreError> {
    let Some(before) = held(tx, id, fence).await? else { return Ok(Settled::Lost) };
    let now = tx.now().await?;
    let mut job = before.clone();
    let mut due = now;
    match outcome {
        Outcome::Succeeded(effect) => succeed(tx, &mut job, now, effect).await?,
        Outcome::Failed { failure, retry_after } => {
            if failure.is_permanent() || !job.has_attempts_left() {
                fail(tx, &mut job, now, failure.clone()).await?;
            } else {
                job.error = Some(failure.clone());
                illegal(job.apply(Transition::FailTransient, now, "attempt_failed", &failure.message))?;
                // One that is to be stopped is not kept waiting.
                if !job.cancel_requested {
                    due = after(now, *retry_after);
                    job.next_attempt_at = Some(due);
                }
            }
        }
        Outcome::Interrupted => {
            illegal(job.apply(Transition::Interrupt, now, "interrupted", "the worker is shutting down"))?;
            job.attempt = job.attempt.saturating_sub(1);
        }
        Outcome::Cancelled => {
            illegal(job.apply(Transition::Cancel, now, "cancelled", ""))?;
            let_go(tx, &mut job, now, "its launch was cancelled").await?;
        }
    }
    records::put_job(tx, Some(&before), &job, due)?;
    Ok(Settled::Done(Box::new(job)))
}

async fn succeed(tx: &mut Tx<'_>, job: &mut Job, now: Timestamp, effect: &Effect) -> Result<(), StoreError> {
    illegal(job.apply(Transition::Complete, now, "succeeded", ""))?;
    job.error = None;
    records::release_uniqueness(tx, job).await?;
    if let Effect::ImageRemoved { undo } = effect
        && let JobSpec::DeleteImage { image, digest } = &job.spec
        && let Some(image) = tx.get::<Image>(&keys::image(&job.project, image)).await?
        && image.digest == *digest
    {
        undo::delete(tx, image, Gone::Deleted, &job.user, *undo).await?;
    }
    purge::settled(tx, job, *effect != Effect::None).await?;
    let Some(before) = notices::container_of(tx, job).await? else {
        return notices::tell_success(tx, job, None, None).await;
    };
    let mut container = before.clone();
    container.job = None;
    match effect {
        Effect::None | Effect::ImageRemoved { .. } | Effect::ContentRemoved => {}
        Effect::Running { docker_id, ports } => {
            container.state = ContainerState::Ready;
            container.docker_id = Some(docker_id.clone());
            container.ports.clone_from(ports);
            container.reason = None;
            container.parked_image = None;
            container.parked_flavor = None;
            container.start_billing(now);
            if job.spec == JobSpec::Launch {
                image_was_used(tx, &before, now).await?;
            }
        }
        Effect::Stopped => container.state = ContainerState::Stopped,
        Effect::Removed => removed(tx, job, &mut container, now).await?,
    }
    notices::tell_success(tx, job, Some(&before), Some(&container)).await?;
    records::put_container(tx, Some(&before), &container)
}

/// The container is gone from its node: its bill ends, its place is free, and a park keeps it to be woken.
async fn removed(
    tx: &mut Tx<'_>,
    job: &Job,
    container: &mut Container,
    now: Timestamp,
) -> Result<(), StoreError> {
    let removed_at = job.checkpoint.removed_at.unwrap_or(now);
    container.stop_metering(removed_at);
    container.docker_id = None;
    container.ports.clear();
    if let JobSpec::Snapshot { then: Then::Park, image, .. } = &job.spec {
        container.parked_image = Some(image.clone());
        let mut stored = Stored { bytes: 0, price_per_gb_month: Decimal::ZERO };
        // What it wakes from: the digest that was proven in this very job, whatever becomes of the tag.
        if let Some(saved) = tx.get::<Image>(&keys::image(&job.project, image)).await? {
            stored = Stored { bytes: saved.size_bytes, price_per_gb_month: saved.storage_price };
            let Image { image, digest, reference, .. } = saved;
            container.launch.source = Source::Custom { image, digest, reference };
        }
        container.start_parking(removed_at, stored);
        container.state = ContainerState::Parked;
    } else {
        records::note_used(tx, container).await?;
        container.state = ContainerState::Deleted;
    }
    records::release_place(tx, container).await
}

async fn image_was_used(tx: &mut Tx<'_>, container: &Container, now: Timestamp) -> Result<(), StoreError> {
    let ((Some(image), _) | (None, Source::Custom { image, .. })) =
        (&container.parked_image, &container.launch.source)
    else {
        return Ok(());
    };
    let key = keys::image(&container.project, image);
    if let Some(mut image) = tx.get::<Image>(&key).await? {
        image.last_used_at = Some(now);
        tx.put(&key, &image)?;
    }
    Ok(())
}

/// Ends a job for good, with its reason.
pub(crate) async fn fail(
    tx: &mut Tx<'_>,
    job: &mut Job,
    now: Timestamp,
    failure: Failure,
) -> Result<(), StoreError> {
    illegal(job.apply(Transition::FailPermanent, now, "failed", &failure.message))?;
    let reason = format!("its launch failed: {}", failure.message);
    job.error = Some(failure);
    let container = notices::container_of(tx, job).await?;
    notices::tell_end(tx, job, container.as_ref()).await?;
    let_go(tx, job, now, &reason).await
}

/// Lets go of all that an ended, unsuccessful job kept: the image reference, the container, and a launch's place.
pub(crate) async fn let_go(
    tx: &mut Tx<'_>,
    job: &mut Job,
    now: Timestamp,
    reason: &str,
) -> Result<(), StoreError> {
    job.waiting_for = None;
    records::release_uniqueness(tx, job).await?;
    let Some(id) = job.container else { return Ok(()) };
    let Some(before) = records::container(tx, id).await?.filter(|c| c.job == Some(job.id)) else {
        return Ok(());
    };
    let mut container = before.clone();
    container.job = None;
    match &job.spec {
        JobSpec::Launch => {
            container.reason = Some(reason.to_owned());
            container.docker_id.clone_from(&job.checkpoint.created);
            let cancelled = job.state == JobState::Cancelled;
            if container.docker_id.is_some() {
                // What was parked is on a node again, though it does not run.
                container.stop_metering(now);
            }
            container.state = match (&container.parked_image, &container.docker_id) {
                (Some(_), None) => ContainerState::Parked,
                (None, None) if cancelled => ContainerState::Deleted,
                _ => ContainerState::Error,
            };
            if container.state == ContainerState::Parked
                && let Some(flavor) = container.parked_flavor.take()
            {
                container.launch.flavor = flavor;
            }
            if container.docker_id.is_none() {
                records::release_place(tx, &mut container).await?;
            }
        }
        // The image is safe and the container gone, only the last word failed: the bill must not go on.
        _ if job.checkpoint.removed_at.is_some() => {
            removed(tx, job, &mut container, now).await?;
        }
        JobSpec::Delete if container.state == ContainerState::Deleting => {
            // The next heartbeat of its node says whether it runs. Only a lost one is not billed.
            container.state =
                if container.is_billed() { ContainerState::Ready } else { ContainerState::Lost };
        }
        _ => {}
    }
    records::put_container(tx, Some(&before), &container)
}
