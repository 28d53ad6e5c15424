//! What is due: the one mechanism behind retries, lost messages and dead workers.

use crate::world::*;
use anyhow::{Result, ensure};
use mothball_domain::job::{Job, JobSpec, Then};
use mothball_domain::state::JobState;
use mothball_store::{Attend, Effect, Outcome, Target};
use std::time::Duration;
use tokio::task::JoinSet;

async fn save(w: &World, name: &str) -> Result<Job> {
    let container = w.launched(name, 0).await?;
    w.new_job(&request(snapshot(&format!("base:{name}"), Then::Keep), Target::Container(container.id))).await
}

pub(crate) async fn unfinished_jobs_and_due_times_are_the_same_through_a_life(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let job = save(w, "box").await?;
    w.check_sound().await?;
    w.attend(job.id).await?;
    w.check_sound().await?;
    w.store.mark_published(job.id).await?;
    w.check_sound().await?;
    for outcome in [failed(transient(), LONG), failed(transient(), Duration::ZERO), Outcome::Interrupted] {
        w.check_sound().await?;
        w.store.cancel(job.id).await?;
        w.check_sound().await?;
        w.store.retry(job.id, LONG).await?;
        w.check_sound().await?;
        let held = w.claimed(&job).await?;
        w.check_sound().await?;
        w.store.renew(job.id, held.fence, LONG, None).await?;
        w.settled(&held, outcome).await?;
    }
    w.check_sound().await?;
    w.claimed_for(&job, Duration::ZERO).await?;
    w.attend(job.id).await?;
    w.check_sound().await?;
    w.ended(&job, Outcome::Succeeded(Effect::None)).await?;
    w.check_sound().await?;
    ensure!(w.store.unfinished_and_due().await? == (0, 0));
    Ok(())
}

async fn due_in(w: &World, job: &Job, seconds: std::ops::RangeInclusive<f64>) -> Result<()> {
    let found = w.due_in_s(job.id).await?;
    ensure!(found.is_some_and(|s| seconds.contains(&s)), "due in {found:?} s, not {seconds:?}");
    Ok(())
}

pub(crate) async fn publications_become_rarer(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let job = save(w, "box").await?;
    for seconds in [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0] {
        w.store.mark_published(job.id).await?;
        due_in(w, &job, seconds - 10.0..=seconds).await?;
    }
    ensure!(w.job(job.id).await?.published == 7);
    // A claim begins to count anew.
    w.ended(&job, Outcome::Interrupted).await?;
    w.attend(job.id).await?;
    w.store.mark_published(job.id).await?;
    due_in(w, &job, 20.0..=30.0).await
}

pub(crate) async fn a_publication_that_was_not_noted_is_tried_again_soon(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let job = save(w, "box").await?;
    ensure!(w.attend(job.id).await? == Attend::Publish(Some(node_name("n1"))));
    due_in(w, &job, -10.0..=2.0).await?;
    ensure!(w.attend(fresh_id()).await? == Attend::Nothing);
    w.store.mark_published(fresh_id()).await?;
    Ok(())
}

pub(crate) async fn a_late_note_of_a_publication_does_not_delay_a_retry(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let job = save(w, "box").await?;
    w.attend(job.id).await?;
    w.ended(&job, failed(transient(), Duration::from_secs(15))).await?;
    w.store.mark_published(job.id).await?;
    due_in(w, &job, 0.0..=15.0).await?;
    let job = save(w, "second").await?;
    w.attend(job.id).await?;
    w.ended(&job, Outcome::Interrupted).await?;
    w.store.mark_published(job.id).await?;
    ensure!(w.is_due(job.id).await?, "an interrupted job waits for the queue");
    Ok(())
}

pub(crate) async fn a_new_run_of_a_worker_ends_the_leases_of_the_earlier_ones(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let (left, queued, later) = (save(w, "left").await?, save(w, "queued").await?, save(w, "later").await?);
    let (used_up, other) = (save(w, "used-up").await?, save(w, "other").await?);
    w.claimed(&left).await?;
    for _ in 0..7 {
        w.store.mark_published(queued.id).await?;
    }
    w.ended(&later, failed(transient(), LONG)).await?;
    for _ in 0..2 {
        w.ended(&used_up, failed(transient(), Duration::ZERO)).await?;
    }
    w.claimed(&used_up).await?;
    w.store.drain_node(&node_name("n1"), true).await?;
    w.node("n2", 0).await?;
    let elsewhere = save(w, "elsewhere").await?;
    w.claimed(&elsewhere).await?;

    w.store.register_node(&run("n1", "n1", "second"), &report(0)).await?;
    let held = w.store.claim(other.id, &node_name("n1"), "second", LONG).await?;
    let mut due = w.store.rescue_node(&node_name("n1"), "second").await?;
    due.sort();
    ensure!(due == [left.id, queued.id], "{due:?}");
    for id in due {
        ensure!(w.is_due(id).await? && w.attend(id).await? == Attend::Publish(Some(node_name("n1"))));
    }
    ensure!((w.job(left.id).await?.state, w.job(left.id).await?.attempt) == (JobState::Retrying, 1));
    ensure!(w.job(used_up.id).await?.state == JobState::Failed);
    ensure!(w.job(later.id).await?.next_attempt_at.is_some() && !w.is_due(later.id).await?);
    ensure!(w.job(elsewhere.id).await?.state == JobState::Running, "{held:?}");
    ensure!(w.job(other.id).await?.state == JobState::Running, "it rescued from itself");
    ensure!(w.store.rescue_node(&node_name("n1"), "second").await?.len() == 2, "it is idempotent");
    Ok(())
}

pub(crate) async fn many_schedulers_at_once_do_no_harm(w: &World) -> Result<()> {
    w.node("n1", 2).await?;
    let dead = save(w, "dead").await?;
    w.claimed_for(&dead, Duration::ZERO).await?;
    let first = w.launched("first", 2).await?;
    let waits = w.new_job(&request(JobSpec::Launch, new_container("waits", 2))).await?;
    w.deleted(&first).await?;
    let mut crowd = JoinSet::new();
    for i in 0..32 {
        let (store, id) = (w.store.clone(), if i % 2 == 0 { dead.id } else { waits.id });
        crowd.spawn(async move { store.attend(id, PATIENT).await });
    }
    for outcome in crowd.join_all().await {
        ensure!(outcome? == Attend::Publish(Some(node_name("n1"))));
    }
    let rescued = w.job(dead.id).await?;
    ensure!(
        rescued.attempt == 1 && rescued.events.iter().filter(|e| e.event == "lease_expired").count() == 1
    );
    let placed = w.job(waits.id).await?;
    ensure!(placed.events.iter().filter(|e| e.event == "placed").count() == 1);
    Ok(())
}

pub(crate) async fn a_deferred_job_is_looked_at_later(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let job = save(w, "box").await?;
    w.store.defer(job.id, LONG).await?;
    ensure!(!w.is_due(job.id).await?);
    due_in(w, &job, 3500.0..=3600.0).await?;
    w.store.defer(fresh_id(), LONG).await?;
    ensure!(w.job(job.id).await? == job);
    w.ended(&job, Outcome::Succeeded(Effect::None)).await?;
    w.store.defer(job.id, LONG).await?;
    ensure!(w.due_in_s(job.id).await?.is_none(), "a job that is over is due again");
    Ok(())
}
