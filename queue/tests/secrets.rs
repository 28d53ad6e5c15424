//! The password is never shown. Alone in its file, since it reads everything that the process logs.

use anyhow::{Result, ensure};
use mothball_harness::rabbitmq::RabbitMq;
use mothball_queue::contract::given::{close_in_time, consumer, job};
use mothball_queue::{Queue, QueueError, RabbitMqSettings, Target};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Everything that is logged, of every crate, down to the last detail.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the log").write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("the log")).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_fail_fast_and_visibly_and_never_show_the_password() -> Result<()> {
    let vhost = RabbitMq::shared_vhost().await?;
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .init();

    let address = vhost.broker().address();
    let queue =
        Queue::rabbitmq(RabbitMqSettings::new(format!("amqp://somebody:hunter2@{address}/{}", vhost.name())));
    let mut consumer = consumer(&queue, &Target::Any, 1);
    let started = Instant::now();
    let mut shown = String::new();
    for _ in 0..100 {
        let error = queue.wake(&Target::Any, job(0)).await.expect_err("a stranger may not publish");
        ensure!(matches!(error, QueueError::Denied { .. }), "{error:?}");
        shown = format!("{error} {error:?} {} {queue:?} {:?}", error.hint(), queue.health().await?);
    }
    ensure!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    ensure!(queue.health().await?.problem.is_some_and(|problem| !problem.is_transient()));
    ensure!(
        timeout(Duration::from_millis(500), consumer.recv()).await.is_err(),
        "a stranger's subscription ended"
    );
    let (log, loud) = (log.text(), "Broker cannot be used");
    // Once by the publisher and once by the subscription: further tries wait for ten seconds.
    ensure!(log.matches(loud).count() == 2, "logged {} times", log.matches(loud).count());
    ensure!(log.lines().filter(|line| line.contains(loud)).all(|line| line.contains("ERROR")));
    ensure!(!shown.contains("hunter2"), "{shown}");
    let told = log.lines().find(|line| line.contains("hunter2"));
    ensure!(told.is_none(), "{told:?}");
    close_in_time(&queue).await
}
