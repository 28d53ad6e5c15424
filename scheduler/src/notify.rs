//! Telling people and programs what happened. What is to be told stands in the store's outbox; here it is spread to those
//! who want it, and each of them is tried until it arrives or is given up. Arriving twice is possible (a scheduler may die
//! between the answer and writing it down): a notice keeps its id, by which a receiver knows it.

mod email;
mod payload;
mod webhook;

pub use email::{MailError, Mailer, SmtpSettings, SmtpTls};
pub use webhook::{WebhookSender, WebhookSetupError};

use crate::Parts;
use crate::once::Round;
use crate::rounds::Rounds;
use futures_util::future::join_all;
use mothball_domain::id::{DeliveryId, NoticeId};
use mothball_domain::notice::delivery::{DeliveryRetry, DeliveryState, Ended, Receiver};
use mothball_domain::notice::words::Setting;
use mothball_store::{StoreError, Taken, WebhookChange};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Notices spread in one round.
const NOTICES: usize = 200;
/// Deliveries tried in one round.
const DELIVERIES: usize = 128;
/// Deliveries tried at the same time: a receiver that answers slowly must not hold up the others.
const PARALLEL: usize = 32;
/// How long a delivery is held beyond the longest that a try may take.
const HOLD_SPARE: Duration = Duration::from_secs(30);

/// How notices are told.
#[derive(Debug, Clone)]
pub struct NotifySettings {
    /// What messages need besides the notice.
    pub setting: Setting,
    /// The longest that one try may take.
    pub timeout: Duration,
    /// When what did not arrive is tried again.
    pub retry: DeliveryRetry,
    /// How long it can be seen what was told.
    pub keep_for: Duration,
}

/// What carries notices away. Clones share it.
#[derive(Debug, Clone)]
pub struct Senders {
    /// To programs.
    pub webhooks: Arc<WebhookSender>,
    /// To people; none where the operator has set up no mail.
    pub mail: Option<Arc<Mailer>>,
}

pub(crate) async fn run(parts: &Parts, shutdown: &CancellationToken) {
    let mut rounds = Rounds::new(parts, "what people are to be told of", shutdown);
    while rounds.next().await {
        let done = Round::Notices.go(parts, shutdown).await;
        rounds.ended(done).await;
    }
}

/// Spreads what was written since, and tries what is due.
pub(crate) async fn round(parts: &Parts, shutdown: &CancellationToken) -> Result<(), StoreError> {
    for id in parts.store.notices_due(NOTICES).await? {
        if shutdown.is_cancelled() {
            return Ok(());
        }
        spread(parts, id).await?;
    }
    for batch in parts.store.deliveries_due(DELIVERIES).await?.chunks(PARALLEL) {
        let tried = join_all(batch.iter().map(|id| deliver(parts, *id)));
        // What is cut short is held for a while, and then due again.
        let Some(tried) = shutdown.run_until_cancelled(tried).await else { return Ok(()) };
        tried.into_iter().collect::<Result<(), StoreError>>()?;
    }
    Ok(())
}

async fn spread(parts: &Parts, id: NoticeId) -> Result<(), StoreError> {
    match parts.store.spread(id).await {
        Err(StoreError::Corrupt(what)) => {
            tracing::error!(notice.id = %id, error = what, "a notice cannot be read, and nobody is told of it");
            parts.store.drop_notice(id).await
        }
        // It is still due with the next round.
        Err(StoreError::Contended(times)) => {
            tracing::warn!(notice.id = %id, times, "a notice changes all the time; trying again");
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

/// Tries one delivery, if its time has come and nobody else has it.
async fn deliver(parts: &Parts, id: DeliveryId) -> Result<(), StoreError> {
    let settings = &parts.settings.notify;
    let taken = match parts.store.take_delivery(id, settings.timeout + HOLD_SPARE).await {
        Err(StoreError::Corrupt(what)) => {
            tracing::error!(delivery.id = %id, error = what, "a delivery cannot be read, and never arrives");
            return parts.store.drop_delivery(id).await;
        }
        Err(StoreError::Contended(_)) | Ok(None) => return Ok(()),
        Ok(Some(taken)) => taken,
        Err(error) => return Err(error),
    };
    let (channel, ended) = send(parts, &taken).await;
    let ended_as = parts.store.end_delivery(id, taken.delivery.taken, &ended, &settings.retry).await?;
    // None: it took longer than it was held, and somebody else tries it.
    let Some(delivery) = ended_as else { return Ok(()) };
    let result = match (&ended, delivery.state) {
        (Ended::Arrived(_), _) => "delivered",
        (_, DeliveryState::Failed) => "failed",
        _ => "retrying",
    };
    parts.metrics.told.with_label_values(&[channel, result]).inc();
    if let Ended::Again(why) | Ended::Never(why) = &ended {
        tracing::warn!(delivery.id = %id, channel, result, why, event = %delivery.notice.news.event(), "a notice did not arrive");
    }
    Ok(())
}

/// Sends it, and says through what and how that ended.
async fn send(parts: &Parts, taken: &Taken) -> (&'static str, Ended) {
    let settings = &parts.settings.notify;
    let notice = &taken.delivery.notice;
    match &taken.delivery.to {
        Receiver::Webhook { id } => {
            let Some(webhook) = &taken.webhook else {
                return ("webhook", Ended::Never("its webhook was removed".to_owned()));
            };
            let body = payload::of(notice, &settings.setting);
            let ended = parts.senders.webhooks.send(webhook, &notice.id.to_string(), taken.at, body).await;
            let answer = match ended {
                webhook::Answer::Gone => {
                    switch_off(parts, *id).await;
                    Ended::Never("410 Gone: the receiver wants nothing more, and is switched off".to_owned())
                }
                webhook::Answer::Ended(ended) => ended,
            };
            ("webhook", answer)
        }
        Receiver::Email { address, language, .. } => {
            let Some(mail) = &parts.senders.mail else {
                let why = "the operator has set up no mail (notifications.smtp.host)".to_owned();
                return ("email", Ended::Never(why));
            };
            let message = mothball_domain::notice::words::message(notice, *language, &settings.setting);
            ("email", mail.send(taken.delivery.id, address, *language, &message).await)
        }
    }
}

/// As the Standard Webhooks specification asks for: who answers 410 is not asked again.
async fn switch_off(parts: &Parts, id: mothball_domain::id::WebhookId) {
    let change = WebhookChange {
        enabled: Some(false),
        off_because: Some("its receiver answered 410 Gone".to_owned()),
        ..WebhookChange::default()
    };
    if let Err(error) = parts.store.change_webhook(id, &change).await {
        tracing::warn!(webhook.id = %id, error = %error, "a webhook whose receiver is gone could not be switched off");
    }
}
