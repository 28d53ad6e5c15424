//! What `ack`, `nack` and dropping promise.

use super::given::{consumer, healthy, job, jobs, next, node, quiet, take_all, woken};
use crate::{DELIVERY_LIMIT, Queue, QueueError};
use anyhow::{Context, ensure};

pub(super) async fn what_a_lost_consumer_held_is_delivered_again(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu01")?;
    woken(queue, &target, &jobs(0..3)).await?;
    let mut lost = consumer(queue, &target, 2);
    let held = next(&mut lost).await?;
    drop(lost);
    let mut heir = consumer(queue, &target, 2);
    take_all(&mut heir, &jobs(0..3)).await?;
    let late = held.ack().await;
    ensure!(late == Err(QueueError::Stale), "a late acknowledgement says {late:?}");
    quiet(&mut heir).await
}

pub(super) async fn what_is_given_back_is_delivered_again(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu01")?;
    woken(queue, &target, &jobs(1..2)).await?;
    let mut consumer = consumer(queue, &target, 2);
    let first = next(&mut consumer).await?;
    ensure!(!first.redelivered, "the first delivery is called a second one");
    first.nack().await?;
    let second = next(&mut consumer).await?;
    ensure!(second.job == job(1) && second.redelivered, "{second:?}");
    second.ack().await?;
    quiet(&mut consumer).await
}

pub(super) async fn what_is_dropped_unsettled_is_delivered_again(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu01")?;
    woken(queue, &target, &jobs(1..2)).await?;
    // More often than prefetch allows to be out: a dropped delivery must not use it up.
    let mut consumer = consumer(queue, &target, 1);
    for _ in 0..5 {
        drop(next(&mut consumer).await?);
    }
    take_all(&mut consumer, &jobs(1..2)).await
}

pub(super) async fn what_is_given_back_too_often_becomes_a_dead_letter(queue: &Queue) -> anyhow::Result<()> {
    let target = node("gpu01")?;
    healthy(queue, |health| health.dead_letters == Some(0)).await?;
    woken(queue, &target, &jobs(1..2)).await?;
    let mut consumer = consumer(queue, &target, 1);
    for _ in 0..=DELIVERY_LIMIT {
        next(&mut consumer).await?.nack().await?;
    }
    quiet(&mut consumer).await?;
    healthy(queue, |health| health.dead_letters == Some(1)).await?;
    for _ in 0..2 {
        let letters = queue.dead_letters(10).await?;
        ensure!(letters.len() == 1, "looking at dead letters takes them: {letters:?}");
        let letter = letters.first().context("no dead letter")?;
        ensure!(letter.reason == "delivery_limit" && letter.queue.ends_with("node.gpu01"), "{letter:?}");
        ensure!(letter.message_id == Some(job(1).to_string()), "{letter:?}");
        ensure!(letter.body.contains(&job(1).to_string()), "{letter:?}");
        healthy(queue, |health| health.dead_letters == Some(1)).await?;
    }
    ensure!(queue.dead_letters(0).await?.is_empty(), "more dead letters than asked for");
    Ok(())
}
