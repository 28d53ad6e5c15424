//! What `subscribe`, `recv` and `close` promise.

use super::given::{consumer, healthy, job, jobs, next, node, quiet, take_all, woken};
use crate::{Queue, QueueError, Target};
use anyhow::ensure;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(super) async fn subscribing_declares(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu01")?;
    let mut consumer = consumer(queue, &target, 2);
    healthy(queue, |health| health.consumers == 1).await?;
    queue.wake(&target, job(1)).await?;
    take_all(&mut consumer, &jobs(1..2)).await?;
    drop(consumer);
    healthy(queue, |health| health.consumers == 0).await
}

pub(super) async fn one_subscription_serves_many_targets(queue: &Queue) -> anyhow::Result<()> {
    let targets = vec![node("gpu01")?, Target::Any];
    woken(queue, &targets[0], &jobs(0..5)).await?;
    woken(queue, &targets[1], &jobs(5..10)).await?;
    let mut consumer = queue.subscribe(targets, 2, CancellationToken::new());
    take_all(&mut consumer, &jobs(0..10)).await
}

pub(super) async fn two_consumers_share(queue: &Queue) -> anyhow::Result<()> {
    let (mut one, mut other) = (consumer(queue, &Target::Any, 1), consumer(queue, &Target::Any, 1));
    woken(queue, &Target::Any, &jobs(0..2)).await?;
    let (first, second) = (next(&mut one).await?, next(&mut other).await?);
    ensure!(BTreeSet::from([first.job, second.job]) == jobs(0..2), "both got {}", first.job);
    first.ack().await?;
    second.ack().await?;
    Ok(())
}

pub(super) async fn no_more_than_prefetch_is_out(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu01")?;
    woken(queue, &target, &jobs(0..6)).await?;
    let mut consumer = consumer(queue, &target, 2);
    let (first, second) = (next(&mut consumer).await?, next(&mut consumer).await?);
    quiet(&mut consumer).await?;
    first.ack().await?;
    let third = next(&mut consumer).await?;
    quiet(&mut consumer).await?;
    second.ack().await?;
    third.nack().await?;
    let mut left = BTreeSet::new();
    for _ in 0..4 {
        let delivery = next(&mut consumer).await?;
        left.insert(delivery.job);
        delivery.ack().await?;
    }
    ensure!(left.len() == 4, "not every job came: {left:?}");
    Ok(())
}

pub(super) async fn a_receive_that_is_given_up_loses_nothing(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu01")?;
    let mut consumer = consumer(queue, &target, 3);
    woken(queue, &target, &jobs(0..50)).await?;
    let mut seen = BTreeSet::new();
    while seen.len() < 50 {
        if let Ok(Some(delivery)) = timeout(Duration::from_micros(200), consumer.recv()).await {
            seen.insert(delivery.job);
            delivery.ack().await?;
        }
    }
    quiet(&mut consumer).await
}

pub(super) async fn cancel_ends_receiving_and_frees_what_waits(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu01")?;
    woken(queue, &target, &jobs(0..5)).await?;
    let cancel = CancellationToken::new();
    let mut cancelled = queue.subscribe(vec![target.clone()], 4, cancel.clone());
    next(&mut cancelled).await?.nack().await?;
    cancel.cancel();
    ensure!(cancelled.recv().await.is_none(), "a cancelled subscription delivers");
    ensure!(cancelled.recv().await.is_none(), "a cancelled subscription delivers again");
    drop(cancelled);
    take_all(&mut consumer(queue, &target, 4), &jobs(0..5)).await
}

pub(super) async fn what_is_in_hand_at_a_cancel_may_still_be_settled(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu01")?;
    woken(queue, &target, &jobs(0..1)).await?;
    let cancel = CancellationToken::new();
    let mut cancelled = queue.subscribe(vec![target.clone()], 1, cancel.clone());
    let in_hand = next(&mut cancelled).await?;
    cancel.cancel();
    ensure!(cancelled.recv().await.is_none(), "a cancelled subscription delivers");
    in_hand.ack().await?;
    drop(cancelled);
    quiet(&mut consumer(queue, &target, 1)).await
}

pub(super) async fn close_ends_everything(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu01")?;
    let mut consumer = consumer(queue, &target, 1);
    woken(queue, &target, &jobs(0..1)).await?;
    take_all(&mut consumer, &jobs(0..1)).await?;
    queue.close().await;
    queue.close().await;
    ensure!(consumer.recv().await.is_none(), "a closed queue delivers");
    ensure!(queue.subscribe(vec![target.clone()], 1, CancellationToken::new()).recv().await.is_none());
    for outcome in [
        queue.wake(&target, job(1)).await,
        queue.declare(&target).await,
        queue.health().await.map(|_| ()),
        queue.dead_letters(1).await.map(|_| ()),
    ] {
        ensure!(outcome == Err(QueueError::Closed), "after the close: {outcome:?}");
    }
    Ok(())
}
