//! What the clauses, and other tests of a queue, are made of.

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
pub const SOON: Duration = Duration::from_mins(1);
/// How long something is watched that shall not happen.
const WHILE: Duration = Duration::from_millis(300);

/// The target of a node.
pub fn node(name: &str) -> anyhow::Result<Target> {
    Ok(Target::Node(NodeName::new(name)?))
}

/// A job's id, made from a number.
pub fn job(number: u128) -> JobId {
    JobId(Uuid::from_u128(number))
}

/// Ids made from numbers.
pub fn jobs(numbers: std::ops::Range<u128>) -> BTreeSet<JobId> {
    numbers.map(job).collect()
}

/// A subscription to one target, never cancelled.
pub fn consumer(queue: &Queue, target: &Target, prefetch: u16) -> Subscription {
    queue.subscribe(vec![target.clone()], prefetch, CancellationToken::new())
}

/// A target that is declared and has these wake-ups.
pub async fn woken(queue: &Queue, target: &Target, jobs: &BTreeSet<JobId>) -> anyhow::Result<()> {
    queue.declare(target).await?;
    for job in jobs {
        queue.wake(target, *job).await?;
    }
    Ok(())
}

/// The next delivery, which must come soon.
pub async fn next(subscription: &mut Subscription) -> anyhow::Result<Delivery> {
    let next = timeout(SOON, subscription.recv()).await.context("no delivery comes")?;
    next.context("the subscription ended")
}

/// Takes and acknowledges as many deliveries as there are jobs; they must be these, in any order.
pub async fn take_all(subscription: &mut Subscription, jobs: &BTreeSet<JobId>) -> anyhow::Result<()> {
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
pub async fn quiet(subscription: &mut Subscription) -> anyhow::Result<()> {
    match timeout(WHILE, subscription.recv()).await {
        Ok(Some(delivery)) => bail!("{} is delivered although nothing should be", delivery.job),
        Ok(None) => bail!("the subscription ended"),
        Err(_) => Ok(()),
    }
}

/// Waits until the queue's health is as wanted.
pub async fn healthy(queue: &Queue, wanted: impl Fn(&Health) -> bool) -> anyhow::Result<()> {
    let mut last = None;
    let reached = until("health", async || {
        last = queue.health().await.ok();
        last.as_ref().is_some_and(&wanted).then_some(())
    });
    reached.await.with_context(|| format!("health stays {last:?}"))
}

/// Asks until there is an answer.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
    let mut tick = interval(Duration::from_millis(20));
    let answered = timeout(SOON, async {
        loop {
            tick.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    });
    answered.await.with_context(|| format!("waited {SOON:?} for {what}"))
}

/// Wakes until it is confirmed, as the scheduler does.
pub async fn wake_at_last(queue: &Queue, target: &Target, job: JobId) -> anyhow::Result<()> {
    let mut last = None;
    let confirmed = until("a confirmed wake", async || {
        last = queue.wake(target, job).await.err();
        last.is_none().then_some(())
    });
    confirmed.await.with_context(|| format!("wakes say {last:?}"))
}

/// Takes and acknowledges until every job came; returns how many came more than once.
pub async fn take_until(subscription: &mut Subscription, jobs: &BTreeSet<JobId>) -> anyhow::Result<usize> {
    let (mut seen, mut again) = (BTreeSet::new(), 0);
    while !jobs.is_subset(&seen) {
        let delivery =
            next(subscription).await.with_context(|| format!("after {} of {}", seen.len(), jobs.len()))?;
        again += usize::from(!seen.insert(delivery.job));
        // A stale one comes again, and is counted then.
        delivery.ack().await.ok();
    }
    Ok(again)
}

/// Closes, in less time than `close` waits for a task that does not end.
pub async fn close_in_time(queue: &Queue) -> anyhow::Result<()> {
    timeout(Duration::from_secs(8), queue.close()).await.context("close takes too long")
}
