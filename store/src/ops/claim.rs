//! Holding a job: claim, renew, checkpoint. What the holder writes carries its fence.

use crate::db::tx::Tx;
use crate::ops::{after, records, transact};
use crate::{Store, StoreError};
use mothball_domain::container::ContainerState;
use mothball_domain::id::{Fence, JobId};
use mothball_domain::job::{Checkpoint, Job, JobSpec, Lease, Progress, Step};
use mothball_domain::name::NodeName;
use mothball_domain::state::{JobState, Transition};
use std::time::Duration;

/// What came of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// The caller holds the job until its lease ends.
    Claimed(Box<Job>),
    /// Somebody else holds it.
    Held,
    /// Its retry is not due yet, or it waits for room: it will be published again.
    NotDue,
    /// It belongs to another node.
    Elsewhere,
    /// It is over, or there is no such job.
    Over,
}

/// What a holder is told when it renews or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The caller still holds the job.
    Held {
        /// Whether the job's owner wants it stopped.
        cancel: bool,
    },
    /// The caller holds it no more, and must stop without a further effect.
    Lost,
}

/// What a holder writes down between steps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpointed {
    /// The step that begins.
    pub step: Option<Step>,
    /// What a retry needs.
    pub checkpoint: Checkpoint,
    /// What the job's owner should know; those already noted are not repeated.
    pub notes: Vec<String>,
}

/// Most notes of one job.
const NOTES_MAX: usize = 50;

impl Store {
    /// Takes the lease of a job for the worker run `instance` on `node`. Of many at once one gets it. A job whose
    /// lease has ended is taken over, which costs its last holder's attempt. After an error the claim may
    /// stand: its lease then ends by itself.
    pub async fn claim(
        &self,
        id: JobId,
        node: &NodeName,
        instance: &str,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        let claim = transact!(self, |tx| claim(tx, id, node, instance, lease).await);
        if let Ok(Claim::Claimed(job)) = &claim {
            self.count_claimed(job);
        }
        claim
    }

    /// Extends the lease, writes progress, and brings back whether the job is to be stopped. Idempotent.
    pub async fn renew(
        &self,
        id: JobId,
        fence: Fence,
        lease: Duration,
        progress: Option<Progress>,
    ) -> Result<Renewal, StoreError> {
        transact!(self, |tx| renew(tx, id, fence, lease, progress).await)
    }

    /// Writes a checkpoint. Idempotent. The lease is not extended.
    pub async fn checkpoint(
        &self,
        id: JobId,
        fence: Fence,
        written: &Checkpointed,
    ) -> Result<Renewal, StoreError> {
        transact!(self, |tx| checkpoint(tx, id, fence, written).await)
    }
}

/// The job, if `fence` holds it. A lease that has ended but that nobody has taken over still counts: the fence is
/// what guards, the lease only says when others may take over.
pub(crate) async fn held(tx: &mut Tx<'_>, id: JobId, fence: Fence) -> Result<Option<Job>, StoreError> {
    Ok(records::job(tx, id).await?.filter(|job| job.state == JobState::Running && job.fence == fence))
}

async fn claim(
    tx: &mut Tx<'_>,
    id: JobId,
    node: &NodeName,
    instance: &str,
    lease: Duration,
) -> Result<Claim, StoreError> {
    let Some(before) = records::job(tx, id).await? else { return Ok(Claim::Over) };
    let now = tx.now().await?;
    let mut job = before.clone();
    if job.state.is_final() {
        return Ok(Claim::Over);
    }
    if job.is_leased(now) {
        return Ok(Claim::Held);
    }
    if job.node.as_ref().is_some_and(|wanted| wanted != node) {
        return Ok(Claim::Elsewhere);
    }
    let waits_for_room = job.spec == JobSpec::Launch && job.node.is_none();
    if waits_for_room || job.next_attempt_at.is_some_and(|at| at > now) {
        return Ok(Claim::NotDue);
    }
    if job.state == JobState::Running {
        // Its holder is dead or asleep. The same rule as the scheduler's decides whether it gets another attempt.
        super::due::rescue(tx, &mut job, now).await?;
        if job.state.is_final() {
            records::put_job(tx, Some(&before), &job, now)?;
            return Ok(Claim::Over);
        }
    }
    if job.cancel_requested && !super::due::needs_thaw(&job) {
        super::due::cancel_now(tx, &mut job, now).await?;
        records::put_job(tx, Some(&before), &job, now)?;
        return Ok(Claim::Over);
    }
    let event = format!("by {node}, attempt {}", job.attempt + 1);
    if job.apply(Transition::Claim, now, "claimed", event).is_err() {
        return Ok(Claim::Over);
    }
    let until = after(now, lease);
    job.attempt += 1;
    job.fence = job.fence.next();
    job.started_at.get_or_insert(now);
    job.published = 0;
    job.progress = None;
    job.waiting_for = None;
    job.lease = Some(Lease { node: node.clone(), instance: instance.to_owned(), until });
    if job.spec == JobSpec::Delete
        && let Some(id) = job.container
        && let Some(was) = records::container(tx, id).await?
        && was.state.exists()
    {
        let mut container = was.clone();
        container.state = ContainerState::Deleting;
        records::put_container(tx, Some(&was), &container)?;
    }
    records::put_job(tx, Some(&before), &job, until)?;
    Ok(Claim::Claimed(Box::new(job)))
}

async fn renew(
    tx: &mut Tx<'_>,
    id: JobId,
    fence: Fence,
    lease: Duration,
    progress: Option<Progress>,
) -> Result<Renewal, StoreError> {
    let Some(before) = held(tx, id, fence).await? else { return Ok(Renewal::Lost) };
    let mut job = before.clone();
    let until = after(tx.now().await?, lease);
    if let Some(lease) = &mut job.lease {
        lease.until = until;
    }
    job.progress = progress.or(job.progress);
    records::put_job(tx, Some(&before), &job, until)?;
    Ok(Renewal::Held { cancel: job.cancel_requested })
}

async fn checkpoint(
    tx: &mut Tx<'_>,
    id: JobId,
    fence: Fence,
    written: &Checkpointed,
) -> Result<Renewal, StoreError> {
    let Some(mut job) = held(tx, id, fence).await? else { return Ok(Renewal::Lost) };
    let now = tx.now().await?;
    if let Some(step) = written.step.filter(|step| job.step != Some(*step)) {
        job.step = Some(step);
        job.progress = None;
        job.note_event(now, "step", step.as_str());
    }
    let removed_before = job.checkpoint.removed_at;
    job.checkpoint = written.checkpoint.clone();
    // The bill ends by the store's clock, whatever the node's clock says.
    job.checkpoint.removed_at = job.checkpoint.removed_at.map(|_| removed_before.unwrap_or(now));
    note(&mut job, &written.notes);
    tx.put(&crate::keys::job(id), &job)?;
    Ok(Renewal::Held { cancel: job.cancel_requested })
}

pub(crate) fn note(job: &mut Job, notes: &[String]) {
    for note in notes {
        if !job.notes.contains(note) && job.notes.len() < NOTES_MAX {
            job.notes.push(note.clone());
        }
    }
}
