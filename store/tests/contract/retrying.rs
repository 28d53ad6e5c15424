//! A retry by a person.

use crate::world::*;
use anyhow::{Context, Result, bail, ensure};
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::job::{Checkpoint, Job, JobSpec, Then};
use mothball_domain::state::JobState;
use mothball_store::{ContainerChange, Effect, Outcome, Retried, Target};

async fn failed_save(w: &World) -> Result<(Container, Job)> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    let job = w.new_job(&request(snapshot("base:v1", Then::Delete), Target::Container(container.id))).await?;
    Ok((container, w.ended(&job, failed(permanent(), LONG)).await?))
}

async fn retried(w: &World, job: &Job) -> Result<Job> {
    match w.store.retry(job.id, LONG).await? {
        Retried::Queued(job) => Ok(*job),
        other => bail!("{other:?}"),
    }
}

async fn impossible(w: &World, job: &Job, word: &str) -> Result<()> {
    let before = w.job(job.id).await?;
    match w.store.retry(job.id, LONG).await? {
        Retried::Impossible(why) => ensure!(why.contains(word), "{why}"),
        other => bail!("{other:?}"),
    }
    ensure!(w.job(job.id).await? == before, "a refused retry changed the job");
    Ok(())
}

pub(crate) async fn a_person_gets_all_attempts_anew(w: &World) -> Result<()> {
    let (container, job) = failed_save(w).await?;
    let queued = retried(w, &job).await?;
    ensure!((queued.state, queued.attempt, &queued.error) == (JobState::Queued, 0, &None));
    ensure!(queued.finished_at.is_none() && queued.events.last().is_some_and(|e| e.event == "retried"));
    ensure!(w.is_due(job.id).await? && w.container(container.id).await?.job == Some(job.id));
    ensure!(w.store.retry(job.id, LONG).await? == Retried::NotFailed(Box::new(queued)));
    let held = w.claimed(&job).await?;
    ensure!(held.attempt == 1 && held.fence.0 == 2, "the fence of a retried job began anew");
    w.settled(&held, Outcome::Cancelled).await?;
    retried(w, &job).await?;
    let over = w.ended(&job, Outcome::Succeeded(Effect::Removed)).await?;
    ensure!(w.store.retry(job.id, LONG).await? == Retried::NotFailed(Box::new(over)));
    ensure!(w.store.retry(fresh_id(), LONG).await? == Retried::NoJob);
    Ok(())
}

pub(crate) async fn a_retry_needs_the_container_for_itself(w: &World) -> Result<()> {
    let (container, job) = failed_save(w).await?;
    let other = w.new_job(&request(JobSpec::Stop, Target::Container(container.id))).await?;
    ensure!(w.store.retry(job.id, LONG).await? == Retried::Busy(Box::new(other.clone())));
    w.ended(&other, Outcome::Succeeded(Effect::Stopped)).await?;
    retried(w, &job).await.map(drop)
}

pub(crate) async fn a_retry_needs_the_image_for_itself(w: &World) -> Result<()> {
    let (_, job) = failed_save(w).await?;
    let second = w.launched("second", 0).await?;
    let other = w.new_job(&request(snapshot("base:v1", Then::Keep), Target::Container(second.id))).await?;
    ensure!(w.store.retry(job.id, LONG).await? == Retried::Busy(Box::new(other.clone())));
    w.ended(&other, Outcome::Succeeded(Effect::None)).await?;
    retried(w, &job).await.map(drop)
}

pub(crate) async fn a_retry_of_what_is_gone_or_protected_is_refused_with_the_reason(w: &World) -> Result<()> {
    let (container, job) = failed_save(w).await?;
    let protect = |protected| ContainerChange { protected: Some(protected), ..ContainerChange::default() };
    w.store.change_container(container.id, &protect(true)).await?;
    impossible(w, &job, "protected").await?;
    w.store.change_container(container.id, &protect(false)).await?;
    w.deleted(&container).await?;
    impossible(w, &job, "deleted").await?;
    let launch = w.new_job(&request(JobSpec::Launch, new_container("other", 0))).await?;
    w.store.cancel(launch.id).await?;
    impossible(w, &launch, "make a new request").await
}

pub(crate) async fn a_launch_takes_its_gpus_anew_or_waits_for_them(w: &World) -> Result<()> {
    w.node("n1", 2).await?;
    let job = w.new_job(&request(JobSpec::Launch, new_container("box", 2))).await?;
    let id = job.container.context("a container")?;
    w.ended(&job, failed(permanent(), LONG)).await?;
    let other = w.launched("other", 1).await?;
    let waits = retried(w, &job).await?;
    ensure!(
        waits.node.is_none() && waits.waiting_for.as_deref() == Some("2 free GPUs on one node"),
        "{waits:?}"
    );
    let container = w.container(id).await?;
    ensure!(
        container.state == ContainerState::Initializing
            && container.gpus.is_empty()
            && container.node.is_none()
    );
    w.deleted(&other).await?;
    ensure!(w.is_due(job.id).await?);
    w.attend(job.id).await?;
    ensure!(w.container(id).await?.gpus == [0, 1]);
    w.ended(&job, failed(permanent(), LONG)).await?;
    let placed = retried(w, &job).await?;
    ensure!(placed.node == Some(node_name("n1")) && placed.waiting_for.is_none() && w.is_due(job.id).await?);
    w.ended(&job, running("d")).await?;
    ensure!(w.container(id).await?.state == ContainerState::Ready && w.container(id).await?.reason.is_none());
    Ok(())
}

pub(crate) async fn a_launch_that_made_a_container_goes_on_where_it_is(w: &World) -> Result<()> {
    w.node("n1", 1).await?;
    let job = w.new_job(&request(JobSpec::Launch, new_container("box", 1))).await?;
    let held = w.claimed(&job).await?;
    let made = Checkpoint { created: Some("d".into()), ..Checkpoint::default() };
    w.store.checkpoint(job.id, held.fence, &at_checkpoint(made)).await?;
    w.settled(&held, failed(permanent(), LONG)).await?;
    w.node("n2", 1).await?;
    let queued = retried(w, &job).await?;
    ensure!(queued.node == Some(node_name("n1")) && queued.checkpoint.created.as_deref() == Some("d"));
    ensure!(w.container(job.container.context("a container")?).await?.gpus == [0]);
    w.ended(&job, running("d")).await.map(drop)
}

pub(crate) async fn a_retry_of_an_image_deletion_needs_the_same_image(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    w.saved(&container, "base:v1", 1).await?;
    let spec = JobSpec::DeleteImage { image: image("base:v1"), digest: digest(1) };
    let job = w.new_job(&request(spec, Target::Image)).await?;
    w.ended(&job, failed(permanent(), LONG)).await?;
    w.saved(&container, "base:v1", 2).await?;
    impossible(w, &job, "overwritten").await?;
    w.saved(&container, "base:v1", 1).await?;
    retried(w, &job).await?;
    w.ended(&job, failed(permanent(), LONG)).await?;
    let other = w.new_job(&request(job.spec.clone(), Target::Image)).await?;
    w.ended(&other, Outcome::Succeeded(Effect::ImageRemoved { undo: LONG })).await?;
    impossible(w, &job, "is gone").await
}

pub(crate) async fn a_retry_keeps_to_the_quota(w: &World) -> Result<()> {
    w.store.create_project(&project("p")).await?;
    let (_, job) = failed_save(w).await?;
    let second = w.launched("second", 0).await?;
    w.saved(&second, "base:v2", 1).await?;
    w.store.set_quota(&project("p"), None, Some(1)).await?;
    impossible(w, &job, "quota").await?;
    w.store.set_quota(&project("p"), None, Some(2)).await?;
    retried(w, &job).await.map(drop)
}
