//! One connection's worth of consuming: subscribe, hand over what comes, until something ends it.

use super::error::unavailable;
use super::inbox::{Parcel, Receipt, SETTLE_LIMIT};
use super::link::Link;
use super::supervisor::{Stop, Supervisor};
use crate::{QueueError, message};
use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, Channel, Event};
use std::collections::VecDeque;
use std::future::ready;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// After a cancel, how long deliveries in somebody's hands may still be settled.
const GRACE: Duration = Duration::from_secs(2);

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was wanted.
    Stopped(Stop),
    /// Something broke; there shall be another session.
    Lost(QueueError),
}

/// A live subscription.
pub(super) struct Session {
    link: Link,
    channel: Channel,
    tags: Vec<ShortString>,
    messages: SelectAll<BoxStream<'static, Result<Delivery, QueueError>>>,
    events: BoxStream<'static, Event>,
    /// Read, and waiting for the consumer; prefetch bounds it.
    waiting: VecDeque<Parcel>,
    /// Deliveries that were dropped unsettled.
    returns: (mpsc::Sender<Acker>, mpsc::Receiver<Acker>),
    /// Deliveries in somebody's hands.
    held: TaskTracker,
}

impl Session {
    /// Connects, declares the targets and subscribes, each within its limit. Cancel-safe.
    pub(super) async fn open(supervisor: &Supervisor) -> Result<Self, QueueError> {
        let (shared, prefetch) = (&supervisor.shared, supervisor.prefetch);
        let (topology, limit) = (&shared.topology, shared.settings.publish_timeout);
        let link = Link::open(&shared.settings, "consume").await?;
        let events = link.events().boxed();
        let base = async {
            let channel = link.channel().await?;
            topology.declare_base(&channel).await?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            Ok(channel)
        };
        let channel = limited("the broker", limit, base).await?;
        let (mut messages, mut tags) = (SelectAll::new(), Vec::new());
        for target in &supervisor.targets {
            let queue = topology.queue(target);
            let subscribe = async {
                topology.declare(&channel, target).await?;
                let (queue, options) = (queue.clone(), BasicConsumeOptions::default());
                Ok(channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?)
            };
            // Named, because it may be this queue alone that does not answer: one that lost its leader.
            let consumer = limited(queue.as_str(), limit, subscribe).await?;
            tags.push(consumer.tag());
            // The broker ends a consumer when its queue is deleted. The others would go on without it.
            let ended = stream::once(ready(Err(unavailable("the broker cancelled the consumer"))));
            messages.push(consumer.map(|message| Ok(message?)).chain(ended).boxed());
        }
        let returns = mpsc::channel(usize::from(prefetch) * supervisor.targets.len().max(1));
        let (waiting, held) = (VecDeque::new(), TaskTracker::new());
        Ok(Self { link, channel, tags, messages, events, waiting, returns, held })
    }

    /// Hands over what comes until something ends it, and cleans up, each within its limit.
    pub(super) async fn run(mut self, supervisor: &Supervisor) -> End {
        let end = self.pump(supervisor).await;
        if matches!(end, End::Stopped(Stop::Cancelled)) {
            timeout(GRACE, self.wind_down()).await.ok();
        }
        // The broker takes back whatever is not settled.
        self.link.close().await;
        end
    }

    async fn pump(&mut self, supervisor: &Supervisor) -> End {
        loop {
            let step = tokio::select! { biased;
                stop = supervisor.stopped() => return End::Stopped(stop),
                event = self.events.next() => watch(event),
                Some(acker) = self.returns.1.recv() => give_back(&acker).await,
                permit = supervisor.parcels.reserve(), if !self.waiting.is_empty() => {
                    if let (Ok(permit), Some(parcel)) = (permit, self.waiting.pop_front()) {
                        permit.send(parcel);
                    }
                    Ok(())
                }
                message = self.messages.next() => match message {
                    Some(Ok(message)) => self.take_in(message).await,
                    Some(Err(error)) => Err(error),
                    None => Err(unavailable("nothing to consume")),
                },
            };
            if let Err(error) = step {
                return End::Lost(error);
            }
        }
    }

    async fn take_in(&mut self, message: Delivery) -> Result<(), QueueError> {
        match message::decode(&message.data) {
            Ok(job) => {
                let receipt = Receipt::new(message.acker, self.returns.0.clone(), self.held.token());
                self.waiting.push_back(Parcel { job, redelivered: message.redelivered, receipt });
                Ok(())
            }
            Err(error) => {
                let id = message.properties.message_id().as_ref().map(ToString::to_string);
                tracing::warn!(%error, message.id = id, queue = %message.routing_key, "Message cannot be read; it is now a dead letter");
                let reject = message.acker.reject(BasicRejectOptions { requeue: false });
                settle(reject).await
            }
        }
    }

    /// Takes no more, gives back what nobody has seen, and waits for what is in somebody's hands.
    async fn wind_down(&mut self) {
        for tag in &self.tags {
            self.channel.basic_cancel(tag.clone(), BasicCancelOptions::default()).await.ok();
        }
        self.waiting.clear();
        self.held.close();
        loop {
            tokio::select! { biased;
                Some(acker) = self.returns.1.recv() => { give_back(&acker).await.ok(); }
                () = self.held.wait() => break,
            }
        }
        while let Some(Some(acker)) = self.returns.1.recv().now_or_never() {
            give_back(&acker).await.ok();
        }
    }
}

async fn limited<T>(
    who: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, QueueError>>,
) -> Result<T, QueueError> {
    let done = timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(unavailable(format!("{who} does not answer within {limit:?}"))))
}

/// Whether an event of the connection ends the session.
fn watch(event: Option<Event>) -> Result<(), QueueError> {
    match event {
        Some(Event::Error(error)) if !error.is_amqp_soft_error() => Err(error.into()),
        Some(_) => Ok(()),
        None => Err(unavailable("the connection ended")),
    }
}

async fn give_back(acker: &Acker) -> Result<(), QueueError> {
    settle(acker.nack(BasicNackOptions { requeue: true, ..Default::default() })).await
}

/// A settlement that cannot be sent is no loss, the broker takes the delivery back; but a connection
/// that does not take it for this long is not one.
async fn settle(sent: impl Future<Output = lapin::Result<bool>>) -> Result<(), QueueError> {
    match timeout(SETTLE_LIMIT, sent).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(unavailable("the connection takes nothing any more")),
    }
}
