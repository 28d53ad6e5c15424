//! Ending: what an outcome does to the job, its container, its image and the bill.

use crate::world::*;
use anyhow::{Context, Result, ensure};
use mothball_domain::container::{Container, ContainerState, Launch, Source};
use mothball_domain::job::{Checkpoint, Job, JobSpec, Then};
use mothball_domain::state::JobState;
use mothball_harness::wait::eventually;
use mothball_store::{Attend, Effect, Observed, Outcome, Settled, Submission, Target};
use std::time::Duration;

async fn ready(w: &World) -> Result<Container> {
    w.node("n1", 2).await?;
    w.launched("box", 1).await
}

async fn held(w: &World, spec: JobSpec, container: &Container) -> Result<Job> {
    let job = w.new_job(&request(spec, Target::Container(container.id))).await?;
    w.claimed(&job).await
}

/// The one node's GPUs that are held.
async fn gpus_held(w: &World) -> Result<usize> {
    Ok(w.store.nodes().await?.iter().map(|(_, reservations)| reservations.gpus_held()).sum())
}

fn gone() -> Checkpoint {
    Checkpoint { removed_at: Some(jiff::Timestamp::UNIX_EPOCH), ..Checkpoint::default() }
}

pub(crate) async fn success_ends_a_job_once(w: &World) -> Result<()> {
    let container = ready(w).await?;
    let job = held(w, snapshot("base:v1", Then::Keep), &container).await?;
    let done = w.settled(&job, Outcome::Succeeded(Effect::None)).await?;
    ensure!(done.state == JobState::Succeeded && done.finished_at.is_some() && done.lease.is_none());
    ensure!(w.store.settle(job.id, job.fence, &Outcome::Succeeded(Effect::None)).await? == Settled::Lost);
    ensure!(w.attend(job.id).await? == Attend::Nothing && w.due_in_s(job.id).await?.is_none());
    ensure!(w.container(container.id).await? == container, "a plain save changed the container");
    Ok(())
}

pub(crate) async fn a_transient_failure_waits_for_its_time(w: &World) -> Result<()> {
    let container = ready(w).await?;
    let job = held(w, snapshot("base:v1", Then::Keep), &container).await?;
    let waits = w.settled(&job, failed(transient(), LONG)).await?;
    ensure!(
        waits.state == JobState::Retrying && waits.error == Some(transient()) && waits.finished_at.is_none()
    );
    ensure!(!w.is_due(job.id).await? && w.attend(job.id).await? == Attend::Nothing, "the retry came early");
    ensure!(w.container(container.id).await?.job == Some(job.id));
    w.store.cancel(job.id).await?;
    let job = held(w, snapshot("base:v1", Then::Keep), &container).await?;
    w.settled(&job, failed(transient(), Duration::from_millis(200))).await?;
    eventually(SOON, "the retry", async || w.is_due(job.id).await.ok()?.then_some(())).await?;
    ensure!(w.attend(job.id).await? == Attend::Publish(Some(node_name("n1"))));
    ensure!(w.claimed(&job).await?.attempt == 2);
    Ok(())
}

pub(crate) async fn a_permanent_failure_ends_the_job(w: &World) -> Result<()> {
    let container = ready(w).await?;
    let job = held(w, snapshot("base:v1", Then::Keep), &container).await?;
    let over = w.settled(&job, failed(permanent(), LONG)).await?;
    ensure!(over.state == JobState::Failed && over.error == Some(permanent()) && over.attempt == 1);
    ensure!(w.container(container.id).await? == container, "the failed save changed the container");
    Ok(())
}

pub(crate) async fn the_last_attempt_ends_the_job(w: &World) -> Result<()> {
    let container = ready(w).await?;
    let job = w.new_job(&request(snapshot("base:v1", Then::Keep), Target::Container(container.id))).await?;
    for expected in [JobState::Retrying, JobState::Retrying, JobState::Failed] {
        let after = w.ended(&job, failed(transient(), Duration::ZERO)).await?;
        ensure!(after.state == expected, "attempt {}: {}", after.attempt, after.state);
    }
    Ok(())
}

pub(crate) async fn a_save_that_deletes_ends_the_bill_when_the_container_went(w: &World) -> Result<()> {
    let container = ready(w).await?;
    ensure!(gpus_held(w).await? == 1);
    let job = held(w, snapshot("base:v1", Then::Delete), &container).await?;
    w.store.record_image(job.id, job.fence, &draft(1)).await?;
    ensure!(
        w.container(container.id).await?.metered[0].to.is_none(),
        "the bill ended before the container did"
    );
    w.store.checkpoint(job.id, job.fence, &at_checkpoint(gone())).await?;
    let removed_at = w.job(job.id).await?.checkpoint.removed_at;
    w.settled(&job, Outcome::Succeeded(Effect::Removed)).await?;
    let container = w.container(container.id).await?;
    ensure!(
        container.state == ContainerState::Deleted
            && container.docker_id.is_none()
            && container.gpus.is_empty()
    );
    ensure!(removed_at.is_some() && container.metered[0].to == removed_at);
    ensure!(gpus_held(w).await? == 0 && w.all_containers().await?.is_empty());
    Ok(())
}

pub(crate) async fn a_parked_container_wakes_as_itself(w: &World) -> Result<()> {
    let container = ready(w).await?;
    w.parked(&container, "base:parked").await?;
    let parked = w.container(container.id).await?;
    ensure!(parked.state == ContainerState::Parked && parked.parked_image == Some(image("base:parked")));
    ensure!(parked.metered[0].to.is_some() && gpus_held(w).await? == 0);
    let named = w.store.container_named(&project("p"), &container.name).await?;
    ensure!(named.as_ref() == Some(&parked), "a parked container keeps its name");
    let wake = w.new_job(&request(JobSpec::Launch, Target::Container(container.id))).await?;
    ensure!(wake.container == Some(container.id) && wake.image.as_deref() == Some("base:parked"));
    ensure!(
        w.container(container.id).await?.state == ContainerState::Initializing && gpus_held(w).await? == 1
    );
    w.ended(&wake, running("d-new")).await?;
    let awake = w.container(container.id).await?;
    ensure!(awake.state == ContainerState::Ready && awake.docker_id.as_deref() == Some("d-new"));
    ensure!(
        awake.parked_image.is_none() && awake.metered.len() == 3 && awake.created_at == container.created_at
    );
    let used = w.store.image(&project("p"), &image("base:parked")).await?.context("the image")?.last_used_at;
    ensure!(used.is_some(), "a wake uses its image");
    // A parked one can also be deleted, by any node: it is nowhere.
    w.parked(&awake, "base:parked").await?;
    let deletion = w.new_job(&request(JobSpec::Delete, Target::Container(container.id))).await?;
    ensure!(deletion.node.is_none());
    w.ended(&deletion, Outcome::Succeeded(Effect::Removed)).await?;
    ensure!(w.container(container.id).await?.state == ContainerState::Deleted);
    Ok(())
}

pub(crate) async fn a_job_that_fails_after_the_removal_does_not_bill_on(w: &World) -> Result<()> {
    let ends = [(Then::Delete, ContainerState::Deleted), (Then::Park, ContainerState::Parked)];
    w.node("n1", 2).await?;
    for (then, expected) in ends {
        let container = w.launched("box", 1).await?;
        let job = held(w, snapshot("base:v1", then), &container).await?;
        w.store.checkpoint(job.id, job.fence, &at_checkpoint(gone())).await?;
        w.settled(&job, failed(permanent(), LONG)).await?;
        let container = w.container(container.id).await?;
        ensure!(container.state == expected && container.metered[0].to.is_some(), "{then:?}: {container:?}");
        ensure!(gpus_held(w).await? == 0);
    }
    Ok(())
}

pub(crate) async fn a_launch_that_failed_before_it_made_anything_gives_its_place_back(
    w: &World,
) -> Result<()> {
    w.node("n1", 1).await?;
    let job = w.new_job(&request(JobSpec::Launch, new_container("box", 1))).await?;
    ensure!(gpus_held(w).await? == 1);
    w.ended(&job, failed(permanent(), LONG)).await?;
    let container = w.container(job.container.context("a container")?).await?;
    ensure!(container.state == ContainerState::Error && container.metered.is_empty());
    ensure!(
        container.reason.as_deref().is_some_and(|r| r.contains("refused the password")),
        "{:?}",
        container.reason
    );
    ensure!(gpus_held(w).await? == 0);
    w.deleted(&container).await?;
    w.launched("box", 1).await.map(drop)
}

pub(crate) async fn a_launch_that_failed_after_it_made_a_container_keeps_its_place(w: &World) -> Result<()> {
    w.node("n1", 1).await?;
    let job = w.new_job(&request(JobSpec::Launch, new_container("box", 1))).await?;
    let held = w.claimed(&job).await?;
    let made = Checkpoint { created: Some("d-made".into()), ..Checkpoint::default() };
    w.store.checkpoint(job.id, held.fence, &at_checkpoint(made)).await?;
    w.settled(&held, failed(permanent(), LONG)).await?;
    let container = w.container(job.container.context("a container")?).await?;
    ensure!(container.state == ContainerState::Error && container.docker_id.as_deref() == Some("d-made"));
    ensure!(gpus_held(w).await? == 1, "its GPUs are given away while its container is there");
    w.deleted(&container).await?;
    ensure!(gpus_held(w).await? == 0);
    Ok(())
}

pub(crate) async fn a_deletion_that_failed_leaves_the_container(w: &World) -> Result<()> {
    let container = ready(w).await?;
    let job = held(w, JobSpec::Delete, &container).await?;
    ensure!(w.container(container.id).await?.state == ContainerState::Deleting);
    w.settled(&job, failed(permanent(), LONG)).await?;
    ensure!(w.container(container.id).await? == container);
    let job = held(w, JobSpec::Delete, &container).await?;
    w.settled(&job, Outcome::Cancelled).await?;
    ensure!(w.container(container.id).await? == container);
    Ok(())
}

pub(crate) async fn a_lost_container_whose_deletion_failed_stays_lost(w: &World) -> Result<()> {
    let container = ready(w).await?;
    let docker_id = container.docker_id.clone().context("a Docker id")?;
    let seen = Observed { id: container.id, docker_id, running: None, writable_bytes: None };
    w.store.observe("n1", &seen).await?;
    let lost = w.container(container.id).await?;
    ensure!(lost.state == ContainerState::Lost && lost.metered[0].to.is_some());
    let job = held(w, JobSpec::Delete, &lost).await?;
    w.settled(&job, failed(permanent(), LONG)).await?;
    ensure!(w.container(container.id).await? == lost);
    w.deleted(&lost).await?;
    ensure!(w.container(container.id).await?.metered == lost.metered, "a lost container was billed again");
    Ok(())
}

pub(crate) async fn stop_and_start_are_one_bill(w: &World) -> Result<()> {
    let container = ready(w).await?;
    let stop = held(w, JobSpec::Stop, &container).await?;
    w.settled(&stop, Outcome::Succeeded(Effect::Stopped)).await?;
    let stopped = w.container(container.id).await?;
    ensure!(
        stopped.state == ContainerState::Stopped
            && stopped.metered == container.metered
            && gpus_held(w).await? == 1
    );
    let start = held(w, JobSpec::Start, &stopped).await?;
    w.settled(&start, running("d-box")).await?;
    let started = w.container(container.id).await?;
    ensure!(started.state == ContainerState::Ready && started.metered == container.metered);
    w.deleted(&started).await?;
    let deleted = w.container(container.id).await?;
    let end = deleted.metered[0].to.context("an end")?;
    let lasted_ms = end.as_millisecond() - deleted.metered[0].from.as_millisecond();
    // 36 an hour is a hundredth a second.
    let expected = rust_decimal::Decimal::new(lasted_ms, 5).normalize();
    ensure!(deleted.cost(w.store.now().await?) == expected, "{} for {lasted_ms} ms", deleted.cost(end));
    ensure!(deleted.usage(end).billed_ms == lasted_ms);
    Ok(())
}

pub(crate) async fn deleting_an_image_removes_its_record(w: &World) -> Result<()> {
    let container = ready(w).await?;
    w.saved(&container, "base:v1", 1).await?;
    let spec = JobSpec::DeleteImage { image: image("base:v1"), digest: digest(1) };
    let job = w.new_job(&request(spec, Target::Image)).await?;
    w.ended(&job, Outcome::Succeeded(Effect::ImageRemoved { undo: LONG })).await?;
    ensure!(w.store.image(&project("p"), &image("base:v1")).await?.is_none());
    ensure!(w.store.images(&project("p"), None, 9).await?.items.is_empty());
    Ok(())
}

pub(crate) async fn a_launch_marks_its_image_as_used(w: &World) -> Result<()> {
    let container = ready(w).await?;
    w.saved(&container, "base:v1", 1).await?;
    ensure!(w.store.image(&project("p"), &image("base:v1")).await?.context("image")?.last_used_at.is_none());
    let source = Source::Custom {
        image: image("base:v1"),
        digest: digest(1),
        reference: "registry/p/base@sha256".into(),
    };
    let mut target = new_container("second", 0);
    if let Target::New(new) = &mut target {
        new.launch = Launch { source, ..new.launch.clone() };
    }
    let job = w.new_job(&Submission { user: user("bob"), ..request(JobSpec::Launch, target) }).await?;
    ensure!(job.image.as_deref() == Some("base:v1"));
    w.ended(&job, running("d-second")).await?;
    ensure!(w.store.image(&project("p"), &image("base:v1")).await?.context("image")?.last_used_at.is_some());
    Ok(())
}
