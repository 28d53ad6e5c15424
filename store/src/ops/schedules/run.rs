//! Doing what a run must do: container by container, each in one step with the job that it starts, so that whoever dies in
//! between leaves neither a job without its line in the history nor a line without its job.

use super::put;
use crate::db::tx::Tx;
use crate::ops::submit::{Submission, Submitted, Target, submit, unfinished};
use crate::ops::{after, records, transact};
use crate::{ContainerQuery, Store, StoreError, keys};
use jiff::Timestamp;
use mothball_domain::container::Container;
use mothball_domain::flavor::Flavor;
use mothball_domain::id::{ContainerId, JobId, ScheduleId};
use mothball_domain::job::{Job, JobSpec};
use mothball_domain::people::{Action, Caller, Project, User};
use mothball_domain::schedule::decide::{Decision, decide};
use mothball_domain::schedule::run::{Run, RunOutcome, RunTarget};
use mothball_domain::schedule::{Schedule, ScheduleTarget, TARGETS_MAX};
use std::time::Duration;

/// How soon a run that waits for its turn is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// Why a schedule is switched off whose container will not come back.
const GONE: &str = "its container is deleted";

/// What whoever attends to runs must know.
#[derive(Debug, Clone, Default)]
pub struct RunAttention {
    /// Attempts that its jobs get.
    pub max_attempts: u32,
    /// How lately a node must have reported to be given a launch.
    pub alive_within: Duration,
    /// Sizes that are offered now.
    pub flavors: Vec<Flavor>,
    /// Images `name:tag` that no save may write: those of the catalogue.
    pub reserved: Vec<String>,
}

/// What was done for one container.
#[derive(Debug, Clone, PartialEq)]
pub enum RunStep {
    /// A job was started.
    Started(Box<Job>),
    /// Nothing was started; the run's record says why, or that it waits.
    Other(RunOutcome),
}

impl Store {
    /// Runs that the scheduler must look at, as the schedule and the planned time, longest due first. Idempotent.
    pub async fn runs_due(&self, limit: usize) -> Result<Vec<(ScheduleId, Timestamp)>, StoreError> {
        let members = self.db.due(keys::RUNS_DUE, limit).await?;
        let parse = |member: &String| {
            let (id, planned_ms) = member.split_once(' ')?;
            Some((id.parse().ok()?, Timestamp::from_millisecond(planned_ms.parse().ok()?).ok()?))
        };
        Ok(members.iter().filter_map(parse).collect())
    }

    /// The containers of a run for which something can be done now. The first call looks up which containers it is about;
    /// from then on they are the same ones, and those that still wait for the job in their way are left out. Idempotent.
    pub async fn open_run(
        &self,
        id: ScheduleId,
        planned_at: Timestamp,
    ) -> Result<Vec<ContainerId>, StoreError> {
        let key = keys::run(id, &keys::run_member(planned_at));
        let Some(run) = Tx::new(&self.db).get::<Run>(&key).await? else {
            // It was removed with its schedule.
            let gone = keys::run_due_member(id, planned_at);
            let cleared: Result<(), StoreError> = transact!(self, |tx| async {
                tx.remove(keys::RUNS_DUE, &gone);
                Ok::<(), StoreError>(())
            }
            .await);
            return cleared.map(|()| Vec::new());
        };
        let run = if run.targets.is_some() {
            run
        } else {
            let (found, left_out) = self.targets(id, &run).await?;
            transact!(self, |tx| settle_targets(tx, &key, &found, left_out).await)?
        };
        self.ready_targets(&run).await
    }

    /// Of the containers that wait those that have not been looked at, whose time is over, or that nothing is busy with any more:
    /// five hundred that wait cost a look three reads, not a thousand steps.
    async fn ready_targets(&self, run: &Run) -> Result<Vec<ContainerId>, StoreError> {
        let waiting = || run.targets.iter().flatten().filter(|t| t.outcome == RunOutcome::Waiting);
        let mut tx = Tx::new(&self.db);
        let container_keys: Vec<String> = waiting().map(|t| keys::container(t.container)).collect();
        let containers: Vec<Container> = tx.get_many(&container_keys).await?;
        let job_keys: Vec<String> = containers.iter().filter_map(|c| c.job).map(keys::job).collect();
        let jobs: Vec<Job> = tx.get_many(&job_keys).await?;
        let over = tx.now().await? >= run.waits_until;
        let is_busy = |id| {
            let unfinished = |job: &&Job| !job.state.is_final() && job.container == Some(id);
            jobs.iter().any(|job| unfinished(&job))
        };
        let ready = waiting().filter(|t| over || t.reason.is_none() || !is_busy(t.container));
        Ok(ready.map(|t| t.container).collect())
    }

    /// Does for one container what its run must do, in one step: starts `job` in the name of the schedule's maker, or writes
    /// down why not. Idempotent: a container that has had its turn is left alone, whoever asks.
    pub async fn run_target(
        &self,
        id: ScheduleId,
        planned_at: Timestamp,
        container: ContainerId,
        job: JobId,
        attention: &RunAttention,
    ) -> Result<RunStep, StoreError> {
        let step = transact!(self, |tx| run_target(tx, id, planned_at, container, job, attention).await);
        if let Ok(RunStep::Started(job)) = &step {
            self.count_submitted(job);
        }
        step
    }

    /// Ends a run of which nothing waits any more; one that waits is due again soon. None when it is gone or
    /// ended before, so that it is counted once. Idempotent.
    pub async fn close_run(
        &self,
        id: ScheduleId,
        planned_at: Timestamp,
    ) -> Result<Option<RunOutcome>, StoreError> {
        transact!(self, |tx| close_run(tx, id, planned_at).await)
    }

    /// Moves a run away from what is due by `wait`, whatever it is: one that cannot be read must not hold up the others.
    pub async fn defer_run(
        &self,
        id: ScheduleId,
        planned_at: Timestamp,
        wait: Duration,
    ) -> Result<(), StoreError> {
        transact!(self, |tx| async {
            let now = tx.now().await?;
            let due = keys::run_due_member(id, planned_at);
            tx.shift(keys::RUNS_DUE, due, after(now, wait).as_millisecond());
            Ok::<(), StoreError>(())
        }
        .await)
    }

    /// The containers that a run is about, and how many more there are than it attends to.
    async fn targets(&self, id: ScheduleId, run: &Run) -> Result<(Vec<Container>, usize), StoreError> {
        let chosen = |c: &Container| match &run.plan.target {
            ScheduleTarget::Labels(labels) => labels.choose(&c.labels),
            ScheduleTarget::Container(_) | ScheduleTarget::Project => true,
        };
        if let ScheduleTarget::Container(container) = run.plan.target {
            return Ok((self.container(container).await?.into_iter().collect(), 0));
        }
        let Some(schedule) = self.schedule(id).await? else { return Ok((Vec::new(), 0)) };
        let Some(caller) = self.maker(&schedule).await? else { return Ok((Vec::new(), 0)) };
        let all = ContainerQuery {
            project: Some(schedule.project),
            limit: usize::MAX,
            ..ContainerQuery::default()
        };
        let mut found: Vec<Container> = self.containers(&all).await?.items;
        // A member chooses among their own; what they may not change is none of their schedule's concern.
        found.retain(|c| chosen(c) && caller.may(&Action::ChangeOwnedBy(&c.user)));
        let left_out = found.len().saturating_sub(TARGETS_MAX);
        found.truncate(TARGETS_MAX);
        Ok((found, left_out))
    }
}

impl Store {
    /// A schedule's maker as they are now; none when they are disabled.
    async fn maker(&self, schedule: &Schedule) -> Result<Option<Caller>, StoreError> {
        let mut tx = Tx::new(&self.db);
        let project: Option<Project> = tx.get(&keys::project(&schedule.project)).await?;
        maker(&mut tx, schedule, project.as_ref()).await
    }
}

async fn maker(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    project: Option<&Project>,
) -> Result<Option<Caller>, StoreError> {
    let name = &schedule.user;
    let user = tx.get::<User>(&keys::user(name)).await?.filter(|user| !user.disabled);
    let role = project.and_then(|p| p.members.get(name).copied());
    Ok(user.map(|user| Caller { user: name.clone(), operator: user.operator, role }))
}

async fn settle_targets(
    tx: &mut Tx<'_>,
    key: &str,
    found: &[Container],
    left_out: usize,
) -> Result<Run, StoreError> {
    let Some(mut run) = tx.get::<Run>(key).await? else {
        return Err(StoreError::Corrupt(format!("{key}: it vanished")));
    };
    if run.targets.is_none() {
        let target = |c: &Container| RunTarget {
            container: c.id,
            name: c.name.clone(),
            outcome: RunOutcome::Waiting,
            job: None,
            reason: None,
        };
        run.targets = Some(found.iter().map(target).collect());
        let names_one = matches!(run.plan.target, ScheduleTarget::Container(_));
        run.reason = match (found.is_empty(), left_out) {
            (true, _) if names_one => Some(GONE.to_owned()),
            (true, _) => Some("no container is chosen by it".to_owned()),
            (false, 0) => None,
            (false, more) => Some(format!("{more} more containers are chosen by it than one run attends to")),
        };
        if found.is_empty()
            && names_one
            && let Some(mut schedule) = tx.get::<Schedule>(&keys::schedule(run.schedule)).await?
        {
            schedule.give_up(GONE);
            put(tx, &schedule)?;
        }
        tx.put(key, &run)?;
    }
    Ok(run)
}

async fn run_target(
    tx: &mut Tx<'_>,
    id: ScheduleId,
    planned_at: Timestamp,
    container: ContainerId,
    job: JobId,
    attention: &RunAttention,
) -> Result<RunStep, StoreError> {
    let key = keys::run(id, &keys::run_member(planned_at));
    tx.load(&[key.clone(), keys::schedule(id), keys::container(container)]).await?;
    let Some(mut run) = tx.get::<Run>(&key).await? else { return Ok(RunStep::Other(RunOutcome::NotRun)) };
    let place = run.targets.iter().flatten().position(|t| t.container == container);
    let before = place.and_then(|place| run.targets.as_ref()?.get(place)).map(|t| t.outcome);
    if before != Some(RunOutcome::Waiting) {
        return Ok(RunStep::Other(before.unwrap_or(RunOutcome::NotRun)));
    }
    let schedule: Option<Schedule> = tx.get(&keys::schedule(id)).await?;
    let done = attempt(tx, &run, schedule.as_ref(), container, job, attention).await?;
    let (outcome, job, reason) = match &done {
        Done::Job(outcome, job) => (*outcome, Some(job.id), None),
        Done::No(outcome, reason) => (*outcome, None, Some(reason.clone())),
    };
    if let Some(target) = place.and_then(|place| run.targets.as_mut()?.get_mut(place)) {
        (target.outcome, target.job, target.reason) = (outcome, job, reason);
    }
    tx.put(&key, &run)?;
    if let Some(mut schedule) = schedule {
        let mut changed = false;
        if let Some(job) = job {
            schedule.last_job = Some(job);
            changed = true;
        }
        if schedule.plan.target == ScheduleTarget::Container(container) && is_gone(tx, container).await? {
            schedule.give_up(GONE);
            changed = true;
        }
        if changed {
            put(tx, &schedule)?;
        }
    }
    Ok(match done {
        Done::Job(RunOutcome::Started, job) => RunStep::Started(job),
        Done::Job(outcome, _) | Done::No(outcome, _) => RunStep::Other(outcome),
    })
}

async fn is_gone(tx: &mut Tx<'_>, container: ContainerId) -> Result<bool, StoreError> {
    Ok(records::container(tx, container).await?.is_none_or(|c| c.is_gone()))
}

/// What came of an attempt.
enum Done {
    /// This job does it.
    Job(RunOutcome, Box<Job>),
    /// No job does it; why.
    No(RunOutcome, String),
}

fn not_run(why: impl Into<String>) -> Done {
    Done::No(RunOutcome::NotRun, why.into())
}

async fn attempt(
    tx: &mut Tx<'_>,
    run: &Run,
    schedule: Option<&Schedule>,
    id: ContainerId,
    job: JobId,
    attention: &RunAttention,
) -> Result<Done, StoreError> {
    let now = tx.now().await?;
    let Some(schedule) = schedule else { return Ok(not_run("the schedule was removed while it waited")) };
    if !schedule.plan.does_the_same(&run.plan) {
        return Ok(not_run("the schedule was changed while it waited"));
    }
    if !schedule.enabled {
        return Ok(not_run("the schedule was switched off while it waited"));
    }
    let found = records::container(tx, id).await?.filter(|c| c.project == schedule.project);
    let Some(container) = found else { return Ok(not_run("there is no such container any more")) };
    let project: Option<Project> = tx.get(&keys::project(&schedule.project)).await?;
    if let Some(why) = refused(tx, schedule, project.as_ref(), &container).await? {
        return Ok(not_run(why));
    }
    let excludes = project.map(|p| p.excludes).unwrap_or_default();
    let decision = decide(&run.plan, &container, &excludes, run.planned_at, now);
    if let Decision::LeftAlone(why) = decision {
        return Ok(Done::No(RunOutcome::LeftAlone, why));
    }
    if let Some(other) = container.job
        && let Some(other) = unfinished(tx, other).await?
    {
        return Ok(match decision {
            Decision::Start(spec) if other.is_same_request(&spec, Some(id), &schedule.user) => {
                Done::Job(RunOutcome::Joined, Box::new(other))
            }
            _ => wait(run, &other, now),
        });
    }
    let spec = match decision {
        Decision::Start(spec) => spec,
        Decision::Nothing(why) => return Ok(Done::No(RunOutcome::Nothing, why)),
        Decision::LeftAlone(why) => return Ok(Done::No(RunOutcome::LeftAlone, why)),
        Decision::Impossible(why) => return Ok(not_run(why)),
    };
    if let Some(image) = spec.image().map(ToString::to_string).filter(|i| attention.reserved.contains(i)) {
        return Ok(not_run(format!("{image} is an image of the catalogue")));
    }
    let target = match (&spec, flavor(run, &container, attention)) {
        (JobSpec::Launch, Ok(flavor)) => Target::Wake(id, Box::new(flavor)),
        (JobSpec::Launch, Err(why)) => return Ok(not_run(why)),
        _ => Target::Container(id),
    };
    let submission = Submission {
        id: job,
        spec,
        user: schedule.user.clone(),
        project: schedule.project.clone(),
        target,
        schedule: Some(schedule.id),
        idempotency: None,
        max_attempts: attention.max_attempts,
        alive_within: attention.alive_within,
    };
    Ok(match submit(tx, &submission).await? {
        Submitted::New(job) | Submitted::Replayed(job) => Done::Job(RunOutcome::Started, job),
        Submitted::Joined(job) => Done::Job(RunOutcome::Joined, job),
        Submitted::Busy(other) => wait(run, &other, now),
        Submitted::Protected => Done::No(RunOutcome::LeftAlone, "it is protected from deletion".to_owned()),
        Submitted::NotNow(why) | Submitted::Quota(why) => not_run(why),
        Submitted::NoContainer | Submitted::NoImage => not_run("there is no such container any more"),
        Submitted::IdempotencyConflict(other) => not_run(format!("job {other} is in the way")),
        Submitted::NameTaken(other) => not_run(format!("container {other} is in the way")),
    })
}

/// Another job is in the way: the run waits for its turn, up to its limit.
fn wait(run: &Run, other: &Job, now: Timestamp) -> Done {
    let what = format!("{} job {} by {}", other.kind(), other.id, other.user);
    if now < run.waits_until {
        return Done::No(RunOutcome::Waiting, format!("{what} is in the way"));
    }
    not_run(format!("{what} was in the way until {}", run.waits_until))
}

/// Why the schedule's maker may not do this to the container now.
async fn refused(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    project: Option<&Project>,
    container: &Container,
) -> Result<Option<String>, StoreError> {
    let name = &schedule.user;
    let Some(caller) = maker(tx, schedule, project).await? else {
        return Ok(Some(format!("user {name}, who made the schedule, is disabled")));
    };
    let may = caller.may(&Action::ChangeOwnedBy(&container.user));
    Ok((!may).then(|| {
        format!("user {name}, who made the schedule, may not do this to a container of {}", container.user)
    }))
}

/// The size that a container is woken as: the schedule's, else the one that it had; at what that costs now.
fn flavor(run: &Run, container: &Container, attention: &RunAttention) -> Result<Flavor, String> {
    let had = &container.launch.flavor;
    let wanted = run.plan.flavor.as_ref().unwrap_or(&had.name);
    let offered = attention.flavors.iter().find(|f| f.name == *wanted);
    match (offered, &run.plan.flavor) {
        (Some(flavor), _) => Ok(flavor.clone()),
        (None, None) => Ok(had.clone()),
        (None, Some(name)) => Err(format!("flavor {name} is not offered any more")),
    }
}

async fn close_run(
    tx: &mut Tx<'_>,
    id: ScheduleId,
    planned_at: Timestamp,
) -> Result<Option<RunOutcome>, StoreError> {
    let key = keys::run(id, &keys::run_member(planned_at));
    let due = keys::run_due_member(id, planned_at);
    let Some(mut run) = tx.get::<Run>(&key).await? else {
        tx.remove(keys::RUNS_DUE, due);
        return Ok(None);
    };
    let now = tx.now().await?;
    let outcome = run.outcome();
    if !run.is_over() {
        tx.shift(keys::RUNS_DUE, due, after(now, LOOK_AGAIN).as_millisecond());
        return Ok(Some(outcome));
    }
    tx.remove(keys::RUNS_DUE, due);
    if run.finished_at.is_some() {
        return Ok(None);
    }
    run.finished_at = Some(now);
    tx.put(&key, &run)?;
    Ok(Some(outcome))
}
