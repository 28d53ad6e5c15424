//! Queues and exchanges: their names, their arguments, and how they are made.

use crate::{DELIVERY_LIMIT, DeadLetter, QueueError, Target};
use lapin::options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, ExchangeKind};

/// Dead letters kept, the newest.
const DEAD_LEN_MAX: i64 = 10_000;
/// Looking at a dead letter counts as a delivery of it. Newer brokers bound that at 20 by default, and
/// older ones know no "unlimited", so the bound is set where nobody gets.
const DEAD_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// The names that begin with one prefix.
#[derive(Debug, Clone)]
pub(super) struct Topology {
    prefix: String,
    jobs: String,
    dead: String,
    queue_len_max: u32,
}

impl Topology {
    pub(super) fn new(prefix: &str, queue_len_max: u32) -> Self {
        let name = |suffix| format!("{prefix}.{suffix}");
        Self { prefix: prefix.to_owned(), jobs: name("jobs"), dead: name("dead"), queue_len_max }
    }

    /// The exchange that wake-ups are published to. It has no alternate exchange: with one, a message
    /// that finds no queue would be confirmed like any other.
    pub(super) fn jobs_exchange(&self) -> ShortString {
        self.jobs.as_str().into()
    }

    fn dead_queue(&self) -> ShortString {
        self.dead.as_str().into()
    }

    pub(super) fn queue(&self, target: &Target) -> ShortString {
        format!("{}.{}", self.prefix, target.key()).into()
    }

    /// Makes the exchanges and the dead-letter queue. Idempotent.
    pub(super) async fn declare_base(&self, channel: &Channel) -> Result<(), QueueError> {
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let none = FieldTable::default;
        channel.exchange_declare(self.jobs_exchange(), ExchangeKind::Direct, durable, none()).await?;
        channel.exchange_declare(self.dead.as_str().into(), ExchangeKind::Fanout, durable, none()).await?;
        let arguments = table([
            ("x-queue-type", text("quorum")),
            ("x-max-length", AMQPValue::LongLongInt(DEAD_LEN_MAX)),
            ("x-delivery-limit", AMQPValue::LongLongInt(DEAD_DELIVERY_LIMIT)),
        ]);
        channel.queue_declare(self.dead_queue(), QueueDeclareOptions::durable(), arguments).await?;
        let (queue, exchange) = (self.dead_queue(), self.dead.as_str().into());
        channel.queue_bind(queue, exchange, "".into(), QueueBindOptions::default(), none()).await?;
        Ok(())
    }

    /// Makes a target's queue and binds it. Idempotent, but the arguments must never change under one
    /// name: the broker answers 406, and somebody must delete the queue.
    pub(super) async fn declare(&self, channel: &Channel, target: &Target) -> Result<(), QueueError> {
        let arguments = self.arguments(target);
        channel.queue_declare(self.queue(target), QueueDeclareOptions::durable(), arguments).await?;
        let (queue, exchange, key) = (self.queue(target), self.jobs_exchange(), target.key());
        let options = QueueBindOptions::default();
        Ok(channel.queue_bind(queue, exchange, key.into(), options, FieldTable::default()).await?)
    }

    /// Dead letters that wait to be looked at.
    pub(super) async fn dead_count(&self, channel: &Channel) -> Result<u32, QueueError> {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        Ok(channel.queue_declare(self.dead_queue(), passive, FieldTable::default()).await?.message_count())
    }

    /// Reads dead letters without settling any. They go back when the channel is closed.
    pub(super) async fn dead_letters(
        &self,
        channel: &Channel,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let mut letters = Vec::new();
        while letters.len() < limit {
            let got = channel.basic_get(self.dead_queue(), BasicGetOptions::default()).await?;
            let Some(got) = got else { break };
            letters.push(dead_letter(&got.delivery.properties, &got.delivery.data));
        }
        // Not left to the drop: whoever looks next shall see them again.
        channel.close(200, "seen".into()).await?;
        Ok(letters)
    }

    fn arguments(&self, target: &Target) -> FieldTable {
        let mut arguments = table([
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongLongInt(i64::from(DELIVERY_LIMIT))),
            ("x-dead-letter-exchange", text(&self.dead)),
            ("x-dead-letter-strategy", text("at-least-once")),
            // Both a confirm that is a "no" when the queue is full, and what at-least-once needs.
            ("x-overflow", text("reject-publish")),
            ("x-max-length", AMQPValue::LongLongInt(i64::from(self.queue_len_max))),
        ]);
        if matches!(target, Target::Node(_) | Target::Survey(_)) {
            // A node has one worker. While a replaced one lingers, the two do not compete.
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        arguments
    }
}

fn dead_letter(properties: &BasicProperties, body: &[u8]) -> DeadLetter {
    let words = |name: &str| last_death(properties).and_then(|death| string(death, name));
    DeadLetter {
        reason: words("reason").unwrap_or_else(|| "unknown".to_owned()),
        queue: words("queue").unwrap_or_else(|| "unknown".to_owned()),
        message_id: properties.message_id().as_ref().map(ToString::to_string),
        body: DeadLetter::body_start(body),
    }
}

/// The newest entry of the header in which the broker tells a dead letter's story.
fn last_death(properties: &BasicProperties) -> Option<&FieldTable> {
    let deaths = properties.headers().as_ref()?.inner().get("x-death")?;
    match deaths.as_array()?.as_slice().first()? {
        AMQPValue::FieldTable(death) => Some(death),
        _ => None,
    }
}

fn string(table: &FieldTable, name: &str) -> Option<String> {
    match table.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}
