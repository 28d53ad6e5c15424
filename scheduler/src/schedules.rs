//! Firing schedules. What is due becomes a run in the store; then, here or in any other scheduler, the run is attended to,
//! container by container. Each step may be asked for twice.

use crate::Parts;
use crate::attend::{UNREADABLE_AGAIN, attend};
use crate::rounds::Rounds;
use jiff::Timestamp;
use mothball_domain::id::{JobId, ScheduleId};
use mothball_domain::job::Job;
use mothball_domain::schedule::run::Run;
use mothball_store::{RunStep, StoreError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Schedules fired, and runs attended to, in one round.
const BATCH: usize = 200;

pub(crate) async fn run(parts: &Parts, shutdown: &CancellationToken) {
    let mut rounds = Rounds::new(parts, "schedules", shutdown);
    while rounds.next().await {
        let done = round(parts, shutdown).await;
        rounds.ended(done).await;
    }
}

async fn round(parts: &Parts, shutdown: &CancellationToken) -> Result<(), StoreError> {
    for id in parts.store.schedules_due(BATCH).await? {
        if shutdown.is_cancelled() {
            return Ok(());
        }
        fire(parts, id).await?;
    }
    for (id, planned_at) in parts.store.runs_due(BATCH).await? {
        if shutdown.is_cancelled() {
            return Ok(());
        }
        match attend_run(parts, id, planned_at).await {
            // It is still due with the next round, and must not stop the others.
            Err(StoreError::Contended(times)) => {
                tracing::warn!(schedule.id = %id, times, "a run changes all the time; trying again");
            }
            Err(StoreError::Corrupt(what)) => {
                tracing::error!(schedule.id = %id, error = what, "a run of a schedule cannot be read");
            }
            other => other?,
        }
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

async fn attend_run(parts: &Parts, id: ScheduleId, planned_at: Timestamp) -> Result<(), StoreError> {
    let attention = parts.settings.run_attention();
    for container in parts.store.open_run(id, planned_at).await? {
        let job = JobId(Uuid::now_v7());
        if let RunStep::Started(job) =
            parts.store.run_target(id, planned_at, container, job, &attention).await?
        {
            started(parts, id, &job).await?;
        }
    }
    if let Some(outcome) = parts.store.close_run(id, planned_at).await? {
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
