//! `mothball webhooks`: programs that are told of what happens in a project.

use super::notify::deliveries_table;
use crate::context::{Context, local};
use crate::exit::Fail;
use crate::output;
use clap::{Args, Subcommand};
use mothball_api::v1::views::{Delivery, Webhook, WebhookPatch, WebhookRequest};
use serde_json::json;
use std::collections::BTreeSet;

/// Most webhooks that are listed.
const LIST_MAX: usize = 1000;
/// Deliveries that are listed unless more are asked for.
const DELIVERIES: usize = 50;

#[derive(Debug, Args)]
pub(crate) struct WebhooksArgs {
    #[command(subcommand)]
    command: Option<WebhooksCommand>,
}

#[derive(Debug, Subcommand)]
enum WebhooksCommand {
    /// Lists the project's webhooks.
    List,
    /// Shows one webhook.
    Show {
        /// The webhook's id.
        id: String,
    },
    /// Makes a webhook, and shows the secret that its messages are signed with this once.
    Add {
        /// Where to: an http or https address.
        // Not `url`: that is the server's, among the global arguments.
        #[arg(value_name = "ADDRESS")]
        to: String,
        /// What of, as in job.failed; may be given several times. Everything where none is.
        #[arg(long = "event", value_name = "EVENT")]
        events: Vec<String>,
    },
    /// Changes where a webhook leads or what it is told of.
    Edit {
        /// The webhook's id.
        id: String,
        /// Where to.
        #[arg(long, value_name = "ADDRESS")]
        to: Option<String>,
        /// What of; may be given several times.
        #[arg(long = "event", value_name = "EVENT")]
        events: Vec<String>,
        /// Everything.
        #[arg(long, conflicts_with = "events")]
        all_events: bool,
    },
    /// Switches a webhook off.
    Pause {
        /// The webhook's id.
        id: String,
    },
    /// Switches a webhook on again.
    Resume {
        /// The webhook's id.
        id: String,
    },
    /// Gives a webhook a new secret, and shows it this once; the old one ends at once.
    Renew {
        /// The webhook's id.
        id: String,
    },
    /// Sends a test to a webhook.
    Test {
        /// The webhook's id.
        id: String,
    },
    /// Lists what a webhook was sent, newest first.
    Deliveries {
        /// The webhook's id.
        id: String,
        /// How many.
        #[arg(long, default_value_t = DELIVERIES)]
        limit: usize,
    },
    /// Sends something to a webhook once more.
    Replay {
        /// The webhook's id.
        id: String,
        /// The delivery's id.
        delivery: String,
    },
    /// Removes webhooks.
    #[command(visible_alias = "delete")]
    Remove {
        /// Ids of webhooks.
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

pub(crate) async fn run(args: WebhooksArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    match args.command.unwrap_or(WebhooksCommand::List) {
        WebhooksCommand::List => {
            let found: Vec<Webhook> = client.list(&["webhooks"], &[], LIST_MAX).await?;
            cx.show(&found, |all| output::table(&["id", "to", "told of", "is", "by"], all.iter().map(row)))
        }
        WebhooksCommand::Show { id } => {
            let found: Webhook = client.get(&["webhooks", &id], &[]).await?;
            cx.show(&found, facts)
        }
        WebhooksCommand::Add { to, events } => {
            let project = cx.global.project.clone();
            let request = WebhookRequest { url: to, events: events.into_iter().collect(), project };
            let made: Webhook = client.post(&["webhooks"], &request).await?;
            cx.show(&made, |w| with_secret(w, "made"))
        }
        WebhooksCommand::Edit { id, to, events, all_events } => {
            let chosen: BTreeSet<String> = events.into_iter().collect();
            let events = (all_events || !chosen.is_empty()).then_some(chosen);
            patch(&id, WebhookPatch { url: to, events, enabled: None }, cx).await
        }
        WebhooksCommand::Pause { id } => enable(&id, false, cx).await,
        WebhooksCommand::Resume { id } => enable(&id, true, cx).await,
        WebhooksCommand::Renew { id } => {
            let renewed: Webhook = client.post(&["webhooks", &id, "secret"], &json!({})).await?;
            cx.show(&renewed, |w| with_secret(w, "renewed"))
        }
        WebhooksCommand::Test { id } => {
            let sent: Delivery = client.post(&["webhooks", &id, "test"], &json!({})).await?;
            let hint = format!("A test is on its way; see `mothball webhooks deliveries {id}`.");
            cx.show(&sent, |_| hint)
        }
        WebhooksCommand::Deliveries { id, limit } => {
            let found: Vec<Delivery> = client.list(&["webhooks", &id, "deliveries"], &[], limit).await?;
            cx.show(&found, |all| deliveries_table(all))
        }
        WebhooksCommand::Replay { id, delivery } => {
            let path = ["webhooks", id.as_str(), "deliveries", delivery.as_str(), "replay"];
            let again: Delivery = client.post(&path, &json!({})).await?;
            cx.show(&again, |d| format!("{} is sent once more", d.id))
        }
        WebhooksCommand::Remove { ids } => {
            cx.confirm(&format!("Remove {}?", ids.join(", ")))?;
            for id in &ids {
                client.delete::<serde_json::Value>(&["webhooks", id], &[]).await?;
            }
            cx.show(&ids, |ids| format!("removed {}", ids.join(", ")))
        }
    }
}

async fn enable(id: &str, enabled: bool, cx: &Context) -> Result<(), Fail> {
    patch(id, WebhookPatch { enabled: Some(enabled), ..WebhookPatch::default() }, cx).await
}

async fn patch(id: &str, patch: WebhookPatch, cx: &Context) -> Result<(), Fail> {
    let changed: Webhook = cx.client()?.patch(&["webhooks", id], &patch).await?;
    cx.show(&changed, facts)
}

fn told_of(w: &Webhook) -> String {
    if w.events.is_empty() {
        return "everything".to_owned();
    }
    w.events.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(", ")
}

fn state(w: &Webhook) -> String {
    match (w.enabled, &w.off_because) {
        (true, _) => "on".to_owned(),
        (false, None) => "off".to_owned(),
        (false, Some(why)) => format!("off: {why}"),
    }
}

fn row(w: &Webhook) -> Vec<String> {
    vec![w.id.to_string(), w.url.clone(), told_of(w), state(w), w.user.clone()]
}

fn facts(w: &Webhook) -> String {
    output::facts(&[
        ("id", w.id.to_string()),
        ("to", w.url.clone()),
        ("told of", told_of(w)),
        ("is", state(w)),
        ("project", w.project.clone()),
        ("by", w.user.clone()),
        ("made", local(w.created_at)),
    ])
}

fn with_secret(w: &Webhook, done: &str) -> String {
    let secret = w.secret.as_deref().unwrap_or_default();
    format!(
        "{done} webhook {}\nsecret: {secret}\n\nIts messages are signed with it (Standard Webhooks). It is not shown again.",
        w.id
    )
}
