//! Webhooks, what is on its way, and what users want to be told of, as JSON.

use super::schemas;
use jiff::Timestamp;
use mothball_domain::id::{DeliveryId, NoticeId, WebhookId};
use mothball_domain::notice::Event;
use mothball_domain::notice::delivery::DeliveryState;
use mothball_domain::notice::preferences::Language;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// A program that is told of what happens in a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Webhook {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    pub id: WebhookId,
    /// The project.
    pub project: String,
    /// Who made it.
    pub user: String,
    /// Where to.
    pub url: String,
    /// What of; all of it where the list is empty.
    #[schema(schema_with = schemas::events)]
    pub events: BTreeSet<Event>,
    /// Whether anything is sent.
    pub enabled: bool,
    /// Why it was switched off without anybody asking.
    pub off_because: Option<String>,
    /// What its messages are signed with (Standard Webhooks, `whsec_…`); shown when it is made or renewed, and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Makes a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookRequest {
    /// Where to: http or https.
    #[schema(example = "https://example.org/mothball")]
    pub url: String,
    /// What of; all of it where nothing is named.
    #[serde(default)]
    #[schema(schema_with = schemas::events)]
    pub events: BTreeSet<String>,
    /// The project; see the parameter `project`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// Changes a webhook; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookPatch {
    /// Where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schemas::events)]
    pub events: Option<BTreeSet<String>>,
    /// Whether anything is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// One notice on its way to one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    pub id: DeliveryId,
    /// The id of what is told, the same for every receiver and every try: the header `webhook-id`.
    #[schema(value_type = uuid::Uuid)]
    pub notice: NoticeId,
    /// What is told.
    #[schema(schema_with = schemas::event)]
    pub event: Event,
    /// When it happened.
    pub happened_at: Timestamp,
    /// In which project.
    pub project: String,
    /// The webhook's id, or the e-mail address.
    pub to: String,
    /// Where it stands.
    #[schema(schema_with = schemas::delivery_state)]
    pub state: DeliveryState,
    /// When it is tried next.
    pub next_at: Option<Timestamp>,
    /// The newest tries, oldest first.
    pub tries: Vec<DeliveryTry>,
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryTry {
    /// When it ended.
    pub at: Timestamp,
    /// How.
    pub result: String,
}

/// What a user wants to be told of by e-mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Notifications {
    /// Where to; null for nothing at all.
    pub email: Option<String>,
    /// In which language.
    #[serde(default)]
    #[schema(schema_with = schemas::language)]
    pub language: Language,
    /// What of; the usual ones where it is left out.
    #[serde(default = "usual")]
    #[schema(schema_with = schemas::events)]
    pub events: BTreeSet<String>,
}

fn usual() -> BTreeSet<String> {
    Event::USUAL.map(|event| event.as_str().to_owned()).into()
}
