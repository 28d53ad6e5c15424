//! Schedules: made, changed, fired once, whoever dies or comes second, and what a run does to each container.

use crate::world::*;
use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use mothball_domain::container::Container;
use mothball_domain::id::{ContainerId, ScheduleId};
use mothball_domain::job::{Job, JobSpec, Then};
use mothball_domain::people::Role;
use mothball_domain::schedule::run::{Run, RunOutcome, RunTarget};
use mothball_domain::schedule::turn::NoSuchTurn;
use mothball_domain::schedule::{
    Missed, Plan, PlanChange, RUNS_KEPT_MAX, SCHEDULES_MAX, Schedule, ScheduleAction, ScheduleTarget,
};
use mothball_store::{
    Effect, Idempotency, Outcome, RunAttention, RunStep, ScheduleChange, ScheduleDraft, ScheduleMade,
    ScheduleQuery,
};
use std::collections::BTreeSet;
use tokio::task::JoinSet;
use uuid::Uuid;

pub(super) fn plan(action: ScheduleAction, target: ScheduleTarget) -> Plan {
    Plan {
        target,
        action,
        cron: "0 20 * * *".parse().expect("a pattern"),
        timezone: "Asia/Taipei".parse().expect("a zone"),
        missed: Missed::RunOnce,
        patience_s: 3600,
        tag: None,
        flavor: None,
        discard_volumes: false,
        description: String::new(),
    }
}

pub(super) fn drafted(plan: Plan) -> ScheduleDraft {
    let id = ScheduleId(Uuid::now_v7());
    ScheduleDraft { id, project: project("p"), user: user("ann"), plan, enabled: true, idempotency: None }
}

pub(super) async fn made(w: &World, draft: &ScheduleDraft) -> Result<Schedule> {
    match w.store.create_schedule(draft).await? {
        ScheduleMade::Made(schedule) => Ok(*schedule),
        other => anyhow::bail!("not made: {other:?}"),
    }
}

/// A node, ann as a member of project p, and a container of hers.
pub(super) async fn anns(w: &World, name: &str) -> Result<Container> {
    w.node("n1", 4).await?;
    w.store.create_user(&user("ann"), false).await?;
    w.store.create_project(&project("p")).await?;
    w.store.set_member(&project("p"), &user("ann"), Some(Role::Member)).await?;
    w.launched(name, 0).await
}

/// A schedule of ann's for one container.
pub(super) async fn for_one(w: &World, action: ScheduleAction, container: &Container) -> Result<Schedule> {
    made(w, &drafted(plan(action, ScheduleTarget::Container(container.id)))).await
}

pub(super) fn attention() -> RunAttention {
    RunAttention { max_attempts: 3, alive_within: LONG, ..RunAttention::default() }
}

/// Lets a schedule's time come, `late_s` seconds ago; the planned time.
pub(super) async fn let_come(w: &World, schedule: &Schedule, late_s: i64) -> Result<Timestamp> {
    let planned_at = w.store.now().await? - SignedDuration::from_secs(late_s);
    // Two that come in the same second are two times all the same.
    let planned_at = Timestamp::from_millisecond(planned_at.as_millisecond())?;
    w.plan_for(schedule.id, planned_at).await?;
    Ok(planned_at)
}

/// What a scheduler does in one round.
pub(super) async fn round(w: &World, attention: &RunAttention) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for id in w.store.schedules_due(100).await? {
        w.store.take_turn(id).await?;
    }
    for (id, planned_at) in w.store.runs_due(100).await? {
        for container in w.store.open_run(id, planned_at).await? {
            let step = w.store.run_target(id, planned_at, container, fresh_id(), attention).await?;
            if let RunStep::Started(job) = step {
                jobs.push(*job);
            }
        }
        w.store.close_run(id, planned_at).await?;
    }
    Ok(jobs)
}

pub(super) async fn runs(w: &World, schedule: &Schedule) -> Result<Vec<Run>> {
    Ok(w.store.schedule_runs(schedule.id, None, 1000).await?.items)
}

/// The newest run, which is about one container.
pub(super) async fn run_of_one(w: &World, schedule: &Schedule) -> Result<(Run, RunTarget)> {
    let run = runs(w, schedule).await?.into_iter().next().context("a run")?;
    let target = run.targets.iter().flatten().next().cloned().context("a container")?;
    Ok((run, target))
}

/// Lets the time come and goes round once; what became of the one container.
pub(super) async fn fired(w: &World, schedule: &Schedule) -> Result<RunTarget> {
    let_come(w, schedule, 1).await?;
    round(w, &attention()).await?;
    Ok(run_of_one(w, schedule).await?.1)
}

pub(super) async fn says(w: &World, schedule: &Schedule, outcome: RunOutcome, why: &str) -> Result<()> {
    let jobs = w.all_jobs().await?.len();
    let target = fired(w, schedule).await?;
    ensure!(target.outcome == outcome && target.job.is_none(), "{target:?}");
    ensure!(target.reason.as_deref().is_some_and(|reason| reason.contains(why)), "{target:?}");
    ensure!(w.all_jobs().await?.len() == jobs, "a job was started");
    Ok(())
}

pub(super) async fn schedule(w: &World, id: ScheduleId) -> Result<Schedule> {
    w.store.schedule(id).await?.context("the schedule is gone")
}

pub(crate) async fn a_schedule_is_recorded_listed_and_waits_for_its_time(w: &World) -> Result<()> {
    let container = ContainerId(7);
    let mine = drafted(plan(ScheduleAction::Park, ScheduleTarget::Container(container)));
    let made_first = made(w, &mine).await?;
    ensure!(made(w, &mine).await? == made_first, "the same id is not the same schedule");
    let body = |body: &str| Some(Idempotency { key: "k".into(), body_sha256: body.into() });
    let keyed =
        |body_sha256: &str| ScheduleDraft { idempotency: body(body_sha256), ..drafted(mine.plan.clone()) };
    let once = made(w, &keyed("a")).await?;
    ensure!(made(w, &keyed("a")).await? == once, "the same key made two");
    let other = w.store.create_schedule(&keyed("b")).await?;
    ensure!(other == ScheduleMade::IdempotencyConflict(once.id), "{other:?}");
    w.store.remove_schedule(once.id).await?;
    ensure!(made_first.next_at().is_some_and(|at| at > made_first.created_at));
    let off =
        ScheduleDraft { enabled: false, ..drafted(plan(ScheduleAction::Wake, ScheduleTarget::Project)) };
    ensure!(made(w, &off).await?.next_at().is_none());
    let foreign = ScheduleDraft { project: project("q"), user: user("bob"), ..drafted(mine.plan.clone()) };
    made(w, &foreign).await?;

    let all = ScheduleQuery { limit: 10, ..ScheduleQuery::default() };
    let listed = async |query: ScheduleQuery| {
        let page = w.store.schedules(&query).await?;
        anyhow::Ok(page.items.iter().map(|s| s.id).collect::<Vec<_>>())
    };
    ensure!(listed(all.clone()).await? == [mine.id, off.id, foreign.id]);
    ensure!(listed(ScheduleQuery { project: Some(project("p")), ..all.clone() }).await? == [mine.id, off.id]);
    ensure!(listed(ScheduleQuery { user: Some(user("bob")), ..all.clone() }).await? == [foreign.id]);
    ensure!(
        listed(ScheduleQuery { container: Some(container), ..all.clone() }).await? == [mine.id, foreign.id]
    );
    ensure!(listed(ScheduleQuery { action: Some(ScheduleAction::Wake), ..all.clone() }).await? == [off.id]);
    let first = w.store.schedules(&ScheduleQuery { limit: 2, ..all.clone() }).await?;
    let cursor = first.next.context("a next page")?.parse()?;
    ensure!(listed(ScheduleQuery { cursor: Some(cursor), ..all }).await? == [foreign.id]);

    ensure!(w.store.schedules_due(10).await?.is_empty() && w.store.take_turn(mine.id).await?.is_none());
    ensure!(w.store.schedules_and_due().await? == (3, 2));
    ensure!(w.store.schedule(ScheduleId(Uuid::now_v7())).await?.is_none());
    Ok(())
}

pub(crate) async fn a_project_has_so_many_schedules(w: &World) -> Result<()> {
    let one = plan(ScheduleAction::Park, ScheduleTarget::Project);
    for _ in 0..SCHEDULES_MAX {
        made(w, &drafted(one.clone())).await?;
    }
    let refused = w.store.create_schedule(&drafted(one.clone())).await?;
    ensure!(refused == ScheduleMade::TooMany(SCHEDULES_MAX), "{refused:?}");
    let other = ScheduleDraft { project: project("q"), ..drafted(one.clone()) };
    made(w, &other).await?;
    let first = w.store.schedules(&ScheduleQuery { limit: 1, ..ScheduleQuery::default() }).await?;
    ensure!(w.store.remove_schedule(first.items[0].id).await?);
    made(w, &drafted(one)).await.map(drop)
}

pub(crate) async fn a_schedule_fires_once_and_moves_on(w: &World) -> Result<()> {
    let container = anns(w, "box").await?;
    let s = for_one(w, ScheduleAction::Park, &container).await?;
    let planned_at = let_come(w, &s, 5).await?;
    ensure!(w.store.schedules_due(10).await? == [s.id]);
    let run = w.store.take_turn(s.id).await?.context("a run")?;
    ensure!(run.planned_at == planned_at && run.missed == 0 && run.outcome() == RunOutcome::Waiting);
    ensure!(w.store.take_turn(s.id).await?.is_none() && w.store.schedules_due(10).await?.is_empty());
    ensure!(w.store.runs_due(10).await? == [(s.id, planned_at)]);
    ensure!(schedule(w, s.id).await?.next_at() == s.next_at(), "it does not go on as it was planned");
    let jobs = round(w, &attention()).await?;
    ensure!(jobs.len() == 1 && round(w, &attention()).await?.is_empty());
    let (job, (run, target)) = (&jobs[0], run_of_one(w, &s).await?);
    ensure!(job.user == user("ann") && job.schedule == Some(s.id) && w.is_due(job.id).await?);
    let stamp =
        planned_at.to_zoned(jiff::tz::TimeZone::UTC).strftime("base:park-%Y%m%d-%H%M%S-box").to_string();
    ensure!(matches!(&job.spec, JobSpec::Snapshot { then: Then::Park, .. }) && job.image == Some(stamp));
    ensure!(job.events[0].detail == format!("by ann, by schedule {}", s.id));
    ensure!(target.outcome == RunOutcome::Started && target.job == Some(job.id) && run.finished_at.is_some());
    ensure!(w.store.runs_due(10).await?.is_empty() && schedule(w, s.id).await?.last_job == Some(job.id));
    // A clock that is set back brings the same planned time again: it has had its run.
    w.plan_for(s.id, planned_at).await?;
    ensure!(round(w, &attention()).await?.is_empty() && runs(w, &s).await?.len() == 1);
    Ok(())
}

pub(crate) async fn of_many_schedulers_one_fires(w: &World) -> Result<()> {
    anns(w, "box").await?;
    for i in 0..5 {
        w.launched(&format!("box{i}"), 0).await?;
    }
    let s = made(w, &drafted(plan(ScheduleAction::Park, ScheduleTarget::Project))).await?;
    let_come(w, &s, 1).await?;
    let mut crowd = JoinSet::new();
    for _ in 0..8 {
        let w = w.clone();
        crowd.spawn(async move { round(&w, &attention()).await });
    }
    let mut started = BTreeSet::new();
    for jobs in crowd.join_all().await {
        for job in jobs? {
            ensure!(started.insert(job.container), "{:?} was parked twice", job.container);
        }
    }
    // Those that came in between may have left something to do; nothing is done twice.
    started.extend(round(w, &attention()).await?.iter().map(|job| job.container));
    ensure!(started.len() == 6 && runs(w, &s).await?.len() == 1, "{started:?}");
    let parks = w.all_jobs().await?.into_iter().filter(|job| job.schedule.is_some()).count();
    ensure!(parks == 6, "{parks} parks of 6 containers");
    Ok(())
}

pub(crate) async fn a_scheduler_that_dies_anywhere_leaves_the_rest_to_the_next(w: &World) -> Result<()> {
    anns(w, "box0").await?;
    w.launched("box1", 0).await?;
    let s = made(w, &drafted(plan(ScheduleAction::Save, ScheduleTarget::Project))).await?;
    for steps in 0..=4 {
        let planned_at = let_come(w, &s, 30 - steps).await?;
        if steps >= 1 {
            w.store.take_turn(s.id).await?.context("a run")?;
        }
        let containers = if steps >= 2 { w.store.open_run(s.id, planned_at).await? } else { Vec::new() };
        if steps >= 3 {
            w.store.run_target(s.id, planned_at, containers[0], fresh_id(), &attention()).await?;
        }
        if steps >= 4 {
            // Its answer did not come through: it is asked again.
            w.store.run_target(s.id, planned_at, containers[1], fresh_id(), &attention()).await?;
            let again = w.store.run_target(s.id, planned_at, containers[1], fresh_id(), &attention()).await?;
            ensure!(again == RunStep::Other(RunOutcome::Started), "{again:?}");
        }
        // It died; the next one goes round.
        round(w, &attention()).await?;
        let run = runs(w, &s).await?.into_iter().next().context("a run")?;
        ensure!(run.planned_at == planned_at && run.finished_at.is_some(), "after {steps} steps: {run:?}");
        let jobs: BTreeSet<_> = run.targets.iter().flatten().filter_map(|t| t.job).collect();
        ensure!(jobs.len() == 2, "after {steps} steps: {run:?}");
        let unfinished: Vec<Job> =
            w.all_jobs().await?.into_iter().filter(|job| !job.state.is_final()).collect();
        ensure!(unfinished.len() == 2, "after {steps} steps: {unfinished:?}");
        for job in unfinished {
            w.ended(&job, Outcome::Succeeded(Effect::None)).await?;
        }
    }
    ensure!(runs(w, &s).await?.len() == 5);
    Ok(())
}

pub(crate) async fn what_was_missed_is_done_once_or_left_out(w: &World) -> Result<()> {
    let container = anns(w, "box").await?;
    let s = for_one(w, ScheduleAction::Save, &container).await?;
    let day = 24 * 3600;
    let_come(w, &s, 3 * day).await?;
    let jobs = round(w, &attention()).await?;
    ensure!(jobs.len() == 1);
    let (run, _) = run_of_one(w, &s).await?;
    ensure!(run.missed >= 2 && runs(w, &s).await?.len() == 1, "{run:?}");
    w.ended(&jobs[0], Outcome::Succeeded(Effect::None)).await?;

    let change = PlanChange { missed: Some(Missed::Skip), ..PlanChange::default() };
    w.store.change_schedule(s.id, &ScheduleChange { plan: change, enabled: None }).await?;
    // So that the last of them is far from now, whenever this is run.
    let change = PlanChange { cron: Some("0 0 1 1 *".parse()?), ..PlanChange::default() };
    w.store.change_schedule(s.id, &ScheduleChange { plan: change, enabled: None }).await?;
    let_come(w, &s, 5 * 60).await?;
    ensure!(round(w, &attention()).await?.is_empty());
    let run = runs(w, &s).await?.into_iter().find(|r| r.whole.is_some()).context("a missed run")?;
    ensure!(run.outcome() == RunOutcome::Missed && run.missed == 1 && run.finished_at.is_some(), "{run:?}");
    ensure!(run.reason.as_deref() == Some("no scheduler ran at its time"), "{run:?}");
    // A little late is not missed.
    let_come(w, &s, 30).await?;
    ensure!(round(w, &attention()).await?.len() == 1);
    Ok(())
}

pub(crate) async fn a_run_is_skipped_or_postponed_once(w: &World) -> Result<()> {
    let container = anns(w, "box").await?;
    let s = for_one(w, ScheduleAction::Park, &container).await?;
    let skipped = w.store.skip_run(s.id, true).await??.context("the schedule")?;
    ensure!(skipped.clock.skip_next && skipped.next_at() == s.next_at());
    w.plan_for(s.id, w.store.now().await? - SignedDuration::from_secs(2)).await?;
    ensure!(round(w, &attention()).await?.is_empty());
    let run = runs(w, &s).await?.remove(0);
    ensure!(run.outcome() == RunOutcome::Skipped && run.reason.is_some() && run.finished_at.is_some());
    ensure!(!schedule(w, s.id).await?.clock.skip_next);

    let planned_at = schedule(w, s.id).await?.next_at().context("a next run")?;
    let later = planned_at + SignedDuration::from_mins(30);
    let postponed = w.store.postpone_run(s.id, Some(later)).await??.context("the schedule")?;
    ensure!(postponed.next_at() == Some(later) && postponed.clock.planned_at == Some(planned_at));
    let too_far = planned_at + SignedDuration::from_hours(25);
    let refused = w.store.postpone_run(s.id, Some(too_far)).await?;
    ensure!(matches!(refused, Err(NoSuchTurn::NotBefore(_))), "{refused:?}");
    ensure!(schedule(w, s.id).await?.next_at() == Some(later));
    let back = w.store.postpone_run(s.id, None).await??.context("the schedule")?;
    ensure!(back.next_at() == Some(planned_at));
    let nobody = ScheduleId(Uuid::now_v7());
    ensure!(w.store.skip_run(nobody, true).await? == Ok(None));
    Ok(())
}

pub(crate) async fn a_change_moves_the_next_run_and_a_pause_ends_it(w: &World) -> Result<()> {
    let container = anns(w, "box").await?;
    let s = for_one(w, ScheduleAction::Park, &container).await?;
    let change = PlanChange { cron: Some("30 6 * * *".parse()?), ..PlanChange::default() };
    let changed =
        w.store.change_schedule(s.id, &ScheduleChange { plan: change, enabled: None }).await?.context("s")?;
    ensure!(changed.next_at() != s.next_at() && changed.plan.timezone == s.plan.timezone);
    let off = ScheduleChange { enabled: Some(false), ..ScheduleChange::default() };
    ensure!(w.store.change_schedule(s.id, &off).await?.is_some_and(|s| s.next_at().is_none()));
    ensure!(w.store.schedules_and_due().await? == (1, 0));
    ensure!(w.store.skip_run(s.id, true).await? == Err(NoSuchTurn::Off));
    let on = ScheduleChange { enabled: Some(true), ..ScheduleChange::default() };
    ensure!(w.store.change_schedule(s.id, &on).await?.is_some_and(|s| s.next_at() == changed.next_at()));
    ensure!(w.store.change_schedule(ScheduleId(Uuid::now_v7()), &on).await?.is_none());
    Ok(())
}

pub(crate) async fn its_history_is_bounded_and_paged(w: &World) -> Result<()> {
    let container = anns(w, "box").await?;
    let s = for_one(w, ScheduleAction::Wake, &container).await?;
    for number in 0..RUNS_KEPT_MAX + 5 {
        let_come(w, &s, i64::from(RUNS_KEPT_MAX + 10 - number)).await?;
        // Old ones are late, but done.
        round(w, &attention()).await?;
    }
    let all = runs(w, &s).await?;
    ensure!(all.len() == RUNS_KEPT_MAX as usize && schedule(w, s.id).await?.runs_kept == RUNS_KEPT_MAX);
    ensure!(all.windows(2).all(|pair| pair[0].planned_at > pair[1].planned_at), "not newest first");
    let first = w.store.schedule_runs(s.id, None, 150).await?;
    let rest = w.store.schedule_runs(s.id, first.next.as_deref(), 150).await?;
    ensure!(first.items.len() == 150 && rest.items.len() == 50 && rest.next.is_none());
    ensure!([first.items, rest.items].concat() == all);
    Ok(())
}
