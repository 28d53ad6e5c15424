//! What a job's owner may do to it: stop it, or have it tried again.

use crate::db::tx::Tx;
use crate::ops::due::{self, illegal};
use crate::ops::refusal::{allowed, bound_to, quota};
use crate::ops::{after, placement, records, transact};
use crate::{Store, StoreError, keys};
use mothball_domain::container::ContainerState;
use mothball_domain::id::JobId;
use mothball_domain::image::Image;
use mothball_domain::job::{Checkpoint, Job, JobSpec};
use mothball_domain::state::{JobState, Transition};
use mothball_domain::undo::Leaving;
use std::time::Duration;

/// What came of a cancel.
#[derive(Debug, Clone, PartialEq)]
pub enum Cancelled {
    /// It is cancelled.
    Done(Box<Job>),
    /// Its worker is told, and will stop it and clean up.
    Requested(Box<Job>),
    /// It was over already.
    Over(Box<Job>),
    /// There is no such job.
    NoJob,
}

/// What came of a retry by a person.
#[derive(Debug, Clone, PartialEq)]
pub enum Retried {
    /// It is queued again, with all its attempts.
    Queued(Box<Job>),
    /// It has not failed.
    NotFailed(Box<Job>),
    /// Another unfinished job has its container or image.
    Busy(Box<Job>),
    /// What it was about does not allow it any more; a sentence.
    Impossible(String),
    /// There is no such job.
    NoJob,
}

impl Store {
    /// Stops a job: at once when no worker holds it, else by a flag that its holder sees with its next renewal.
    /// Idempotent.
    pub async fn cancel(&self, id: JobId) -> Result<Cancelled, StoreError> {
        let cancelled = transact!(self, |tx| cancel(tx, id).await);
        if let Ok(Cancelled::Done(job)) = &cancelled {
            self.count_finished(job);
        }
        cancelled
    }

    /// Queues a failed or cancelled job again, if its container, image and GPUs can be had anew. Idempotent: a job
    /// that is queued already answers [`Retried::NotFailed`].
    pub async fn retry(&self, id: JobId, alive_within: Duration) -> Result<Retried, StoreError> {
        transact!(self, |tx| retry(tx, id, alive_within).await)
    }
}

async fn cancel(tx: &mut Tx<'_>, id: JobId) -> Result<Cancelled, StoreError> {
    let Some(before) = records::job(tx, id).await? else { return Ok(Cancelled::NoJob) };
    let now = tx.now().await?;
    let mut job = before.clone();
    if job.state.is_final() {
        return Ok(Cancelled::Over(Box::new(job)));
    }
    let unheld = matches!(job.state, JobState::Queued | JobState::Retrying);
    if unheld && !due::needs_thaw(&job) {
        job.cancel_requested = true;
        due::cancel_now(tx, &mut job, now).await?;
        records::put_job(tx, Some(&before), &job, now)?;
        return Ok(Cancelled::Done(Box::new(job)));
    }
    if !job.cancel_requested {
        job.cancel_requested = true;
        job.note_event(now, "cancel_requested", "");
        if unheld {
            // Its node must thaw the container, and not only when the next attempt would be due.
            job.next_attempt_at = None;
            records::put_job(tx, Some(&before), &job, now)?;
        } else {
            // Only the flag: the due time stays the lease's end.
            tx.put(&keys::job(id), &job)?;
        }
    }
    Ok(Cancelled::Requested(Box::new(job)))
}

async fn retry(tx: &mut Tx<'_>, id: JobId, alive_within: Duration) -> Result<Retried, StoreError> {
    let Some(before) = records::job(tx, id).await? else { return Ok(Retried::NoJob) };
    let now = tx.now().await?;
    let mut job = before.clone();
    if !matches!(job.state, JobState::Failed | JobState::Cancelled) {
        return Ok(Retried::NotFailed(Box::new(job)));
    }
    if let Some(other) = image_holder(tx, &job).await? {
        return Ok(Retried::Busy(Box::new(other)));
    }
    if let Some(why) = image_refuses(tx, &job).await? {
        return Ok(Retried::Impossible(why));
    }
    job.cancel_requested = false;
    job.attempt = 0;
    job.published = 0;
    job.error = None;
    // What is on the node stays known; what was saved is saved anew, as the container is now.
    job.checkpoint = Checkpoint {
        created: job.checkpoint.created.clone(),
        frozen: job.checkpoint.frozen.clone(),
        ..Checkpoint::default()
    };
    if let Some(refused) = take_container(tx, &mut job, alive_within).await? {
        tx.discard();
        return Ok(refused);
    }
    if let Some(image) = job.spec.image() {
        tx.put(&keys::image_job(&job.project, image), &job.id)?;
    }
    illegal(job.apply(Transition::Retry, now, "retried", "by a person"))?;
    job.offered = job.waiting_for.is_none();
    let due = if job.offered { now } else { after(now, due::LOOK_AGAIN) };
    records::put_job(tx, Some(&before), &job, due)?;
    Ok(Retried::Queued(Box::new(job)))
}

async fn image_holder(tx: &mut Tx<'_>, job: &Job) -> Result<Option<Job>, StoreError> {
    let Some(image) = job.spec.image() else { return Ok(None) };
    let Some(holder) = tx.get::<JobId>(&keys::image_job(&job.project, image)).await? else { return Ok(None) };
    Ok(records::job(tx, holder).await?.filter(|other| !other.state.is_final()))
}

/// Why the image of a job does not allow it any more, in words.
async fn image_refuses(tx: &mut Tx<'_>, job: &Job) -> Result<Option<String>, StoreError> {
    if let JobSpec::DeleteImage { image, digest } | JobSpec::RestoreImage { image, digest } = &job.spec {
        let found: Option<Image> = tx.get(&keys::image(&job.project, image)).await?;
        return Ok(match found {
            Some(found) if found.digest == *digest => None,
            Some(_) => Some(format!("image {image} has been overwritten: make a new request instead")),
            None => Some(format!("image {image} is gone: nothing is left to do")),
        });
    }
    if let JobSpec::PurgeImage { image, digest } = &job.spec {
        let found: Option<Leaving> = tx.get(&keys::leaving(&job.project, &image.name, digest)).await?;
        let is_ours = found.is_some_and(|leaving| leaving.job == Some(job.id));
        return Ok((!is_ours)
            .then(|| "its content is gone, or somebody needs it, or another job removes it".to_owned()));
    }
    quota(tx, &job.project, &job.spec).await
}

/// Takes the container's uniqueness anew, and for a launch its place and GPUs.
async fn take_container(
    tx: &mut Tx<'_>,
    job: &mut Job,
    alive_within: Duration,
) -> Result<Option<Retried>, StoreError> {
    let Some(id) = job.container else { return Ok(None) };
    let impossible = |why: String| Ok(Some(Retried::Impossible(why)));
    let Some(before) = records::container(tx, id).await? else {
        return impossible(format!("container {id} is not known any more"));
    };
    if let Some(other) = before.job
        && let Some(other) = records::job(tx, other).await?.filter(|other| !other.state.is_final())
    {
        return Ok(Some(Retried::Busy(Box::new(other))));
    }
    let mut container = before.clone();
    let state = container.state;
    let allowed = match &job.spec {
        JobSpec::Launch => matches!(state, ContainerState::Error | ContainerState::Parked),
        spec => allowed(spec, state),
    };
    if !allowed {
        return impossible(format!("container {} is {state}: make a new request instead", container.name));
    }
    if container.protected && job.spec.removes_container() {
        return impossible(format!("container {} is protected: switch that off first", container.name));
    }
    container.job = Some(job.id);
    if job.spec == JobSpec::Launch {
        container.state = ContainerState::Initializing;
        container.reason = None;
        // It was given back what it was parked with when the wake failed.
        if state == ContainerState::Parked
            && let Some(flavor) = &job.flavor
        {
            super::submit::wake_as(&mut container, flavor);
        }
        if job.checkpoint.created.is_none() {
            placement::unplace(tx, job, &mut container).await?;
            placement::try_place(tx, job, &mut container, alive_within).await?;
        }
    } else {
        // It may have been parked and woken elsewhere since.
        job.node = bound_to(&container);
        let now = tx.now().await?;
        due::note_silent_node(tx, job, now, alive_within).await?;
    }
    records::put_container(tx, Some(&before), &container)?;
    Ok(None)
}
