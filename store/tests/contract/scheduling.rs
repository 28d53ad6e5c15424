//! Schedules: made, changed, fired once, whoever dies or comes second, and what a run does to each container.

use crate::world::*;
use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::id::{ContainerId, ScheduleId};
use mothball_domain::job::{Job, JobSpec, Then};
use mothball_domain::people::Role;
use mothball_domain::schedule::run::{Run, RunOutcome, RunTarget};
use mothball_domain::schedule::turn::NoSuchTurn;
use mothball_domain::schedule::{
    Missed, Plan, PlanChange, RUNS_KEPT_MAX, SCHEDULES_MAX, Schedule, ScheduleAction, ScheduleTarget,
};
use mothball_store::{
    ContainerChange, Effect, Idempotency, Outcome, RunAttention, RunStep, ScheduleChange, ScheduleDraft,
    ScheduleMade, ScheduleQuery, Target,
};
use std::collections::BTreeSet;
use tokio::task::JoinSet;
use uuid::Uuid;

fn plan(action: ScheduleAction, target: ScheduleTarget) -> Plan {
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

fn draft(plan: Plan) -> ScheduleDraft {
    let id = ScheduleId(Uuid::now_v7());
    ScheduleDraft { id, project: project("p"), user: user("ann"), plan, enabled: true, idempotency: None }
}

async fn made(w: &World, draft: &ScheduleDraft) -> Result<Schedule> {
    match w.store.create_schedule(draft).await? {
        ScheduleMade::Made(schedule) => Ok(*schedule),
        other => anyhow::bail!("not made: {other:?}"),
    }
}

/// A node, ann as a member of project p, and a container of hers.
async fn anns(w: &World, name: &str) -> Result<Container> {
    w.node("n1", 4).await?;
    w.store.create_user(&user("ann"), false).await?;
    w.store.create_project(&project("p")).await?;
    w.store.set_member(&project("p"), &user("ann"), Some(Role::Member)).await?;
    w.launched(name, 0).await
}

/// A schedule of ann's for one container.
async fn for_one(w: &World, action: ScheduleAction, container: &Container) -> Result<Schedule> {
    made(w, &draft(plan(action, ScheduleTarget::Container(container.id)))).await
}

fn attention() -> RunAttention {
    RunAttention { max_attempts: 3, alive_within: LONG, ..RunAttention::default() }
}

/// Lets a schedule's time come, `late_s` seconds ago; the planned time.
async fn let_come(w: &World, schedule: &Schedule, late_s: i64) -> Result<Timestamp> {
    let planned_at = w.store.now().await? - SignedDuration::from_secs(late_s);
    // Two that come in the same second are two times all the same.
    let planned_at = Timestamp::from_millisecond(planned_at.as_millisecond())?;
    w.plan_for(schedule.id, planned_at).await?;
    Ok(planned_at)
}

/// What a scheduler does in one round.
async fn round(w: &World, attention: &RunAttention) -> Result<Vec<Job>> {
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

async fn runs(w: &World, schedule: &Schedule) -> Result<Vec<Run>> {
    Ok(w.store.schedule_runs(schedule.id, None, 1000).await?.items)
}

/// The newest run, which is about one container.
async fn run_of_one(w: &World, schedule: &Schedule) -> Result<(Run, RunTarget)> {
    let run = runs(w, schedule).await?.into_iter().next().context("a run")?;
    let target = run.targets.iter().flatten().next().cloned().context("a container")?;
    Ok((run, target))
}

/// Lets the time come and goes round once; what became of the one container.
async fn fired(w: &World, schedule: &Schedule) -> Result<RunTarget> {
    let_come(w, schedule, 1).await?;
    round(w, &attention()).await?;
    Ok(run_of_one(w, schedule).await?.1)
}

async fn says(w: &World, schedule: &Schedule, outcome: RunOutcome, why: &str) -> Result<()> {
    let jobs = w.all_jobs().await?.len();
    let target = fired(w, schedule).await?;
    ensure!(target.outcome == outcome && target.job.is_none(), "{target:?}");
    ensure!(target.reason.as_deref().is_some_and(|reason| reason.contains(why)), "{target:?}");
    ensure!(w.all_jobs().await?.len() == jobs, "a job was started");
    Ok(())
}

async fn schedule(w: &World, id: ScheduleId) -> Result<Schedule> {
    w.store.schedule(id).await?.context("the schedule is gone")
}

pub(crate) async fn a_schedule_is_recorded_listed_and_waits_for_its_time(w: &World) -> Result<()> {
    let container = ContainerId(7);
    let mine = draft(plan(ScheduleAction::Park, ScheduleTarget::Container(container)));
    let made_first = made(w, &mine).await?;
    ensure!(made(w, &mine).await? == made_first, "the same id is not the same schedule");
    let body = |body: &str| Some(Idempotency { key: "k".into(), body_sha256: body.into() });
    let keyed =
        |body_sha256: &str| ScheduleDraft { idempotency: body(body_sha256), ..draft(mine.plan.clone()) };
    let once = made(w, &keyed("a")).await?;
    ensure!(made(w, &keyed("a")).await? == once, "the same key made two");
    let other = w.store.create_schedule(&keyed("b")).await?;
    ensure!(other == ScheduleMade::IdempotencyConflict(once.id), "{other:?}");
    w.store.remove_schedule(once.id).await?;
    ensure!(made_first.next_at().is_some_and(|at| at > made_first.created_at));
    let off = ScheduleDraft { enabled: false, ..draft(plan(ScheduleAction::Wake, ScheduleTarget::Project)) };
    ensure!(made(w, &off).await?.next_at().is_none());
    let foreign = ScheduleDraft { project: project("q"), user: user("bob"), ..draft(mine.plan.clone()) };
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
        made(w, &draft(one.clone())).await?;
    }
    let refused = w.store.create_schedule(&draft(one.clone())).await?;
    ensure!(refused == ScheduleMade::TooMany(SCHEDULES_MAX), "{refused:?}");
    let other = ScheduleDraft { project: project("q"), ..draft(one.clone()) };
    made(w, &other).await?;
    let first = w.store.schedules(&ScheduleQuery { limit: 1, ..ScheduleQuery::default() }).await?;
    ensure!(w.store.remove_schedule(first.items[0].id).await?);
    made(w, &draft(one)).await.map(drop)
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
    let s = made(w, &draft(plan(ScheduleAction::Park, ScheduleTarget::Project))).await?;
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
    let s = made(w, &draft(plan(ScheduleAction::Save, ScheduleTarget::Project))).await?;
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

pub(crate) async fn a_run_waits_for_its_turn_and_then_says_why_not(w: &World) -> Result<()> {
    let container = anns(w, "box").await?;
    let s = for_one(w, ScheduleAction::Park, &container).await?;
    let save = |tag: &str| request(snapshot(tag, Then::Keep), Target::Container(container.id));
    let other = w.new_job(&save("base:v1")).await?;
    let waits = fired(w, &s).await?;
    let in_the_way = format!("snapshot job {} by ann is in the way", other.id);
    ensure!(waits.outcome == RunOutcome::Waiting && waits.reason == Some(in_the_way), "{waits:?}");
    let (run, _) = run_of_one(w, &s).await?;
    ensure!(
        run.finished_at.is_none() && w.store.runs_due(10).await?.is_empty(),
        "it is looked at all the time"
    );
    // Whoever looks, the run waits, and then has its turn.
    let look =
        async || w.store.run_target(s.id, run.planned_at, container.id, fresh_id(), &attention()).await;
    ensure!(look().await? == RunStep::Other(RunOutcome::Waiting));
    w.ended(&other, Outcome::Succeeded(Effect::None)).await?;
    let RunStep::Started(park) = look().await? else { anyhow::bail!("it did not start") };
    ensure!(w.store.close_run(s.id, run.planned_at).await? == Some(RunOutcome::Started));
    w.store.cancel(park.id).await?;

    // The same once more with no patience.
    let other = w.new_job(&save("base:v2")).await?;
    let change = PlanChange { patience_s: Some(0), ..PlanChange::default() };
    w.store.change_schedule(s.id, &ScheduleChange { plan: change, enabled: None }).await?;
    says(w, &s, RunOutcome::NotRun, &format!("snapshot job {} by ann was in the way until", other.id))
        .await?;
    ensure!(run_of_one(w, &s).await?.0.finished_at.is_some());
    w.store.cancel(other.id).await.map(drop)?;
    Ok(())
}

pub(crate) async fn a_run_that_waits_ends_with_its_schedule(w: &World) -> Result<()> {
    let container = anns(w, "box").await?;
    let other = w.new_job(&request(snapshot("base:v1", Then::Keep), Target::Container(container.id))).await?;
    let off = ScheduleChange { enabled: Some(false), ..ScheduleChange::default() };
    let plan = PlanChange { action: Some(ScheduleAction::Delete), ..PlanChange::default() };
    let another = ScheduleChange { plan, enabled: None };
    for (change, why) in [(Some(off), "switched off"), (Some(another), "changed"), (None, "")] {
        let s = for_one(w, ScheduleAction::Park, &container).await?;
        ensure!(fired(w, &s).await?.outcome == RunOutcome::Waiting);
        let planned_at = run_of_one(w, &s).await?.0.planned_at;
        match &change {
            Some(change) => w.store.change_schedule(s.id, change).await.map(drop)?,
            None => ensure!(w.store.remove_schedule(s.id).await? && !w.store.remove_schedule(s.id).await?),
        }
        let step = w.store.run_target(s.id, planned_at, container.id, fresh_id(), &attention()).await?;
        ensure!(step == RunStep::Other(RunOutcome::NotRun), "{step:?}");
        if change.is_some() {
            let (_, target) = run_of_one(w, &s).await?;
            ensure!(target.reason.is_some_and(|reason| reason.contains(why)));
            w.store.remove_schedule(s.id).await?;
        }
        ensure!(w.store.open_run(s.id, planned_at).await?.is_empty());
        ensure!(w.store.close_run(s.id, planned_at).await?.is_none() && runs(w, &s).await?.is_empty());
    }
    w.store.cancel(other.id).await?;
    ensure!(w.all_jobs().await?.iter().all(|job| job.schedule.is_none()));
    Ok(())
}

pub(crate) async fn what_is_as_it_should_be_gets_no_job(w: &World) -> Result<()> {
    let container = anns(w, "box").await?;
    let wake = for_one(w, ScheduleAction::Wake, &container).await?;
    let park = for_one(w, ScheduleAction::Park, &container).await?;
    says(w, &wake, RunOutcome::Nothing, "runs already").await?;
    w.parked(&container, "base:parked").await?;
    says(w, &park, RunOutcome::Nothing, "parked already").await?;
    let woken = fired(w, &wake).await?;
    ensure!(woken.outcome == RunOutcome::Started);
    // A wake that is under way is what another wake of the same user wants.
    let joins = for_one(w, ScheduleAction::Wake, &container).await?;
    ensure!(fired(w, &joins).await?.outcome == RunOutcome::Waiting);
    w.ended(&w.job(woken.job.context("a job")?).await?, running("d-new")).await?;
    let (run, _) = run_of_one(w, &joins).await?;
    w.store.run_target(joins.id, run.planned_at, container.id, fresh_id(), &attention()).await?;
    ensure!(run_of_one(w, &joins).await?.1.outcome == RunOutcome::Nothing);
    Ok(())
}

pub(crate) async fn the_same_job_of_the_same_user_is_joined(w: &World) -> Result<()> {
    let container = anns(w, "box").await?;
    let s = for_one(w, ScheduleAction::Delete, &container).await?;
    let deletion = w.new_job(&request(JobSpec::Delete, Target::Container(container.id))).await?;
    let joined = fired(w, &s).await?;
    ensure!((joined.outcome, joined.job) == (RunOutcome::Joined, Some(deletion.id)), "{joined:?}");
    w.ended(&deletion, Outcome::Succeeded(Effect::Removed)).await?;
    // Its container is gone for good: it is switched off, and says why.
    says(w, &s, RunOutcome::Nothing, "deleted already").await?;
    let over = schedule(w, s.id).await?;
    ensure!(
        !over.enabled && over.disabled_because.as_deref() == Some("its container is deleted"),
        "{over:?}"
    );
    Ok(())
}

pub(crate) async fn what_is_protected_or_kept_is_left_alone(w: &World) -> Result<()> {
    let container = anns(w, "box").await?;
    let s = for_one(w, ScheduleAction::Park, &container).await?;
    let change = |protected, keep_until| ContainerChange {
        protected: Some(protected),
        keep_until: Some(keep_until),
        ..ContainerChange::default()
    };
    w.store.change_container(container.id, &change(true, None)).await?;
    says(w, &s, RunOutcome::LeftAlone, "protected").await?;
    let until = w.store.now().await? + SignedDuration::from_hours(1);
    w.store.change_container(container.id, &change(false, Some(until))).await?;
    says(w, &s, RunOutcome::LeftAlone, "kept as it is until").await?;
    let past = w.store.now().await? - SignedDuration::from_secs(1);
    w.store.change_container(container.id, &change(false, Some(past))).await?;
    ensure!(fired(w, &s).await?.outcome == RunOutcome::Started);
    Ok(())
}

pub(crate) async fn rights_count_when_it_fires(w: &World) -> Result<()> {
    let container = anns(w, "box").await?;
    let s = for_one(w, ScheduleAction::Save, &container).await?;
    w.store.set_member(&project("p"), &user("ann"), None).await?;
    says(w, &s, RunOutcome::NotRun, "user ann, who made the schedule, may not do this").await?;
    w.store.set_member(&project("p"), &user("ann"), Some(Role::Member)).await?;
    w.store.change_user(&user("ann"), None, Some(true)).await?;
    says(w, &s, RunOutcome::NotRun, "is disabled").await?;
    w.store.change_user(&user("ann"), None, Some(false)).await?;
    // A member may not do it to somebody else's container, an admin and an operator may.
    w.store.create_user(&user("bob"), false).await?;
    w.store.set_member(&project("p"), &user("bob"), Some(Role::Member)).await?;
    let bobs = ScheduleDraft { user: user("bob"), ..draft(s.plan.clone()) };
    let bobs = made(w, &bobs).await?;
    says(w, &bobs, RunOutcome::NotRun, "may not do this to a container of ann").await?;
    w.store.set_member(&project("p"), &user("bob"), Some(Role::Admin)).await?;
    let started = fired(w, &bobs).await?;
    ensure!(started.outcome == RunOutcome::Started);
    let job = w.job(started.job.context("a job")?).await?;
    ensure!(job.user == user("bob"), "its job is not its maker's");
    w.store.cancel(job.id).await?;
    w.store.set_member(&project("p"), &user("bob"), None).await?;
    w.store.change_user(&user("bob"), Some(true), None).await?;
    ensure!(fired(w, &bobs).await?.outcome == RunOutcome::Started);
    Ok(())
}

pub(crate) async fn containers_are_chosen_when_it_fires(w: &World) -> Result<()> {
    let first = anns(w, "first").await?;
    let other = w.launched("other", 0).await?;
    let label = |text: &str| ContainerChange { labels: Some(labels(text)), ..ContainerChange::default() };
    w.store.change_container(first.id, &label("night=off,team=vision")).await?;
    w.store.change_container(other.id, &label("team=audio")).await?;
    let target = ScheduleTarget::Labels(labels("night=off"));
    let s = made(w, &draft(plan(ScheduleAction::Save, target))).await?;
    let_come(w, &s, 3).await?;
    let jobs = round(w, &attention()).await?;
    ensure!(jobs.len() == 1 && jobs[0].container == Some(first.id));
    w.store.cancel(jobs[0].id).await?;
    w.store.change_container(other.id, &label("night=off")).await?;
    let third = w.launched("third", 0).await?;
    let_come(w, &s, 2).await?;
    let chosen: BTreeSet<_> = round(w, &attention()).await?.iter().filter_map(|job| job.container).collect();
    ensure!(chosen == BTreeSet::from([first.id, other.id]), "{chosen:?}");
    w.store.change_container(first.id, &label("")).await?;
    w.store.change_container(other.id, &label("")).await?;
    let_come(w, &s, 1).await?;
    ensure!(round(w, &attention()).await?.is_empty());
    let run = runs(w, &s).await?.remove(0);
    ensure!(run.outcome() == RunOutcome::Nothing && run.reason.is_some(), "{run:?}");

    let all = made(w, &draft(plan(ScheduleAction::Park, ScheduleTarget::Project))).await?;
    let_come(w, &all, 1).await?;
    let parks = round(w, &attention()).await?;
    ensure!(parks.len() == 1 && parks[0].container == Some(third.id), "the others are busy");
    let run = runs(w, &all).await?.remove(0);
    ensure!(run.outcome() == RunOutcome::Waiting && run.targets.iter().flatten().count() == 3);
    Ok(())
}

pub(crate) async fn a_wake_has_its_size_and_its_price_now(w: &World) -> Result<()> {
    let container = anns(w, "box").await?;
    w.parked(&container, "base:parked").await?;
    let mut asked = plan(ScheduleAction::Wake, ScheduleTarget::Container(container.id));
    asked.flavor = Some(launch_with(2).flavor.name);
    let s = made(w, &draft(asked)).await?;
    says(w, &s, RunOutcome::NotRun, "flavor gpu2 is not offered any more").await?;
    let mut offered = RunAttention { flavors: vec![launch_with(2).flavor], ..attention() };
    offered.flavors[0].price_per_hour = 500.into();
    // Not the same planned time again.
    let_come(w, &s, 0).await?;
    let jobs = round(w, &offered).await?;
    ensure!(jobs.len() == 1 && jobs[0].flavor.as_ref() == offered.flavors.first());
    let waking = w.container(container.id).await?;
    ensure!(waking.gpus.len() == 2 && waking.launch.flavor == offered.flavors[0]);
    w.ended(&jobs[0], running("d-new")).await?;
    ensure!(w.container(container.id).await?.state == ContainerState::Ready);
    Ok(())
}

pub(crate) async fn no_schedule_takes_a_name_of_the_catalogue(w: &World) -> Result<()> {
    let container = anns(w, "box").await?;
    let mut asked = plan(ScheduleAction::Save, ScheduleTarget::Container(container.id));
    asked.tag = Some("latest".parse()?);
    let s = made(w, &draft(asked)).await?;
    let_come(w, &s, 1).await?;
    let reserved = RunAttention { reserved: vec!["base:latest".to_owned()], ..attention() };
    ensure!(round(w, &reserved).await?.is_empty());
    let (_, target) = run_of_one(w, &s).await?;
    ensure!(target.reason.as_deref() == Some("base:latest is an image of the catalogue"), "{target:?}");
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
