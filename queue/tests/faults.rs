//! The RabbitMQ adapter on a broker that things happen to.

use anyhow::{Context, Result, ensure};
use mothball_harness::proxy::{Address, Proxy};
use mothball_harness::rabbitmq::RabbitMq;
use mothball_queue::contract::given::{
    close_in_time, consumer, healthy, job, jobs, next, node, take_until, until, wake_at_last,
};
use mothball_queue::{Queue, QueueError, RabbitMqSettings, Target};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Wake-ups of one round, and how many of them are confirmed when the fault comes.
const WAKES: u128 = 300;
const BEFORE: u64 = 60;

/// Publishes and consumes while `fault` happens; everything that was confirmed must arrive.
async fn traffic_through(name: &str, queue: &Queue, fault: impl Future<Output = Result<()>>) -> Result<()> {
    let (target, confirmed) = (node(name)?, AtomicU64::new(0));
    let mut consumer = consumer(queue, &target, 4);
    let produce = async |numbers: std::ops::Range<u128>| {
        for number in numbers {
            wake_at_last(queue, &target, job(number)).await?;
            confirmed.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    };
    let begin = async {
        until("the first wakes", async || (confirmed.load(Ordering::Relaxed) >= BEFORE).then_some(()))
            .await?;
        fault.await
    };
    let expected = jobs(0..WAKES);
    let (one, other) = (produce(0..WAKES / 2), produce(WAKES / 2..WAKES));
    let ((), (), (), again) = tokio::try_join!(one, other, begin, take_until(&mut consumer, &expected))
        .with_context(|| format!("{name}, after {} confirmed", confirmed.load(Ordering::Relaxed)))?;
    ensure!(again < WAKES as usize, "{name}: {again} came again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_confirmed_arrives_whatever_happens_to_the_broker() -> Result<()> {
    let mut broker = RabbitMq::start().await?;
    let queue = Queue::rabbitmq(RabbitMqSettings::new(broker.url()));
    // RabbitMQ 3.10 brings a queue that was made less than a second before a kill back without a leader,
    // so this one is made early.
    queue.declare(&node("killed")?).await?;
    Box::pin(traffic_through("closed", &queue, broker.close_all_connections())).await?;
    let stop = async {
        broker.stop_app().await?;
        let away = until("an error", async || queue.wake(&Target::Any, job(0)).await.err()).await?;
        ensure!(away.is_transient(), "{away:?}");
        let health = queue.health().await?;
        ensure!(!health.connected && health.problem.is_some(), "{health:?}");
        healthy(&queue, |health| health.consumers == 0).await?;
        broker.start_app().await
    };
    Box::pin(traffic_through("stopped", &queue, stop)).await?;
    let kill = async {
        broker.kill9();
        broker.start_again().await
    };
    Box::pin(traffic_through("killed", &queue, kill)).await?;
    close_in_time(&queue).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_goes_silent_is_noticed_and_left_behind() -> Result<()> {
    let vhost = RabbitMq::shared_vhost().await?;
    let address = vhost.broker().address();
    let proxy = Proxy::tcp(Address::Tcp(address.clone())).await?;
    let url = vhost.url().replace(&address, &proxy.address());
    let mut quick = RabbitMqSettings::new(format!("{url}?heartbeat=2"));
    let limit = Duration::from_secs(1);
    (quick.publish_timeout, quick.connect_timeout) = (limit, limit);
    let queue = Queue::rabbitmq(quick);
    let fault = async {
        proxy.freeze();
        for _ in 0..3 {
            let started = Instant::now();
            let error = until("an error", async || queue.wake(&Target::Any, job(0)).await.err()).await?;
            ensure!(error.is_transient(), "{error:?}");
            ensure!(started.elapsed() < limit * 2, "{:?}", started.elapsed());
        }
        healthy(&queue, |health| health.consumers == 0 && !health.connected).await?;
        proxy.thaw();
        Ok(())
    };
    Box::pin(traffic_through("frozen", &queue, fault)).await?;
    proxy.freeze();
    close_in_time(&queue).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_made_and_subscribed_to_while_the_broker_is_away() -> Result<()> {
    let mut broker = RabbitMq::start().await?;
    broker.kill9();
    let queue = Queue::rabbitmq(RabbitMqSettings::new(broker.url()));
    let target = node("gpu01")?;
    let mut consumer = consumer(&queue, &target, 1);
    let started = Instant::now();
    for _ in 0..1000 {
        let error = queue.wake(&target, job(0)).await.expect_err("nobody is there");
        ensure!(matches!(error, QueueError::Unavailable { .. }), "{error:?}");
    }
    ensure!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    broker.start_again().await?;
    wake_at_last(&queue, &target, job(1)).await?;
    let delivery = next(&mut consumer).await?;
    ensure!(delivery.job == job(1));
    delivery.ack().await?;
    close_in_time(&queue).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_holds_publishers_back_costs_little_time_and_no_delivery() -> Result<()> {
    let broker = RabbitMq::start().await?;
    let limit = Duration::from_secs(2);
    let mut quick = RabbitMqSettings::new(broker.url());
    quick.publish_timeout = limit;
    let (queue, target) = (Queue::rabbitmq(quick.clone()), node("gpu01")?);
    let mut consumer = consumer(&queue, &target, 1);
    wake_at_last(&queue, &target, job(0)).await?;
    let held = next(&mut consumer).await?;

    broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]).await?;
    for _ in 0..5 {
        let started = Instant::now();
        let error = until("an error", async || queue.wake(&target, job(1)).await.err()).await?;
        ensure!(matches!(error, QueueError::Blocked | QueueError::Timeout { .. }), "{error:?}");
        ensure!(started.elapsed() < limit * 2, "{:?}", started.elapsed());
    }
    healthy(&queue, |health| health.connected && health.blocked && health.consumers == 1).await?;
    ensure!(queue.health().await?.problem == Some(QueueError::Blocked));
    // Settling goes over a connection of its own, which is not held back.
    held.ack().await?;
    // A queue that is closed meanwhile does not wait for the broker.
    let other = Queue::rabbitmq(quick);
    until("a second connection that is held back", async || {
        (other.wake(&target, job(2)).await == Err(QueueError::Blocked)).then_some(())
    })
    .await?;
    close_in_time(&other).await?;

    broker.ctl(&["set_vm_memory_high_watermark", "0.4"]).await?;
    wake_at_last(&queue, &target, job(3)).await?;
    take_until(&mut consumer, &jobs(3..4)).await?;
    healthy(&queue, |health| !health.blocked && health.problem.is_none()).await?;
    close_in_time(&queue).await
}
