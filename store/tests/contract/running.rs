//! Runs of schedules: waiting for their turn, rights, what is chosen, and what each container gets or why not.

use super::scheduling::*;
use crate::world::*;
use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;
use mothball_domain::container::ContainerState;
use mothball_domain::id::ContainerId;
use mothball_domain::job::{JobSpec, Then};
use mothball_domain::people::Role;
use mothball_domain::schedule::run::RunOutcome;
use mothball_domain::schedule::{PlanChange, ScheduleAction, ScheduleTarget};
use mothball_store::{
    ContainerChange, Effect, Outcome, RunAttention, RunStep, ScheduleChange, ScheduleDraft, Target,
};
use std::collections::BTreeSet;

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
    // The same where not even its record is left.
    let nobody = plan(ScheduleAction::Park, ScheduleTarget::Container(ContainerId(999)));
    let s = made(w, &drafted(nobody)).await?;
    let_come(w, &s, 1).await?;
    round(w, &attention()).await?;
    ensure!(runs(w, &s).await?[0].reason.as_deref() == Some("its container is deleted"));
    ensure!(!schedule(w, s.id).await?.enabled);
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
    let bobs = ScheduleDraft { user: user("bob"), ..drafted(s.plan.clone()) };
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
    let s = made(w, &drafted(plan(ScheduleAction::Save, target))).await?;
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

    let all = made(w, &drafted(plan(ScheduleAction::Park, ScheduleTarget::Project))).await?;
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
    let s = made(w, &drafted(asked)).await?;
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
    let s = made(w, &drafted(asked)).await?;
    let_come(w, &s, 1).await?;
    let reserved = RunAttention { reserved: vec!["base:latest".to_owned()], ..attention() };
    ensure!(round(w, &reserved).await?.is_empty());
    let (_, target) = run_of_one(w, &s).await?;
    ensure!(target.reason.as_deref() == Some("base:latest is an image of the catalogue"), "{target:?}");
    Ok(())
}
