//! Firing schedules. What is due becomes a run in the store; then, here or in any other scheduler, the run is attended to,
//! container by container. Each step may be asked for twice.

use crate::Parts;
use crate::attend::{UNREADABLE_AGAIN, attend};
use crate::once::Round;
use crate::rounds::Rounds;
use futures_util::future::join_all;
use jiff::Timestamp;
use mothball_domain::id::{JobId, ScheduleId};
use mothball_domain::job::Job;
use mothball_domain::schedule::run::{Run, RunOutcome};
use mothball_store::{RunStep, StoreError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Schedules fired, and runs attended to, in one round.
const BATCH: usize = 200;
/// Of them at the same time: one that is about many containers must not hold up the others.
const PARALLEL: usize = 16;

pub(crate) async fn run(parts: &Parts, shutdown: &CancellationToken) {
    let mut rounds = Rounds::new(parts, "schedules that are due", shutdown);
    while rounds.next().await {
        let done = Round::Schedules.go(parts, shutdown).await;
        rounds.ended(done).await;
    }
}

pub(crate) async fn round(parts: &Parts, shutdown: &CancellationToken) -> Result<(), StoreError> {
    for batch in parts.store.schedules_due(BATCH).await?.chunks(PARALLEL) {
        if shutdown.is_cancelled() {
            return Ok(());
        }
        let fired = join_all(batch.iter().map(|id| fire(parts, *id))).await;
        fired.into_iter().collect::<Result<(), StoreError>>()?;
    }
    for batch in parts.store.runs_due(BATCH).await?.chunks(PARALLEL) {
        if shutdown.is_cancelled() {
            return Ok(());
        }
        let attended =
            join_all(batch.iter().map(|(id, planned_at)| attend_run(parts, *id, *planned_at))).await;
        attended.into_iter().collect::<Result<(), StoreError>>()?;
    }
    Ok(())
}

async fn fire(parts: &Parts, id: ScheduleId) -> Result<(), StoreError> {
    match parts.store.take_turn(id).await {
        Ok(None) => Ok(()),
        Ok(Some(run)) => {
            fired(parts, &run);
            Ok(())
        }
        Err(StoreError::Corrupt(what)) => {
            tracing::error!(schedule.id = %id, error = what, "a schedule that is due cannot be read; looking at it again later");
            parts.store.defer_schedule(id, UNREADABLE_AGAIN).await
        }
        Err(StoreError::Contended(times)) => {
            tracing::warn!(schedule.id = %id, times, "a schedule that is due changes all the time; trying again");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn fired(parts: &Parts, run: &Run) {
    let action = run.plan.action;
    let Some(outcome) = run.whole else {
        tracing::info!(schedule.id = %run.schedule, planned_at = %run.planned_at, %action, "a schedule fires");
        return;
    };
    tracing::info!(schedule.id = %run.schedule, planned_at = %run.planned_at, %action, %outcome, "a schedule does not fire");
    parts.metrics.runs.with_label_values(&[outcome.as_str()]).inc();
}

/// Does what a run must do; one that cannot be read, or that changes all the time, must not stop the others.
async fn attend_run(parts: &Parts, id: ScheduleId, planned_at: Timestamp) -> Result<(), StoreError> {
    match targets(parts, id, planned_at).await {
        Err(StoreError::Contended(times)) => {
            tracing::warn!(schedule.id = %id, times, "a run changes all the time; trying again");
            Ok(())
        }
        Err(StoreError::Corrupt(what)) => {
            tracing::error!(schedule.id = %id, error = what, "a run of a schedule cannot be read; looking at it again later");
            parts.store.defer_run(id, planned_at, UNREADABLE_AGAIN).await
        }
        done => done,
    }
}

async fn targets(parts: &Parts, id: ScheduleId, planned_at: Timestamp) -> Result<(), StoreError> {
    let attention = parts.settings.run_attention();
    for container in parts.store.open_run(id, planned_at).await? {
        let job = JobId(Uuid::now_v7());
        let step = parts.store.run_target(id, planned_at, container, job, &attention).await?;
        if let RunStep::Started(job) = step {
            started(parts, id, &job).await?;
        }
    }
    if let Some(outcome) = parts.store.close_run(id, planned_at).await?.filter(|o| *o != RunOutcome::Waiting)
    {
        parts.metrics.runs.with_label_values(&[outcome.as_str()]).inc();
    }
    Ok(())
}

/// A job that was started is due, and so would be published with the next round: this is only haste, and the audit trail.
async fn started(parts: &Parts, id: ScheduleId, job: &Job) -> Result<(), StoreError> {
    let container = job.container.map_or_else(String::new, |c| format!("container {c}"));
    let detail = format!("{} job {}, by schedule {id}", job.kind(), job.id);
    let noted =
        parts.store.audit(Uuid::now_v7(), &job.user, Some(&job.project), "schedule.run", &container, &detail);
    if let Err(error) = noted.await {
        tracing::error!(job.id = %job.id, schedule.id = %id, error = %error, "not in the audit trail");
    }
    attend(parts, job.id).await
}
