//! Webhooks of projects.

use crate::db::Order;
use crate::db::tx::Tx;
use crate::ops::notices::{deliveries, fresh};
use crate::ops::transact;
use crate::{Page, Store, StoreError, keys};
use mothball_domain::id::{DeliveryId, NoticeId, WebhookId};
use mothball_domain::name::{ProjectName, UserName};
use mothball_domain::notice::delivery::{Delivery, Receiver};
use mothball_domain::notice::webhook::{SigningSecret, WEBHOOKS_MAX, Webhook};
use mothball_domain::notice::{Event, News, Notice};
use std::collections::BTreeSet;
use uuid::Uuid;

/// A webhook to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookDraft {
    /// A fresh UUIDv7.
    pub id: WebhookId,
    /// The project that it is told of.
    pub project: ProjectName,
    /// Who makes it.
    pub user: UserName,
    /// Where to.
    pub url: String,
    /// What of; all of it where it is empty.
    pub events: BTreeSet<Event>,
    /// What its messages are signed with.
    pub secret: SigningSecret,
}

/// What its project's admins may change; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookChange {
    /// Where to.
    pub url: Option<String>,
    /// What of.
    pub events: Option<BTreeSet<Event>>,
    /// Whether anything is sent.
    pub enabled: Option<bool>,
    /// What its messages are signed with from now on.
    pub secret: Option<SigningSecret>,
    /// Why it is switched off without anybody asking.
    pub off_because: Option<String>,
}

impl Store {
    /// Makes a webhook. None when the project has as many as it may have. Idempotent by its id.
    pub async fn create_webhook(&self, draft: &WebhookDraft) -> Result<Option<Webhook>, StoreError> {
        transact!(self, |tx| create(tx, draft).await)
    }

    /// One webhook.
    pub async fn webhook(&self, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        Tx::new(&self.db).get(&keys::webhook(id)).await
    }

    /// Webhooks of a project, oldest first.
    pub async fn webhooks(
        &self,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Webhook>, StoreError> {
        let index = keys::webhooks_of_project(project);
        let (members, next) = self.leaf(&index, after, Order::Ascending, limit).await?;
        let ids = members.iter().filter_map(|member| member.parse().ok());
        let items = Tx::new(&self.db).get_many(&ids.map(keys::webhook).collect::<Vec<_>>()).await?;
        Ok(Page { items, next })
    }

    /// Changes a webhook. None when there is no such one. Idempotent.
    pub async fn change_webhook(
        &self,
        id: WebhookId,
        change: &WebhookChange,
    ) -> Result<Option<Webhook>, StoreError> {
        transact!(self, |tx| change_webhook(tx, id, change).await)
    }

    /// Removes a webhook; what was on its way to it ends. False when there is no such one.
    pub async fn remove_webhook(&self, id: WebhookId) -> Result<bool, StoreError> {
        transact!(self, |tx| remove(tx, id).await)
    }

    /// Sends a test to a webhook, whether it is switched on or off. None when there is no such one.
    pub async fn ping_webhook(
        &self,
        id: WebhookId,
        delivery: DeliveryId,
    ) -> Result<Option<Delivery>, StoreError> {
        transact!(self, |tx| ping(tx, id, delivery).await)
    }
}

async fn create(tx: &mut Tx<'_>, draft: &WebhookDraft) -> Result<Option<Webhook>, StoreError> {
    if let Some(made) = tx.get::<Webhook>(&keys::webhook(draft.id)).await? {
        return Ok(Some(made));
    }
    // Read and written: two at once must not both take the last place.
    let counted = keys::webhooks_made(&draft.project);
    let made: u64 = tx.get(&counted).await?.unwrap_or(0);
    let index = keys::webhooks_of_project(&draft.project);
    if tx.scan(&index, WEBHOOKS_MAX).await?.len() >= WEBHOOKS_MAX {
        return Ok(None);
    }
    tx.put(&counted, &made.wrapping_add(1))?;
    let WebhookDraft { id, project, user, url, events, secret } = draft.clone();
    let created_at = tx.now().await?;
    let webhook =
        Webhook { id, project, user, url, events, secret, enabled: true, off_because: None, created_at };
    tx.add(index, id.to_string(), 0);
    tx.put(&keys::webhook(id), &webhook)?;
    Ok(Some(webhook))
}

async fn change_webhook(
    tx: &mut Tx<'_>,
    id: WebhookId,
    change: &WebhookChange,
) -> Result<Option<Webhook>, StoreError> {
    let Some(mut webhook) = tx.get::<Webhook>(&keys::webhook(id)).await? else { return Ok(None) };
    let change = change.clone();
    webhook.url = change.url.unwrap_or(webhook.url);
    webhook.events = change.events.unwrap_or(webhook.events);
    webhook.secret = change.secret.unwrap_or(webhook.secret);
    if let Some(enabled) = change.enabled {
        webhook.enabled = enabled;
        webhook.off_because = change.off_because.filter(|_| !enabled);
    }
    tx.put(&keys::webhook(id), &webhook)?;
    Ok(Some(webhook))
}

async fn remove(tx: &mut Tx<'_>, id: WebhookId) -> Result<bool, StoreError> {
    let Some(webhook) = tx.get::<Webhook>(&keys::webhook(id)).await? else { return Ok(false) };
    tx.delete(&keys::webhook(id));
    tx.remove(keys::webhooks_of_project(&webhook.project), id.to_string());
    Ok(true)
}

async fn ping(tx: &mut Tx<'_>, id: WebhookId, delivery: DeliveryId) -> Result<Option<Delivery>, StoreError> {
    if let Some(made) = tx.get(&keys::delivery(delivery)).await? {
        return Ok(Some(made));
    }
    let Some(webhook) = tx.get::<Webhook>(&keys::webhook(id)).await? else { return Ok(None) };
    let at = tx.now().await?;
    let notice =
        Notice { id: NoticeId(Uuid::now_v7()), at, project: webhook.project, user: None, news: News::Ping };
    let delivery = fresh(delivery, notice, Receiver::Webhook { id }, at);
    deliveries::put(tx, &delivery)?;
    Ok(Some(delivery))
}
