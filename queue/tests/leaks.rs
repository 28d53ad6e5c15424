//! Nothing is left behind. Alone in its file, since it counts the threads of the process.

use anyhow::{Context, Result, ensure};
use mothball_harness::rabbitmq::RabbitMq;
use mothball_queue::contract::given::{close_in_time, consumer, job, next, node, until, wake_at_last};
use mothball_queue::{Queue, RabbitMqSettings, Target};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

#[tokio::test(flavor = "multi_thread")]
async fn no_thread_task_or_connection_is_left_behind() -> Result<()> {
    many_cycles().await?;
    a_broker_that_accepts_and_says_nothing().await
}

/// Threads that lapin has in this process.
fn lapin_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("our threads");
    let names = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("lapin")).count()
}

async fn close_without_a_trace(queue: Queue) -> Result<()> {
    close_in_time(&queue).await?;
    let metrics = tokio::runtime::Handle::current().metrics();
    until("the end of every task", async || (metrics.num_alive_tasks() == 0).then_some(())).await?;
    until("the end of lapin's threads", async || (lapin_threads() == 0).then_some(())).await
}

async fn many_cycles() -> Result<()> {
    let vhost = RabbitMq::shared_vhost().await?;
    let target = node("gpu01")?;
    // lapin's heartbeat notices the end of its connection only when it beats.
    let url = format!("{}?heartbeat=2", vhost.url());
    for number in 0..30 {
        let queue = Queue::rabbitmq(RabbitMqSettings::new(url.clone()));
        let mut consumer = consumer(&queue, &target, 2);
        wake_at_last(&queue, &target, job(number)).await?;
        let delivery = next(&mut consumer).await?;
        ensure!(delivery.job == job(number));
        delivery.ack().await?;
        // Ends in every order: closed first, dropped first, never closed.
        match number % 3 {
            0 => queue.close().await,
            1 => drop(consumer),
            _ => {}
        }
    }
    let queue = Queue::rabbitmq(RabbitMqSettings::new(url.clone()));
    queue.declare(&target).await?;
    close_without_a_trace(queue).await?;
    until("the end of every connection", async || {
        let connections = vhost.broker().ctl(&["list_connections", "vhost"]).await.ok()?;
        (!connections.contains(vhost.name())).then_some(())
    })
    .await
}

async fn a_broker_that_accepts_and_says_nothing() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let mut quick = RabbitMqSettings::new(format!("amqp://u:p@{}/", silent.local_addr()?));
    quick.connect_timeout = Duration::from_millis(300);
    quick.publish_timeout = Duration::from_millis(600);
    let queue = Queue::rabbitmq(quick);
    let mut consumer = consumer(&queue, &Target::Any, 1);
    for _ in 0..10 {
        let started = Instant::now();
        let error = queue.wake(&Target::Any, job(0)).await.expect_err("nobody is there");
        ensure!(error.is_transient(), "{error:?}");
        ensure!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        timeout(Duration::from_millis(300), consumer.recv()).await.err().context("a delivery from nobody")?;
    }
    ensure!(lapin_threads() <= 2, "{} threads", lapin_threads());
    close_without_a_trace(queue).await
}
