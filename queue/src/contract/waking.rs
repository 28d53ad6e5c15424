//! What `wake` and `declare` promise.

use super::given::{consumer, job, jobs, node, quiet, take_all, woken};
use crate::{Queue, QueueError, Target};
use anyhow::ensure;
use tokio::task::JoinSet;

pub(super) async fn every_wake_is_delivered_once_when_all_goes_well(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu01")?;
    let mut consumer = consumer(queue, &target, 2);
    woken(queue, &target, &jobs(0..20)).await?;
    take_all(&mut consumer, &jobs(0..20)).await?;
    quiet(&mut consumer).await
}

pub(super) async fn a_wake_without_a_consumer_is_held(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu01")?;
    woken(queue, &target, &jobs(0..3)).await?;
    take_all(&mut consumer(queue, &target, 2), &jobs(0..3)).await
}

pub(super) async fn a_wake_to_an_undeclared_target_is_unroutable(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu.99")?;
    let outcome = queue.wake(&target, job(1)).await;
    ensure!(outcome == Err(QueueError::Unroutable { target: target.clone() }), "{outcome:?}");
    // Another target's queue does not take it either.
    woken(queue, &node("gpu")?, &jobs(0..1)).await?;
    ensure!(queue.wake(&target, job(1)).await.is_err());
    woken(queue, &target, &jobs(1..2)).await
}

pub(super) async fn declaring_twice_changes_nothing(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu01")?;
    woken(queue, &target, &jobs(0..2)).await?;
    queue.declare(&target).await?;
    take_all(&mut consumer(queue, &target, 2), &jobs(0..2)).await
}

pub(super) async fn surveys_and_jobs_of_a_node_do_not_wait_for_each_other(
    queue: &Queue,
) -> anyhow::Result<()> {
    let jobs_of = node("gpu01")?;
    let surveys_of = Target::Survey("gpu01".parse()?);
    queue.declare(&jobs_of).await?;
    ensure!(queue.wake(&surveys_of, job(1)).await.is_err(), "the queue of jobs took a survey");
    woken(queue, &surveys_of, &jobs(0..2)).await?;
    woken(queue, &jobs_of, &jobs(2..4)).await?;
    // The consumer of jobs has its hands full; surveys are delivered all the same.
    let mut busy = consumer(queue, &jobs_of, 1);
    let _held = busy.recv().await;
    take_all(&mut consumer(queue, &surveys_of, 2), &jobs(0..2)).await
}

pub(super) async fn two_hundred_wakes_from_eight_tasks_all_arrive(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu01")?;
    let mut consumer = consumer(queue, &target, 4);
    queue.declare(&target).await?;
    let mut tasks = JoinSet::new();
    for task in 0..8u128 {
        let (queue, target) = (queue.clone(), target.clone());
        tasks.spawn(async move {
            for number in 0..25 {
                queue.wake(&target, job(task * 25 + number)).await?;
            }
            Ok::<(), QueueError>(())
        });
    }
    take_all(&mut consumer, &jobs(0..200)).await?;
    while let Some(outcome) = tasks.join_next().await {
        outcome??;
    }
    Ok(())
}
