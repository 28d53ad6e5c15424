//! The RabbitMQ adapter on a broker that is well: the contract, and what only a broker has.

use anyhow::{Result, ensure};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use mothball_harness::rabbitmq::{RabbitMq, Vhost};
use mothball_queue::contract::given::{
    close_in_time, consumer, healthy, job, jobs, next, node, take_all, until, wake_at_last,
};
use mothball_queue::{DeadLetter, Queue, QueueError, RabbitMqSettings, Target, contract};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn the_rabbitmq_queue_keeps_every_clause() -> Result<()> {
    let vhost = RabbitMq::shared_vhost().await?;
    contract::check_all(|clause| {
        let mut settings = RabbitMqSettings::new(vhost.url());
        settings.prefix = clause.name.to_owned();
        Queue::rabbitmq(settings)
    })
    .await
}

/// Publishes what Mothball never would.
async fn publish_raw(vhost: &Vhost, key: &str, body: &[u8]) -> Result<()> {
    let connection = Connection::connect(&vhost.url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let (options, properties) =
        (BasicPublishOptions::default(), BasicProperties::default().with_message_id("odd".into()));
    channel.basic_publish("mothball.jobs".into(), key.into(), options, body, properties).await?.await?;
    Ok(connection.close(200, "bye".into()).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_becomes_a_dead_letter_and_holds_nobody_up() -> Result<()> {
    let vhost = RabbitMq::shared_vhost().await?;
    let (queue, target) = (Queue::rabbitmq(RabbitMqSettings::new(vhost.url())), node("gpu01")?);
    queue.declare(&target).await?;
    let long = "x".repeat(5000);
    for body in ["", "not json", r#"{"v":2,"job":"00000000-0000-0000-0000-000000000000"}"#, &long] {
        publish_raw(&vhost, "node.gpu01", body.as_bytes()).await?;
    }
    queue.wake(&target, job(0)).await?;
    let mut consumer = consumer(&queue, &target, 1);
    take_all(&mut consumer, &jobs(0..1)).await?;
    healthy(&queue, |health| health.dead_letters == Some(4)).await?;
    let letters = queue.dead_letters(10).await?;
    ensure!(letters.len() == 4, "{letters:?}");
    ensure!(
        letters.iter().all(|letter| letter.reason == "rejected" && letter.queue == "mothball.node.gpu01"),
        "{letters:?}"
    );
    ensure!(letters.iter().all(|letter| letter.message_id.as_deref() == Some("odd")), "{letters:?}");
    ensure!(letters.iter().any(|letter| letter.body == "not json"), "{letters:?}");
    ensure!(letters.iter().any(|letter| letter.body.len() == DeadLetter::BODY_CHARS_MAX), "{letters:?}");
    ensure!(queue.dead_letters(2).await?.len() == 2);
    close_in_time(&queue).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_virtual_host_is_denied() -> Result<()> {
    let vhost = RabbitMq::shared_vhost().await?;
    let queue = Queue::rabbitmq(RabbitMqSettings::new(vhost.broker().url("nowhere")));
    let error = queue.wake(&Target::Any, job(0)).await.expect_err("there is no such host");
    ensure!(matches!(error, QueueError::Denied { .. }), "{error:?}");
    close_in_time(&queue).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_arguments_is_a_clear_error() -> Result<()> {
    let vhost = RabbitMq::shared_vhost().await?;
    let queue = Queue::rabbitmq(RabbitMqSettings::new(vhost.url()));
    queue.declare(&node("gpu01")?).await?;
    let mut other = RabbitMqSettings::new(vhost.url());
    other.queue_len_max = 7;
    let other = Queue::rabbitmq(other);
    let error = other.declare(&node("gpu01")?).await.expect_err("the arguments differ");
    ensure!(matches!(error, QueueError::Inequivalent { .. }), "{error:?}");
    let shown = error.to_string();
    ensure!(shown.contains("mothball.node.gpu01") && shown.contains("x-max-length"), "{shown}");
    // It spoils nothing else.
    other.declare(&node("gpu02")?).await?;
    other.wake(&node("gpu01")?, job(0)).await?;
    other.close().await;
    close_in_time(&queue).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_takes_again_when_it_has_room() -> Result<()> {
    let vhost = RabbitMq::shared_vhost().await?;
    let mut few = RabbitMqSettings::new(vhost.url());
    few.queue_len_max = 5;
    let (queue, target) = (Queue::rabbitmq(few), node("gpu01")?);
    queue.declare(&target).await?;
    // The bound of a quorum queue is not exact.
    let refused = until("a refusal", async || queue.wake(&target, job(0)).await.err()).await?;
    ensure!(refused == QueueError::Refused { target: target.clone() }, "{refused:?}");
    let mut consumer = consumer(&queue, &target, 2);
    next(&mut consumer).await?.ack().await?;
    next(&mut consumer).await?.ack().await?;
    wake_at_last(&queue, &target, job(1)).await?;
    close_in_time(&queue).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_made_anew_by_its_subscription() -> Result<()> {
    let vhost = RabbitMq::shared_vhost().await?;
    let queue = Queue::rabbitmq(RabbitMqSettings::new(vhost.url()));
    let (mine, other) = (node("gpu01")?, Target::Any);
    let mut consumer = queue.subscribe(vec![mine.clone(), other.clone()], 1, CancellationToken::new());
    wake_at_last(&queue, &mine, job(0)).await?;
    next(&mut consumer).await?.ack().await?;
    vhost.broker().ctl(&["delete_queue", "--vhost", vhost.name(), "mothball.node.gpu01"]).await?;
    wake_at_last(&queue, &mine, job(1)).await?;
    ensure!(next(&mut consumer).await?.job == job(1));
    close_in_time(&queue).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_workers_of_a_node_one_is_served_and_the_other_takes_over() -> Result<()> {
    let vhost = RabbitMq::shared_vhost().await?;
    let (queue, target) = (Queue::rabbitmq(RabbitMqSettings::new(vhost.url())), node("gpu01")?);
    let mut first = consumer(&queue, &target, 4);
    wake_at_last(&queue, &target, job(0)).await?;
    next(&mut first).await?.ack().await?;
    let mut second = consumer(&queue, &target, 4);
    healthy(&queue, |health| health.consumers == 2).await?;
    for number in 1..20 {
        queue.wake(&target, job(number)).await?;
        let delivery = next(&mut first).await?;
        ensure!(delivery.job == job(number));
        delivery.ack().await?;
    }
    queue.wake(&target, job(20)).await?;
    let unsettled = next(&mut first).await?;
    ensure!(timeout(Duration::from_millis(300), second.recv()).await.is_err(), "both are served");
    drop(first);
    ensure!(next(&mut second).await?.redelivered);
    ensure!(unsettled.ack().await == Err(QueueError::Stale));
    close_in_time(&queue).await
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_connections_are_as_documented() -> Result<()> {
    let vhost = RabbitMq::shared_vhost().await?;
    let mut named = RabbitMqSettings::new(vhost.url());
    named.connection_name = "worker-gpu.01".to_owned();
    let queue = Queue::rabbitmq(named);
    let _consumer = queue.subscribe(vec![node("gpu.01")?, Target::Any], 1, CancellationToken::new());
    wake_at_last(&queue, &node("gpu.01")?, job(0)).await?;
    healthy(&queue, |health| health.consumers == 1).await?;
    let mut queues: Vec<String> = vhost.queues().await?.into_iter().map(|(name, _)| name).collect();
    queues.sort();
    ensure!(queues == ["mothball.any", "mothball.dead", "mothball.node.gpu.01"], "{queues:?}");
    let list = ["list_connections", "client_properties", "vhost"];
    let connections = vhost.broker().ctl(&list).await?;
    for name in ["worker-gpu.01-publish", "worker-gpu.01-consume"] {
        ensure!(connections.contains(name), "{connections}");
    }
    close_in_time(&queue).await
}
