//! Schedules: making, reading and changing them; `turn` fires them, `run` does what a run must do.

pub(crate) mod run;
pub(crate) mod turn;

use crate::db::Order;
use crate::db::tx::Tx;
use crate::ops::submit::{IDEMPOTENCY_TTL, Idempotency};
use crate::ops::transact;
use crate::{Page, Store, StoreError, keys};
use jiff::Timestamp;
use mothball_domain::id::{ContainerId, ScheduleId};
use mothball_domain::name::{ProjectName, UserName};
use mothball_domain::schedule::run::Run;
use mothball_domain::schedule::turn::NoSuchTurn;
use mothball_domain::schedule::{
    Plan, PlanChange, RUNS_KEPT_MAX, SCHEDULES_MAX, Schedule, ScheduleAction, ScheduleTarget,
};
use serde::{Deserialize, Serialize};

/// A schedule to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleDraft {
    /// A fresh UUIDv7.
    pub id: ScheduleId,
    /// The project whose containers it is about.
    pub project: ProjectName,
    /// Who makes it.
    pub user: UserName,
    /// What is done, to what, and when.
    pub plan: Plan,
    /// Whether it fires from now on.
    pub enabled: bool,
    /// The caller's own name for the request.
    pub idempotency: Option<Idempotency>,
}

/// What came of making one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleMade {
    /// It is there.
    Made(Box<Schedule>),
    /// The project has as many as it may have: this many.
    TooMany(usize),
    /// The idempotency key came before with another body, and made this one.
    IdempotencyConflict(ScheduleId),
}

/// What an idempotency key made.
#[derive(Serialize, Deserialize)]
struct Remembered {
    schedule: ScheduleId,
    body_sha256: String,
}

/// What its maker may change; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduleChange {
    /// What is done, to what, and when.
    pub plan: PlanChange,
    /// Whether it fires.
    pub enabled: Option<bool>,
}

/// Which schedules a list shows: oldest first.
#[derive(Debug, Clone, Default)]
pub struct ScheduleQuery {
    /// Only of this project.
    pub project: Option<ProjectName>,
    /// Only of this maker.
    pub user: Option<UserName>,
    /// Only those that name this container.
    pub container: Option<ContainerId>,
    /// Only those that do this.
    pub action: Option<ScheduleAction>,
    /// After this one, from the last page's `next`.
    pub cursor: Option<ScheduleId>,
    /// How many at most.
    pub limit: usize,
}

/// Schedules read from the store in one step.
const BATCH: usize = 200;

impl Store {
    /// Makes a schedule. Idempotent by its id and by its idempotency key. A project has a bounded number of them.
    pub async fn create_schedule(&self, draft: &ScheduleDraft) -> Result<ScheduleMade, StoreError> {
        transact!(self, |tx| create(tx, draft).await)
    }

    /// One schedule.
    pub async fn schedule(&self, id: ScheduleId) -> Result<Option<Schedule>, StoreError> {
        Tx::new(&self.db).get(&keys::schedule(id)).await
    }

    /// A page of schedules.
    pub async fn schedules(&self, query: &ScheduleQuery) -> Result<Page<Schedule>, StoreError> {
        let index =
            query.project.as_ref().map_or_else(|| keys::SCHEDULES.to_owned(), keys::schedules_of_project);
        let matches = |s: &Schedule| {
            query.user.as_ref().is_none_or(|u| s.user == *u)
                && query.action.is_none_or(|a| s.plan.action == a)
                && query.container.is_none_or(|c| s.plan.target == ScheduleTarget::Container(c))
        };
        let mut after = query.cursor.map(|id| id.to_string());
        let mut items = Vec::new();
        loop {
            let members = self.db.scan(&index, after.as_deref(), Order::Ascending, BATCH).await?;
            let ids = members.iter().filter_map(|m| m.parse().ok());
            let schedule_keys: Vec<String> = ids.map(keys::schedule).collect();
            for schedule in Tx::new(&self.db).get_many::<Schedule>(&schedule_keys).await? {
                if matches(&schedule) {
                    if items.len() >= query.limit {
                        let next = items.last().map(|s: &Schedule| s.id.to_string());
                        return Ok(Page { items, next });
                    }
                    items.push(schedule);
                }
            }
            if members.len() < BATCH {
                return Ok(Page { items, next: None });
            }
            after = members.into_iter().next_back();
        }
    }

    /// Changes a schedule; its next run moves at once. None when there is no such schedule. Idempotent.
    pub async fn change_schedule(
        &self,
        id: ScheduleId,
        change: &ScheduleChange,
    ) -> Result<Option<Schedule>, StoreError> {
        transact!(self, |tx| edit(tx, id, |schedule, now| {
            schedule.replan(schedule.plan.with(&change.plan), now);
            if let Some(enabled) = change.enabled {
                schedule.enable(enabled, now);
            }
            Ok(())
        })
        .await)
        .map(Result::unwrap_or_default)
    }

    /// Leaves the next run out, or no longer. None when there is no such schedule. Idempotent until that run's time.
    pub async fn skip_run(
        &self,
        id: ScheduleId,
        skip: bool,
    ) -> Result<Result<Option<Schedule>, NoSuchTurn>, StoreError> {
        transact!(self, |tx| edit(tx, id, |schedule, _| schedule.skip(skip)).await)
    }

    /// Moves the next run, once, to a later time; none ends that. None when there is no such schedule. Idempotent until
    /// that run's time.
    pub async fn postpone_run(
        &self,
        id: ScheduleId,
        until: Option<Timestamp>,
    ) -> Result<Result<Option<Schedule>, NoSuchTurn>, StoreError> {
        transact!(self, |tx| edit(tx, id, |schedule, _| schedule.postpone(until)).await)
    }

    /// Takes a schedule away, with what is kept of its runs; their jobs stay. False when there is none. Idempotent.
    pub async fn remove_schedule(&self, id: ScheduleId) -> Result<bool, StoreError> {
        transact!(self, |tx| remove(tx, id).await)
    }

    /// A page of a schedule's runs, newest first. The cursor is the planned time of the last one, as `next` gives it.
    pub async fn schedule_runs(
        &self,
        id: ScheduleId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Run>, StoreError> {
        let (members, next) =
            self.leaf(&keys::runs_of_schedule(id), cursor, Order::Descending, limit).await?;
        let run_keys: Vec<String> = members.iter().map(|m| keys::run(id, m)).collect();
        Ok(Page { items: Tx::new(&self.db).get_many(&run_keys).await?, next })
    }

    /// How many schedules there are, and how many of them have a time at which they fire next.
    pub async fn schedules_and_due(&self) -> Result<(u64, u64), StoreError> {
        let counts = self.db.count(&[keys::SCHEDULES.to_owned(), keys::SCHEDULES_DUE.to_owned()]).await?;
        Ok((counts.first().copied().unwrap_or(0), counts.get(1).copied().unwrap_or(0)))
    }
}

async fn create(tx: &mut Tx<'_>, draft: &ScheduleDraft) -> Result<ScheduleMade, StoreError> {
    let made = keys::schedules_made(&draft.project);
    tx.load(&[keys::schedule(draft.id), made.clone()]).await?;
    if let Some(there) = tx.get(&keys::schedule(draft.id)).await? {
        return Ok(ScheduleMade::Made(Box::new(there)));
    }
    let key = draft.idempotency.as_ref().map(|i| keys::schedule_idempotency(&draft.user, &i.key));
    if let (Some(key), Some(asked)) = (&key, &draft.idempotency)
        && let Some(before) = tx.get::<Remembered>(key).await?
    {
        if before.body_sha256 != asked.body_sha256 {
            return Ok(ScheduleMade::IdempotencyConflict(before.schedule));
        }
        // One that was removed may be made anew.
        if let Some(there) = tx.get(&keys::schedule(before.schedule)).await? {
            return Ok(ScheduleMade::Made(Box::new(there)));
        }
    }
    let count: u64 = tx.get(&made).await?.unwrap_or(0);
    let there = tx.scan(&keys::schedules_of_project(&draft.project), SCHEDULES_MAX).await?.len();
    if there >= SCHEDULES_MAX {
        return Ok(ScheduleMade::TooMany(there));
    }
    tx.put(&made, &(count + 1))?;
    if let (Some(key), Some(asked)) = (&key, &draft.idempotency) {
        let remembered = Remembered { schedule: draft.id, body_sha256: asked.body_sha256.clone() };
        tx.put_for(key, &remembered, Some(IDEMPOTENCY_TTL))?;
    }
    let now = tx.now().await?;
    let (project, user) = (draft.project.clone(), draft.user.clone());
    let mut schedule = Schedule::new(draft.id, project, user, draft.plan.clone(), now);
    schedule.enable(draft.enabled, now);
    put(tx, &schedule)?;
    Ok(ScheduleMade::Made(Box::new(schedule)))
}

/// Writes a schedule with its index entries.
pub(super) fn put(tx: &mut Tx<'_>, schedule: &Schedule) -> Result<(), StoreError> {
    let member = schedule.id.to_string();
    tx.add(keys::SCHEDULES, &member, 0);
    tx.add(keys::schedules_of_project(&schedule.project), &member, 0);
    match schedule.next_at() {
        Some(at) => tx.add(keys::SCHEDULES_DUE, &member, at.as_millisecond()),
        None => tx.remove(keys::SCHEDULES_DUE, &member),
    }
    tx.put(&keys::schedule(schedule.id), schedule)
}

async fn edit(
    tx: &mut Tx<'_>,
    id: ScheduleId,
    change: impl FnOnce(&mut Schedule, Timestamp) -> Result<(), NoSuchTurn>,
) -> Result<Result<Option<Schedule>, NoSuchTurn>, StoreError> {
    let Some(mut schedule) = tx.get::<Schedule>(&keys::schedule(id)).await? else { return Ok(Ok(None)) };
    let now = tx.now().await?;
    if let Err(refused) = change(&mut schedule, now) {
        return Ok(Err(refused));
    }
    schedule.updated_at = now;
    put(tx, &schedule)?;
    Ok(Ok(Some(schedule)))
}

async fn remove(tx: &mut Tx<'_>, id: ScheduleId) -> Result<bool, StoreError> {
    let Some(schedule) = tx.get::<Schedule>(&keys::schedule(id)).await? else { return Ok(false) };
    let member = id.to_string();
    for index in [
        keys::SCHEDULES.to_owned(),
        keys::SCHEDULES_DUE.to_owned(),
        keys::schedules_of_project(&schedule.project),
    ] {
        tx.remove(index, &member);
    }
    // A run begins by writing the schedule, so none is added behind this scan's back.
    for run in tx.scan(&keys::runs_of_schedule(id), RUNS_KEPT_MAX as usize + 1).await? {
        forget_run(tx, id, &run);
    }
    tx.delete(&keys::schedule(id));
    Ok(true)
}

/// Takes a run's record and index entries away.
pub(super) fn forget_run(tx: &mut Tx<'_>, id: ScheduleId, member: &str) {
    tx.remove(keys::runs_of_schedule(id), member);
    tx.remove(keys::RUNS_DUE, format!("{id} {member}"));
    tx.delete(&keys::run(id, member));
}
