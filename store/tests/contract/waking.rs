//! Waking: a parked container is launched again, as the size it had or as another, and stays parked where that fails.

use crate::world::*;
use anyhow::{Context, Result, ensure};
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::flavor::Flavor;
use mothball_domain::job::{Checkpoint, Job, JobSpec};
use mothball_store::{Retried, Submission, Submitted, Target};
use rust_decimal::Decimal;

/// A size of this many GPUs, at 100 an hour for each.
fn size(gpus: u32) -> Flavor {
    let mut flavor = launch_with(gpus).flavor;
    flavor.price_per_hour = Decimal::from(100 * gpus);
    flavor
}

fn wake(container: &Container, flavor: &Flavor) -> Submission {
    request(JobSpec::Launch, Target::Wake(container.id, Box::new(flavor.clone())))
}

/// A container that was parked with one GPU; four are there.
async fn parked(w: &World) -> Result<Container> {
    w.node("n1", 4).await?;
    let container = w.launched("box", 1).await?;
    w.parked(&container, "base:parked").await?;
    w.container(container.id).await
}

async fn is_parked_as_before(w: &World, before: &Container, job: &Job) -> Result<()> {
    let now = w.container(before.id).await?;
    ensure!(now.state == ContainerState::Parked && now.launch == before.launch, "{now:?}");
    ensure!(now.gpus.is_empty() && now.parked_flavor.is_none() && now.parked_image == before.parked_image);
    ensure!(w.job(job.id).await?.state.is_final());
    Ok(())
}

pub(crate) async fn a_container_wakes_as_another_size(w: &World) -> Result<()> {
    let before = parked(w).await?;
    let job = w.new_job(&wake(&before, &size(3))).await?;
    ensure!(job.flavor == Some(size(3)) && job.node == Some(node_name("n1")));
    let waking = w.container(before.id).await?;
    ensure!(waking.gpus.len() == 3 && waking.launch.flavor == size(3));
    w.ended(&job, running("d-new")).await?;
    let awake = w.container(before.id).await?;
    ensure!(awake.state == ContainerState::Ready && awake.launch.flavor == size(3) && awake.gpus.len() == 3);
    ensure!(awake.parked_flavor.is_none());
    ensure!(
        (&awake.name, &awake.launch.env, &awake.launch.ports)
            == (&before.name, &before.launch.env, &before.launch.ports),
        "what is not its size has changed"
    );
    // The next park remembers what it was then.
    w.parked(&awake, "base:parked").await?;
    let job = w.new_job(&wake(&before, &size(3))).await?;
    ensure!(job.flavor.is_none() && w.container(before.id).await?.gpus.len() == 3);
    w.ended(&job, running("d-newer")).await.map(drop)
}

pub(crate) async fn a_wake_as_another_size_that_fails_leaves_it_as_it_was_parked(w: &World) -> Result<()> {
    let before = parked(w).await?;
    let job = w.new_job(&wake(&before, &size(2))).await?;
    w.ended(&job, failed(permanent(), LONG)).await?;
    is_parked_as_before(w, &before, &job).await?;
    // Tried again by a person it is what was asked for.
    ensure!(matches!(w.store.retry(job.id, LONG).await?, Retried::Queued(_)));
    let waking = w.container(before.id).await?;
    ensure!(waking.gpus.len() == 2 && waking.launch.flavor == size(2));
    ensure!(waking.parked_flavor.as_ref() == Some(&before.launch.flavor));
    w.store.cancel(job.id).await?;
    is_parked_as_before(w, &before, &job).await?;
    // Half made it keeps its place, and its size, until that is taken away or goes on.
    ensure!(matches!(w.store.retry(job.id, LONG).await?, Retried::Queued(_)));
    let held = w.claimed(&job).await?;
    let made = Checkpoint { created: Some("d".into()), ..Checkpoint::default() };
    w.store.checkpoint(job.id, held.fence, &at_checkpoint(made)).await?;
    w.settled(&held, failed(permanent(), LONG)).await?;
    let broken = w.container(before.id).await?;
    ensure!(broken.state == ContainerState::Error && broken.gpus.len() == 2);
    ensure!(matches!(w.store.retry(job.id, LONG).await?, Retried::Queued(_)));
    w.ended(&job, running("d")).await?;
    let awake = w.container(before.id).await?;
    ensure!(awake.launch.flavor == size(2) && awake.parked_flavor.is_none() && awake.gpus.len() == 2);
    Ok(())
}

pub(crate) async fn a_wake_joins_only_one_as_the_same_size(w: &World) -> Result<()> {
    let before = parked(w).await?;
    let asked = wake(&before, &size(2));
    let job = w.new_job(&asked).await?;
    let joined = w.store.submit(&again(&asked)).await?;
    ensure!(matches!(&joined, Submitted::Joined(other) if other.id == job.id), "{joined:?}");
    for other in [wake(&before, &size(3)), by("bob", &asked)] {
        let busy = w.store.submit(&other).await?;
        ensure!(matches!(&busy, Submitted::Busy(other) if other.id == job.id), "{busy:?}");
    }
    w.store.cancel(job.id).await.map(drop).context("cancel")
}

pub(crate) async fn a_wake_waits_for_the_gpus_of_its_new_size(w: &World) -> Result<()> {
    let before = parked(w).await?;
    let other = w.launched("other", 3).await?;
    let job = w.new_job(&wake(&before, &size(2))).await?;
    ensure!(job.waiting_for.as_deref() == Some("2 free GPUs on one node"), "{job:?}");
    w.deleted(&other).await?;
    w.attend(job.id).await?;
    ensure!(w.container(before.id).await?.gpus.len() == 2);
    w.ended(&job, running("d-new")).await?;
    let refused = w.store.submit(&wake(&before, &size(1))).await?;
    ensure!(matches!(refused, Submitted::NotNow(_)), "{refused:?}");
    Ok(())
}
