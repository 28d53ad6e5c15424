//! Publishing: one connection, made when it is needed, and a few channels on it.
//!
//! A wake-up has its channel to itself until it is confirmed. On a shared channel lapin hands a message
//! that came back to whichever confirm arrives next, which may belong to another wake-up.

use super::backoff::Backoff;
use super::error::unavailable;
use super::link::Link;
use super::{RabbitMqSettings, Topology};
use crate::{QueueError, Target, message};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use mothball_domain::id::JobId;
use std::future::Future;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Wake-ups under way at a time. One queue that does not confirm holds up one channel, not the others.
const CHANNELS_MAX: usize = 16;
/// The longest that failed attempts to connect are answered from memory.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Publisher {
    settings: RabbitMqSettings,
    topology: Topology,
    tasks: TaskTracker,
    permits: Semaphore,
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug)]
struct State {
    line: Option<Arc<Line>>,
    backoff: Backoff,
    /// Until when the last failure to connect is the answer: a broker that is away must not cost every
    /// request the time to find out.
    shut: Option<(Instant, QueueError)>,
}

/// A connection and its idle channels.
#[derive(Debug)]
struct Line {
    link: Link,
    idle: Mutex<Vec<Channel>>,
    users: TaskTracker,
}

/// A channel in use. Fields are dropped in this order: whoever waits for the users to be gone then
/// holds the only reference to the line.
struct Lease {
    channel: Channel,
    line: Arc<Line>,
    _user: TaskTrackerToken,
}

impl Deref for Lease {
    type Target = Channel;
    fn deref(&self) -> &Channel {
        &self.channel
    }
}

impl Publisher {
    pub(super) fn new(settings: RabbitMqSettings, topology: Topology, tasks: TaskTracker) -> Self {
        let state = State { line: None, backoff: Backoff::new(BACKOFF_MAX), shut: None };
        Self { settings, topology, tasks, permits: Semaphore::new(CHANNELS_MAX), state: state.into() }
    }

    pub(super) async fn wake(&self, target: &Target, job: JobId) -> Result<(), QueueError> {
        self.limited(async {
            let _permit = self.permits.acquire().await.map_err(|_| QueueError::Closed)?;
            let line = self.line().await?;
            let lease = line.confirming_channel().await?;
            let outcome = self.publish(&lease, target, job).await;
            lease.give_back();
            outcome
        })
        .await
    }

    /// One message, until the broker has said what became of it.
    async fn publish(&self, channel: &Channel, target: &Target, job: JobId) -> Result<(), QueueError> {
        let properties = BasicProperties::default()
            .with_app_id("mothball".into())
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_message_id(job.to_string().into())
            .with_type(message::KIND.into());
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let (exchange, key) = (self.topology.jobs_exchange(), target.key().into());
        let confirm =
            channel.basic_publish(exchange, key, options, &message::encode(job), properties).await?;
        match confirm.await? {
            Confirmation::Ack(None) => Ok(()),
            // Mandatory, and no queue wanted it: the broker returns it, and then confirms all the same.
            Confirmation::Ack(Some(_)) => Err(QueueError::Unroutable { target: target.clone() }),
            Confirmation::Nack(_) => Err(QueueError::Refused { target: target.clone() }),
            Confirmation::NotRequested => Err(unavailable("confirms are not on")),
        }
    }

    /// A channel for a question to the broker; its errors close it, so it is not used twice.
    pub(super) async fn channel(&self) -> Result<impl Deref<Target = Channel> + use<>, QueueError> {
        let line = self.line().await?;
        let channel = line.link.channel().await?;
        Ok(line.lease(channel))
    }

    /// Runs `work` within the publish timeout.
    pub(super) async fn limited<T>(
        &self,
        work: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        let limit = self.settings.publish_timeout;
        match timeout(limit, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.after_timeout(limit)),
        }
    }

    /// A connection that is held back is kept: it is told when that ends, while a new one would only
    /// be held back too. A connection that is silent is replaced.
    fn after_timeout(&self, limit: Duration) -> QueueError {
        // Somebody who holds the lock is connecting at the moment, so there is nothing to replace.
        if let Ok(mut state) = self.state.try_lock() {
            if state.line.as_ref().is_some_and(|line| line.link.blocked()) {
                return QueueError::Blocked;
            }
            if let Some(line) = state.line.take() {
                tracing::warn!(
                    limit_ms = limit.as_millis(),
                    "Broker did not answer in time; connecting anew"
                );
                self.retire(line);
            }
        }
        QueueError::Timeout { limit }
    }

    /// The connection, made anew if need be.
    async fn line(&self) -> Result<Arc<Line>, QueueError> {
        let mut state = self.state.lock().await;
        if self.permits.is_closed() {
            return Err(QueueError::Closed);
        }
        if let Some(line) = state.line.take() {
            if line.link.connected() {
                let blocked = line.link.blocked();
                state.line = Some(Arc::clone(&line));
                return if blocked { Err(QueueError::Blocked) } else { Ok(line) };
            }
            self.retire(line);
        }
        if let Some((until, error)) = &state.shut
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        self.connect(&mut state).await
    }

    async fn connect(&self, state: &mut State) -> Result<Arc<Line>, QueueError> {
        match Line::open(&self.settings, &self.topology).await {
            Ok(line) => {
                (state.shut, state.line) = (None, Some(Arc::clone(&line)));
                state.backoff.reset();
                tracing::info!("Connected to the broker to publish");
                Ok(line)
            }
            Err(error) => {
                let wait = state.backoff.after(&error);
                state.shut = Some((Instant::now() + wait, error.clone()));
                super::error::log("publish", &error, wait);
                Err(error)
            }
        }
    }

    /// Ends a connection once its users are done with it.
    fn retire(&self, line: Arc<Line>) {
        let limit = self.settings.publish_timeout;
        self.tasks.spawn(async move {
            line.users.close();
            timeout(limit, line.users.wait()).await.ok();
            // A user who is later than that ends the connection by dropping it.
            if let Some(line) = Arc::into_inner(line) {
                drop(line.idle);
                line.link.close().await;
            }
        });
    }

    pub(super) async fn close(&self) {
        self.permits.close();
        // Whoever holds the lock does so for no longer than connecting may take.
        if let Some(line) = self.state.lock().await.line.take() {
            self.retire(line);
        }
    }
}

impl Line {
    async fn open(settings: &RabbitMqSettings, topology: &Topology) -> Result<Arc<Self>, QueueError> {
        let limit = settings.connect_timeout;
        let opened = timeout(limit, async {
            let link = Link::open(settings, "publish").await?;
            topology.declare_base(&link.channel().await?).await?;
            Ok(Arc::new(Self { link, idle: Mutex::default(), users: TaskTracker::new() }))
        });
        opened.await.unwrap_or_else(|_| Err(unavailable(format!("no answer within {limit:?}"))))
    }

    fn lease(self: Arc<Self>, channel: Channel) -> Lease {
        Lease { channel, _user: self.users.token(), line: self }
    }

    async fn confirming_channel(self: Arc<Self>) -> Result<Lease, QueueError> {
        let idle = self.idle().pop();
        if let Some(channel) = idle {
            return Ok(self.lease(channel));
        }
        let channel = self.link.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(self.lease(channel))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Keeps the channel for the next wake-up. One that is dropped instead, because its wake-up ran
    /// out of time, is closed: its late confirm must not meet another wake-up.
    fn give_back(self) {
        if self.channel.status().connected() {
            self.line.idle().push(self.channel);
        }
    }
}
