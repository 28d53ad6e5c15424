//! What is due. Every unfinished job has exactly one due time: now (publish it), later (publish it again, or its
//! retry), or its lease's end. Retries, lost messages, crashed workers and crashed APIs are this one mechanism.

use crate::db::Order;
use crate::db::tx::Tx;
use crate::ops::{after, placement, records, transact};
use crate::{Store, StoreError, keys};
use jiff::Timestamp;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::id::JobId;
use mothball_domain::job::{Job, JobSpec};
use mothball_domain::name::NodeName;
use mothball_domain::node::Node;
use mothball_domain::retry;
use mothball_domain::state::{JobState, Transition};
use std::time::Duration;

/// When a launch that waits for room is looked at again, if nothing was released before.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// How soon a publication that was not confirmed is tried again.
const PUBLISH_RETRY: Duration = Duration::from_secs(2);

/// What the caller of [`Store::attend`] must know.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// How lately a node must have reported to count as alive.
    pub alive_within: Duration,
    /// After how long without its node a job is given up as `gone`.
    pub gone_after: Duration,
}

/// What must be done for a job that was due.
#[derive(Debug, Clone, PartialEq)]
pub enum Attend {
    /// Wake the worker of its node; any worker when there is none.
    Publish(Option<NodeName>),
    /// It was settled here: given up or cancelled.
    Settled(Box<Job>),
    /// Nothing now.
    Nothing,
}

impl Store {
    /// Ids of jobs that are due, most overdue first. Idempotent.
    pub async fn due(&self, limit: usize) -> Result<Vec<JobId>, StoreError> {
        let members = self.db.due(keys::DUE, limit).await?;
        Ok(members.into_iter().filter_map(|m| m.parse().ok()).collect())
    }

    /// Attends to one job that is due: rescues it from a dead worker, places it, gives it up, or has it published.
    /// Idempotent; two schedulers at once do no harm.
    pub async fn attend(&self, id: JobId, attention: Attention) -> Result<Attend, StoreError> {
        let attend = transact!(self, |tx| attend(tx, id, attention).await);
        if let Ok(Attend::Settled(job)) = &attend {
            self.count_finished(job);
        }
        attend
    }

    /// Moves a job's due time away by `wait`, whatever it is: one that cannot be read must not hold up the others.
    pub async fn defer(&self, id: JobId, wait: Duration) -> Result<(), StoreError> {
        transact!(self, |tx| async {
            let now = tx.now().await?;
            tx.shift(keys::DUE, id.to_string(), after(now, wait).as_millisecond());
            Ok::<(), StoreError>(())
        }
        .await)
    }

    /// Notes that a job was published, and when it is to be published again. Without effect when anything has happened
    /// to the job since it was given out. Idempotent enough: a second call only moves that time.
    pub async fn mark_published(&self, id: JobId) -> Result<(), StoreError> {
        transact!(self, |tx| mark_published(tx, id).await)
    }

    /// Ends the leases of `node`'s earlier worker runs at once, and has the jobs that wait for this node published
    /// again without the wait that spared its queue while it was away. The caller holds the node's lock, which
    /// proves that the earlier runs are dead. Returns the jobs that are due now. Idempotent.
    pub async fn rescue_node(&self, node: &NodeName, instance: &str) -> Result<Vec<JobId>, StoreError> {
        const BATCH: usize = 200;
        let index = keys::jobs_on_node(node);
        let (mut rescued, mut after) = (Vec::new(), None);
        loop {
            let members = self.db.scan(&index, after.as_deref(), Order::Ascending, BATCH).await?;
            for id in members.iter().filter_map(|m| m.parse::<JobId>().ok()) {
                let is_due: Result<bool, StoreError> =
                    transact!(self, |tx| rescue_left(tx, id, node, instance).await);
                if is_due? {
                    rescued.push(id);
                }
            }
            if members.len() < BATCH {
                return Ok(rescued);
            }
            after = members.into_iter().next_back();
        }
    }
}

async fn rescue_left(
    tx: &mut Tx<'_>,
    id: JobId,
    node: &NodeName,
    instance: &str,
) -> Result<bool, StoreError> {
    let Some(before) = records::job(tx, id).await?.filter(|job| !job.state.is_final()) else {
        return Ok(false);
    };
    let now = tx.now().await?;
    let mut job = before.clone();
    if job.state == JobState::Running {
        if !job.lease.as_ref().is_some_and(|l| l.node == *node && l.instance != instance) {
            return Ok(false);
        }
        rescue(tx, &mut job, now).await?;
    } else if job.next_attempt_at.is_some_and(|at| at > now) {
        return Ok(false);
    }
    job.published = 0;
    records::put_job(tx, Some(&before), &job, now)?;
    Ok(!job.state.is_final())
}

async fn attend(tx: &mut Tx<'_>, id: JobId, attention: Attention) -> Result<Attend, StoreError> {
    let found = records::job(tx, id).await?.filter(|job| !job.state.is_final());
    let now = tx.now().await?;
    let Some(before) = found else {
        tx.remove(keys::DUE, id.to_string());
        return Ok(Attend::Nothing);
    };
    let mut job = before.clone();
    if job.is_leased(now) {
        let until = job.lease.as_ref().map_or(now, |l| l.until);
        tx.add(keys::DUE, id.to_string(), until.as_millisecond());
        return Ok(Attend::Nothing);
    }
    if let Some(at) = job.next_attempt_at.filter(|at| *at > now) {
        tx.add(keys::DUE, id.to_string(), at.as_millisecond());
        return Ok(Attend::Nothing);
    }
    if job.state == JobState::Running {
        rescue(tx, &mut job, now).await?;
    }
    let standing = standing(tx, &job, now, attention.alive_within).await?;
    let node_alive = standing != Standing::Silent;
    if !job.state.is_final() && job.cancel_requested && (!needs_thaw(&job) || !node_alive) {
        cancel_now(tx, &mut job, now).await?;
    }
    if node_alive && job.node.is_some() {
        job.waiting_for = None;
    }
    if !job.state.is_final() && standing != Standing::Up && can_move(&job) {
        leave_node(tx, &mut job, now, standing).await?;
    } else if !job.state.is_final() && !node_alive {
        wait_for_node(tx, &mut job, now, attention).await?;
    }
    if !job.state.is_final() && job.spec == JobSpec::Launch && job.node.is_none() {
        place(tx, &mut job, now, attention).await?;
    }
    let settled = job.state.is_final();
    let waits = job.node.is_none() && job.waiting_for.is_some();
    // Shown again soon unless the caller says that it was published: a scheduler that dies here loses nothing.
    let due = after(now, if waits { LOOK_AGAIN } else { PUBLISH_RETRY });
    job.offered = !settled && !waits;
    if job == before {
        // One that goes on waiting is not written: others that wait have read it, and would have to decide anew.
        tx.add(keys::DUE, id.to_string(), due.as_millisecond());
    } else {
        records::put_job(tx, Some(&before), &job, due)?;
    }
    Ok(match (settled, waits) {
        (true, _) => Attend::Settled(Box::new(job)),
        (_, true) => Attend::Nothing,
        _ => Attend::Publish(job.node),
    })
}

/// Takes a job away from a holder whose lease has ended: another attempt, or the end.
pub(crate) async fn rescue(tx: &mut Tx<'_>, job: &mut Job, now: Timestamp) -> Result<(), StoreError> {
    let holder = job.lease.as_ref().map_or_else(String::new, |l| format!(" on node {}", l.node));
    let sentence = format!("the worker{holder} stopped without a word during {}", step_name(job));
    let failure = Failure::transient(FailureClass::Timeout, sentence.clone())
        .with_hint("Retry the job; if it happens again, ask the operator to look at the node's worker.");
    job.error = Some(failure.clone());
    // One that is to be stopped, and needs no more work for that, is cancelled by whoever looks at it next.
    if job.has_attempts_left() || (job.cancel_requested && !needs_thaw(job)) {
        illegal(job.apply(Transition::LeaseExpired, now, "lease_expired", sentence))?;
        job.next_attempt_at = None;
        return Ok(());
    }
    super::settle::fail(tx, job, now, failure).await
}

/// Ends a job that its owner wants stopped and that nobody holds.
pub(crate) async fn cancel_now(tx: &mut Tx<'_>, job: &mut Job, now: Timestamp) -> Result<(), StoreError> {
    illegal(job.apply(Transition::Cancel, now, "cancelled", ""))?;
    super::settle::let_go(tx, job, now, "its launch was cancelled").await
}

/// Whether a worker must still thaw a container before the job may end.
pub(crate) fn needs_thaw(job: &Job) -> bool {
    job.checkpoint.frozen.is_some()
}

fn step_name(job: &Job) -> &'static str {
    job.step.map_or("its first step", |step| step.as_str())
}

/// Where the node of a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It works; or the job has no node.
    Up,
    /// It reports, and is to take nothing new.
    Drained,
    /// It does not report.
    Silent,
}

async fn standing(
    tx: &mut Tx<'_>,
    job: &Job,
    now: Timestamp,
    alive_within: Duration,
) -> Result<Standing, StoreError> {
    let Some(name) = &job.node else { return Ok(Standing::Up) };
    let node: Option<Node> = tx.get(&keys::node(name)).await?;
    Ok(match node {
        Some(node) if placement::is_alive(&node, now, alive_within) => {
            if node.drained {
                Standing::Drained
            } else {
                Standing::Up
            }
        }
        _ => Standing::Silent,
    })
}

/// Whether another node can do the job: a launch that nobody holds and that has made nothing yet.
pub(crate) fn can_move(job: &Job) -> bool {
    job.spec == JobSpec::Launch && job.state != JobState::Running && job.checkpoint.created.is_none()
}

/// Takes a launch that can move away from its node; the next look places it.
pub(crate) async fn leave_node(
    tx: &mut Tx<'_>,
    job: &mut Job,
    now: Timestamp,
    standing: Standing,
) -> Result<(), StoreError> {
    let Some(name) = job.node.clone() else { return Ok(()) };
    if let Some(id) = job.container
        && let Some(before) = records::container(tx, id).await?
    {
        let mut container = before.clone();
        placement::unplace(tx, job, &mut container).await?;
        records::put_container(tx, Some(&before), &container)?;
    }
    let why = if standing == Standing::Drained { "is drained" } else { "does not report" };
    job.note_event(now, "replaced", format!("node {name} {why}"));
    (job.node, job.offered) = (None, false);
    Ok(())
}

/// A job that only its silent node can do: it waits, up to a limit.
async fn wait_for_node(
    tx: &mut Tx<'_>,
    job: &mut Job,
    now: Timestamp,
    attention: Attention,
) -> Result<(), StoreError> {
    let Some(name) = job.node.clone() else { return Ok(()) };
    let last_word = tx.get::<Node>(&keys::node(&name)).await?.map_or(job.created_at, |n| n.heartbeat_at);
    let silent_ms = now.as_millisecond() - last_word.max(job.created_at).as_millisecond();
    if silent_ms > attention.gone_after.as_millis() as i64 {
        let failure =
            Failure::permanent(FailureClass::Gone, format!("node {name} has not reported for too long"))
                .with_hint("Ask the operator about the node; when it is back, retry the job.");
        return super::settle::fail(tx, job, now, failure).await;
    }
    job.waiting_for = Some(silent(&name));
    Ok(())
}

fn silent(node: &NodeName) -> String {
    format!("node {node}, which does not report")
}

/// Says in a job that it waits for its node, where that does not report.
pub(crate) async fn note_silent_node(
    tx: &mut Tx<'_>,
    job: &mut Job,
    now: Timestamp,
    alive_within: Duration,
) -> Result<(), StoreError> {
    if standing(tx, job, now, alive_within).await? == Standing::Silent {
        job.waiting_for = job.node.as_ref().map(silent);
    }
    Ok(())
}

async fn place(
    tx: &mut Tx<'_>,
    job: &mut Job,
    now: Timestamp,
    attention: Attention,
) -> Result<(), StoreError> {
    let Some(id) = job.container else { return Ok(()) };
    let Some(before) = records::container(tx, id).await? else {
        let failure = Failure::permanent(FailureClass::Gone, "the container's record is gone");
        return super::settle::fail(tx, job, now, failure).await;
    };
    let mut container = before.clone();
    if placement::try_place(tx, job, &mut container, attention.alive_within).await? {
        job.note_event(now, "placed", format!("on {}", job.node.as_ref().map_or("", NodeName::as_str)));
        records::put_container(tx, Some(&before), &container)?;
    }
    Ok(())
}

async fn mark_published(tx: &mut Tx<'_>, id: JobId) -> Result<(), StoreError> {
    // A note that comes late finds that the job was claimed meanwhile, or has even failed, and its retry must not wait.
    let Some(mut job) = records::job(tx, id).await?.filter(|job| job.offered) else { return Ok(()) };
    let now = tx.now().await?;
    let before = job.clone();
    job.published = job.published.saturating_add(1);
    let due = after(now, retry::publish_again(job.published));
    records::put_job(tx, Some(&before), &job, due)
}

/// A transition that the code above has already made sure of.
pub(crate) fn illegal(
    applied: Result<(), mothball_domain::state::IllegalTransition>,
) -> Result<(), StoreError> {
    applied.map_err(|e| StoreError::Corrupt(e.to_string()))
}
