//! Firing: a schedule that is due becomes a run, in one step with its move to the next time. The run's name is the schedule
//! and the planned time, so that of many schedulers at once, and of one that dies and one that takes over, one begins it.

use super::{forget_run, put};
use crate::db::tx::Tx;
use crate::ops::{after, transact};
use crate::{Store, StoreError, keys};
use jiff::{SignedDuration, Timestamp};
use mothball_domain::id::ScheduleId;
use mothball_domain::schedule::run::{Run, RunOutcome};
use mothball_domain::schedule::turn::{MISSED_COUNTED_MAX, Turn};
use mothball_domain::schedule::{RUNS_KEPT_MAX, Schedule};
use std::time::Duration;

impl Store {
    /// Ids of schedules that are due, most overdue first. Idempotent.
    pub async fn schedules_due(&self, limit: usize) -> Result<Vec<ScheduleId>, StoreError> {
        let members = self.db.due(keys::SCHEDULES_DUE, limit).await?;
        Ok(members.into_iter().filter_map(|m| m.parse().ok()).collect())
    }

    /// Takes a schedule's turn: begins its run, or notes that it was skipped or missed. None when it is not due. Of many
    /// callers at once one gets the run. After an error it may have begun: it then is among [`Store::runs_due`].
    pub async fn take_turn(&self, id: ScheduleId) -> Result<Option<Run>, StoreError> {
        transact!(self, |tx| take_turn(tx, id).await)
    }

    /// Moves a schedule away from what is due by `wait`, whatever it is: one that cannot be read must not hold up the others.
    pub async fn defer_schedule(&self, id: ScheduleId, wait: Duration) -> Result<(), StoreError> {
        transact!(self, |tx| async {
            let now = tx.now().await?;
            tx.shift(keys::SCHEDULES_DUE, id.to_string(), after(now, wait).as_millisecond());
            Ok::<(), StoreError>(())
        }
        .await)
    }
}

async fn take_turn(tx: &mut Tx<'_>, id: ScheduleId) -> Result<Option<Run>, StoreError> {
    let Some(mut schedule) = tx.get::<Schedule>(&keys::schedule(id)).await? else {
        tx.remove(keys::SCHEDULES_DUE, id.to_string());
        return Ok(None);
    };
    let now = tx.now().await?;
    // It was planned like this when it became due, whatever moving on does to it.
    let plan = schedule.plan.clone();
    let Some(turn) = schedule.turn(now) else {
        put(tx, &schedule)?;
        return Ok(None);
    };
    let (planned_at, missed, whole, reason) = match turn {
        Turn::Run { planned_at, missed } => (planned_at, missed, None, None),
        Turn::Skipped { planned_at } => {
            (planned_at, 0, Some(RunOutcome::Skipped), Some("it was to be skipped".to_owned()))
        }
        Turn::Missed { planned_at, missed } => {
            (planned_at, missed, Some(RunOutcome::Missed), Some(missed_in_words(planned_at, missed)))
        }
    };
    let member = keys::run_member(planned_at);
    if tx.get::<Run>(&keys::run(id, &member)).await?.is_some() {
        // The clock was set back, or the same time was planned anew: it has had its run.
        put(tx, &schedule)?;
        return Ok(None);
    }
    let patience = SignedDuration::from_secs(plan.patience_s.into());
    let run = Run {
        schedule: id,
        planned_at,
        plan,
        fired_at: now,
        finished_at: whole.map(|_| now),
        waits_until: now.saturating_add(patience).unwrap_or(Timestamp::MAX),
        missed,
        whole,
        reason,
        targets: None,
    };
    schedule.runs_kept += 1;
    if schedule.runs_kept > RUNS_KEPT_MAX {
        for oldest in tx.scan(&keys::runs_of_schedule(id), 1).await? {
            forget_run(tx, id, &oldest);
        }
        schedule.runs_kept = RUNS_KEPT_MAX;
    }
    tx.add(keys::runs_of_schedule(id), &member, 0);
    tx.put(&keys::run(id, &member), &run)?;
    if whole.is_none() {
        tx.add(keys::RUNS_DUE, keys::run_due_member(id, planned_at), now.as_millisecond());
    }
    put(tx, &schedule)?;
    Ok(Some(run))
}

fn missed_in_words(last: Timestamp, missed: u32) -> String {
    let count = match missed {
        0 | 1 => return "no scheduler ran at its time".to_owned(),
        many if many > MISSED_COUNTED_MAX => format!("more than {MISSED_COUNTED_MAX}"),
        many => many.to_string(),
    };
    format!("no scheduler ran when {count} runs were due, the last of them at {last}")
}
