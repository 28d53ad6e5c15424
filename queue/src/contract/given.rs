//! What the clauses are made of.

use crate::{Delivery, Health, Queue, Subscription, Target};
use anyhow::{Context, bail};
use mothball_domain::id::JobId;
use mothball_domain::name::NodeName;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The longest that something may take that shall happen.
const SOON: Duration = Duration::from_secs(20);
/// How long something is watched that shall not happen.
const WHILE: Duration = Duration::from_millis(300);

pub(super) fn node(name: &str) -> anyhow::Result<Target> {
    Ok(Target::Node(NodeName::new(name)?))
}

pub(super) fn job(number: u128) -> JobId {
    JobId(Uuid::from_u128(number))
}

pub(super) fn jobs(numbers: std::ops::Range<u128>) -> BTreeSet<JobId> {
    numbers.map(job).collect()
}

pub(super) fn consumer(queue: &Queue, target: &Target, prefetch: u16) -> Subscription {
    queue.subscribe(vec![target.clone()], prefetch, CancellationToken::new())
}

/// A target that is declared and has these wake-ups.
pub(super) async fn woken(queue: &Queue, target: &Target, jobs: &BTreeSet<JobId>) -> anyhow::Result<()> {
    queue.declare(target).await?;
    for job in jobs {
        queue.wake(target, *job).await?;
    }
    Ok(())
}

pub(super) async fn next(subscription: &mut Subscription) -> anyhow::Result<Delivery> {
    let next = timeout(SOON, subscription.recv()).await.context("no delivery comes")?;
    next.context("the subscription ended")
}

/// Takes and acknowledges as many deliveries as there are jobs; they must be these, in any order.
pub(super) async fn take_all(subscription: &mut Subscription, jobs: &BTreeSet<JobId>) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    for _ in jobs {
        let delivery = next(subscription).await?;
        anyhow::ensure!(seen.insert(delivery.job), "{} is delivered twice", delivery.job);
        delivery.ack().await?;
    }
    anyhow::ensure!(&seen == jobs, "other jobs than those woken: {seen:?}");
    Ok(())
}

/// Nothing is delivered for a while.
pub(super) async fn quiet(subscription: &mut Subscription) -> anyhow::Result<()> {
    match timeout(WHILE, subscription.recv()).await {
        Ok(Some(delivery)) => bail!("{} is delivered although nothing should be", delivery.job),
        Ok(None) => bail!("the subscription ended"),
        Err(_) => Ok(()),
    }
}

/// Waits until the queue's health is as wanted.
pub(super) async fn healthy(queue: &Queue, wanted: impl Fn(&Health) -> bool) -> anyhow::Result<()> {
    let mut tick = interval(Duration::from_millis(20));
    let mut last = None;
    let reached = timeout(SOON, async {
        loop {
            tick.tick().await;
            let health = queue.health().await?;
            if wanted(&health) {
                return anyhow::Ok(());
            }
            last = Some(health);
        }
    });
    reached.await.unwrap_or_else(|_| bail!("health stays {last:?}"))
}
