//! Cancelling, in every state.

use crate::world::*;
use anyhow::{Context, Result, bail, ensure};
use mothball_domain::container::ContainerState;
use mothball_domain::job::{Checkpoint, Job, JobSpec, Then};
use mothball_domain::state::JobState;
use mothball_store::{Attend, Cancelled, Claim, Effect, Outcome, Renewal, Target};
use std::time::Duration;

/// A job to save a container on node n1.
async fn save(w: &World) -> Result<Job> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    w.new_job(&request(snapshot("base:v1", Then::Keep), Target::Container(container.id))).await
}

async fn is_free(w: &World, job: &Job) -> Result<()> {
    let container = w.container(job.container.context("a container")?).await?;
    ensure!(container.job.is_none() && container.state == ContainerState::Ready, "{container:?}");
    w.new_job(&request(job.spec.clone(), Target::Container(container.id))).await.map(drop)
}

async fn done(w: &World, job: &Job) -> Result<Job> {
    match w.store.cancel(job.id).await? {
        Cancelled::Done(job) if job.state == JobState::Cancelled => Ok(*job),
        other => bail!("{other:?}"),
    }
}

async fn requested(w: &World, job: &Job) -> Result<()> {
    match w.store.cancel(job.id).await? {
        Cancelled::Requested(now) => ensure!(now.cancel_requested && now.state == w.job(job.id).await?.state),
        other => bail!("{other:?}"),
    }
    Ok(())
}

pub(crate) async fn what_waits_is_cancelled_at_once(w: &World) -> Result<()> {
    let job = save(w).await?;
    let over = done(w, &job).await?;
    ensure!(over.finished_at.is_some() && w.due_in_s(job.id).await?.is_none());
    is_free(w, &job).await?;
    let next = w.all_jobs().await?.remove(0);
    w.ended(&next, failed(transient(), LONG)).await?;
    done(w, &next).await?;
    is_free(w, &next).await
}

pub(crate) async fn what_runs_is_told(w: &World) -> Result<()> {
    let job = save(w).await?;
    let held = w.claimed(&job).await?;
    for _ in 0..3 {
        requested(w, &job).await?;
    }
    let told = w.job(job.id).await?;
    ensure!(told.state == JobState::Running && told.lease == held.lease);
    ensure!(told.events.iter().filter(|e| e.event == "cancel_requested").count() == 1);
    ensure!(w.store.renew(job.id, held.fence, LONG, None).await? == Renewal::Held { cancel: true });
    let over = w.settled(&held, Outcome::Cancelled).await?;
    ensure!(over.state == JobState::Cancelled);
    is_free(w, &job).await?;
    // Whoever was done before it heard of the cancel has succeeded.
    let next = w.all_jobs().await?.remove(0);
    let held = w.claimed(&next).await?;
    requested(w, &next).await?;
    ensure!(w.settled(&held, Outcome::Succeeded(Effect::None)).await?.state == JobState::Succeeded);
    Ok(())
}

pub(crate) async fn what_is_over_stays_as_it_is(w: &World) -> Result<()> {
    let job = save(w).await?;
    let over = w.ended(&job, Outcome::Succeeded(Effect::None)).await?;
    ensure!(w.store.cancel(job.id).await? == Cancelled::Over(Box::new(over.clone())));
    ensure!(w.job(job.id).await? == over);
    ensure!(w.store.cancel(fresh_id()).await? == Cancelled::NoJob);
    Ok(())
}

pub(crate) async fn a_dead_holders_job_is_cancelled_not_failed(w: &World) -> Result<()> {
    let job = save(w).await?;
    for _ in 0..3 {
        w.claimed_for(&job, Duration::ZERO).await?;
    }
    requested(w, &job).await?;
    match w.attend(job.id).await? {
        Attend::Settled(over) => ensure!(over.state == JobState::Cancelled, "{}", over.state),
        other => bail!("{other:?}"),
    }
    is_free(w, &job).await?;
    let next = w.all_jobs().await?.remove(0);
    w.claimed_for(&next, Duration::ZERO).await?;
    requested(w, &next).await?;
    ensure!(w.store.claim(next.id, &node_name("n1"), "late", LONG).await? == Claim::Over);
    ensure!(w.job(next.id).await?.state == JobState::Cancelled);
    Ok(())
}

pub(crate) async fn a_cancelled_job_is_not_kept_waiting_for_its_retry(w: &World) -> Result<()> {
    let job = save(w).await?;
    let held = w.claimed(&job).await?;
    requested(w, &job).await?;
    w.settled(&held, failed(transient(), LONG)).await?;
    ensure!(w.is_due(job.id).await?);
    ensure!(matches!(w.attend(job.id).await?, Attend::Settled(over) if over.state == JobState::Cancelled));
    is_free(w, &job).await
}

/// A job whose attempt failed while the container was frozen, and whose retry is far away.
async fn frozen_save(w: &World) -> Result<Job> {
    let job = save(w).await?;
    let held = w.claimed(&job).await?;
    w.store.checkpoint(job.id, held.fence, &frozen()).await?;
    w.settled(&held, failed(transient(), LONG)).await
}

pub(crate) async fn a_frozen_container_is_thawed_before_its_job_is_cancelled(w: &World) -> Result<()> {
    let job = frozen_save(w).await?;
    requested(w, &job).await?;
    ensure!(w.is_due(job.id).await?, "the container stays frozen until the retry");
    ensure!(w.attend(job.id).await? == Attend::Publish(Some(node_name("n1"))));
    let held = w.claimed(&job).await?;
    ensure!(held.cancel_requested && held.checkpoint.frozen.is_some());
    w.store.checkpoint(job.id, held.fence, &at_checkpoint(Checkpoint::default())).await?;
    w.settled(&held, Outcome::Cancelled).await?;
    is_free(w, &job).await
}

pub(crate) async fn a_frozen_container_on_a_dead_node_does_not_keep_its_job(w: &World) -> Result<()> {
    let job = frozen_save(w).await?;
    w.store.node_stopped(&run("n1", "n1", "first")).await?;
    requested(w, &job).await?;
    ensure!(matches!(w.attend(job.id).await?, Attend::Settled(over) if over.state == JobState::Cancelled));
    is_free(w, &job).await
}

pub(crate) async fn a_cancelled_launch_frees_its_name_and_its_gpus(w: &World) -> Result<()> {
    w.node("n1", 1).await?;
    let job = w.new_job(&request(JobSpec::Launch, new_container("box", 1))).await?;
    let waits = w.new_job(&request(JobSpec::Launch, new_container("next", 1))).await?;
    ensure!(waits.node.is_none() && !w.is_due(waits.id).await?);
    done(w, &job).await?;
    ensure!(w.container(job.container.context("a container")?).await?.state == ContainerState::Deleted);
    ensure!(w.is_due(waits.id).await?, "nobody looks at who waits");
    w.new_job(&request(JobSpec::Launch, new_container("box", 0))).await.map(drop)
}

pub(crate) async fn a_cancelled_launch_that_made_a_container_leaves_it_to_be_deleted(
    w: &World,
) -> Result<()> {
    w.node("n1", 1).await?;
    let job = w.new_job(&request(JobSpec::Launch, new_container("box", 1))).await?;
    let held = w.claimed(&job).await?;
    let made = Checkpoint { created: Some("d".into()), ..Checkpoint::default() };
    w.store.checkpoint(job.id, held.fence, &at_checkpoint(made)).await?;
    w.settled(&held, Outcome::Cancelled).await?;
    let container = w.container(job.container.context("a container")?).await?;
    ensure!(
        container.state == ContainerState::Error && container.docker_id.is_some() && container.gpus == [0]
    );
    w.deleted(&container).await.map(drop)
}

pub(crate) async fn a_cancelled_wake_stays_parked(w: &World) -> Result<()> {
    w.node("n1", 1).await?;
    let container = w.launched("box", 1).await?;
    w.parked(&container, "base:parked").await?;
    let wake = w.new_job(&request(JobSpec::Launch, Target::Container(container.id))).await?;
    done(w, &wake).await?;
    let container = w.container(container.id).await?;
    ensure!(container.state == ContainerState::Parked && container.gpus.is_empty());
    ensure!(container.parked_image == Some(image("base:parked")));
    w.new_job(&request(JobSpec::Launch, Target::Container(container.id))).await.map(drop)
}
