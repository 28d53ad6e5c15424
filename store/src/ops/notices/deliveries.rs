//! What is on its way to one receiver: taken up by one scheduler at a time, and written down how it ended.

use crate::db::Order;
use crate::db::tx::Tx;
use crate::ops::{after, transact};
use crate::{Page, Store, StoreError, keys};
use jiff::Timestamp;
use mothball_domain::id::{DeliveryId, WebhookId};
use mothball_domain::name::UserName;
use mothball_domain::notice::delivery::{Delivery, DeliveryRetry, Ended, Receiver};
use mothball_domain::notice::webhook::Webhook;
use std::time::Duration;

/// A delivery that the caller has taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What, whom, and `taken`: the right to say how it ended.
    pub delivery: Delivery,
    /// Its webhook, if it goes to one that there still is.
    pub webhook: Option<Webhook>,
    /// When it was taken up, by the store's clock.
    pub at: Timestamp,
}

impl Store {
    /// Deliveries whose time has come, longest due first.
    pub async fn deliveries_due(&self, limit: usize) -> Result<Vec<DeliveryId>, StoreError> {
        let members = self.db.due(keys::DELIVERIES_DUE, limit).await?;
        Ok(members.iter().filter_map(|member| member.parse().ok()).collect())
    }

    /// Takes a delivery up for `hold`: until then nobody else does. None when its time has not come or it is over.
    pub async fn take_delivery(&self, id: DeliveryId, hold: Duration) -> Result<Option<Taken>, StoreError> {
        transact!(self, |tx| take(tx, id, hold).await)
    }

    /// Writes down how the try ended that the caller has `taken` up. None when somebody else has it by now, or it is
    /// gone: nothing was written.
    pub async fn end_delivery(
        &self,
        id: DeliveryId,
        taken: u32,
        ended: &Ended,
        retry: &DeliveryRetry,
    ) -> Result<Option<Delivery>, StoreError> {
        transact!(self, |tx| end(tx, id, taken, ended, retry).await)
    }

    /// Forgets a delivery that cannot be read: it would be due for ever. Idempotent.
    pub async fn drop_delivery(&self, id: DeliveryId) -> Result<(), StoreError> {
        transact!(self, |tx| {
            let member = id.to_string();
            tx.delete(&keys::delivery(id));
            tx.remove(keys::DELIVERIES_DUE, &member);
            tx.remove(keys::DELIVERY_TIMES, &member);
            Ok::<(), StoreError>(())
        })
    }

    /// One delivery.
    pub async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        Tx::new(&self.db).get(&keys::delivery(id)).await
    }

    /// Has a delivery sent once more. None when there is no such one.
    pub async fn replay_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        transact!(self, |tx| replay(tx, id).await)
    }

    /// What went to a webhook, newest first.
    pub async fn deliveries_to_webhook(
        &self,
        webhook: WebhookId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Delivery>, StoreError> {
        self.deliveries_in(&keys::deliveries_to_webhook(webhook), after, limit).await
    }

    /// What went to a user by e-mail, newest first.
    pub async fn deliveries_to_user(
        &self,
        user: &UserName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Delivery>, StoreError> {
        self.deliveries_in(&keys::deliveries_to_user(user), after, limit).await
    }

    async fn deliveries_in(
        &self,
        index: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Delivery>, StoreError> {
        let (members, next) = self.leaf(index, after, Order::Descending, limit).await?;
        let ids = members.iter().filter_map(|member| member.parse().ok());
        let items = Tx::new(&self.db).get_many(&ids.map(keys::delivery).collect::<Vec<_>>()).await?;
        Ok(Page { items, next })
    }

    /// Removes up to `limit` deliveries that were made longer than `older_than` ago, and says how many. Idempotent.
    pub async fn purge_deliveries(&self, older_than: Duration, limit: usize) -> Result<usize, StoreError> {
        let mut removed = 0;
        let oldest = self.db.due(keys::DELIVERY_TIMES, limit).await?;
        for id in oldest.iter().filter_map(|member| member.parse::<DeliveryId>().ok()) {
            let was_removed: Result<bool, StoreError> = transact!(self, |tx| purge(tx, id, older_than).await);
            if !was_removed? {
                // They come oldest first: the rest is younger.
                break;
            }
            removed += 1;
        }
        Ok(removed)
    }
}

/// Writes a delivery with its index entries.
pub(crate) fn put(tx: &mut Tx<'_>, delivery: &Delivery) -> Result<(), StoreError> {
    let member = delivery.id.to_string();
    tx.add(index(delivery), &member, 0);
    tx.add(keys::DELIVERY_TIMES, &member, delivery.created_at.as_millisecond());
    match delivery.next_at {
        Some(at) => tx.add(keys::DELIVERIES_DUE, &member, at.as_millisecond()),
        None => tx.remove(keys::DELIVERIES_DUE, &member),
    }
    tx.put(&keys::delivery(delivery.id), delivery)
}

/// The list of its receiver.
fn index(delivery: &Delivery) -> String {
    match &delivery.to {
        Receiver::Webhook { id } => keys::deliveries_to_webhook(*id),
        Receiver::Email { user, .. } => keys::deliveries_to_user(user),
    }
}

async fn take(tx: &mut Tx<'_>, id: DeliveryId, hold: Duration) -> Result<Option<Taken>, StoreError> {
    let Some(mut delivery) = tx.get::<Delivery>(&keys::delivery(id)).await? else {
        tx.remove(keys::DELIVERIES_DUE, id.to_string());
        return Ok(None);
    };
    let now = tx.now().await?;
    if delivery.next_at.is_none_or(|at| at > now) {
        return Ok(None);
    }
    delivery.taken = delivery.taken.wrapping_add(1);
    delivery.next_at = Some(after(now, hold));
    put(tx, &delivery)?;
    let webhook = match &delivery.to {
        Receiver::Webhook { id } => tx.get(&keys::webhook(*id)).await?,
        Receiver::Email { .. } => None,
    };
    Ok(Some(Taken { delivery, webhook, at: now }))
}

async fn end(
    tx: &mut Tx<'_>,
    id: DeliveryId,
    taken: u32,
    ended: &Ended,
    retry: &DeliveryRetry,
) -> Result<Option<Delivery>, StoreError> {
    let found: Option<Delivery> = tx.get(&keys::delivery(id)).await?;
    let Some(mut delivery) = found.filter(|d| d.taken == taken && d.next_at.is_some()) else {
        return Ok(None);
    };
    let now = tx.now().await?;
    delivery.end_try(ended, now, retry);
    put(tx, &delivery)?;
    Ok(Some(delivery))
}

async fn replay(tx: &mut Tx<'_>, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
    let Some(mut delivery) = tx.get::<Delivery>(&keys::delivery(id)).await? else { return Ok(None) };
    delivery.replay(tx.now().await?);
    put(tx, &delivery)?;
    Ok(Some(delivery))
}

async fn purge(tx: &mut Tx<'_>, id: DeliveryId, older_than: Duration) -> Result<bool, StoreError> {
    let member = id.to_string();
    let found: Option<Delivery> = tx.get(&keys::delivery(id)).await?;
    let now = tx.now().await?;
    if found.as_ref().is_some_and(|d| after(d.created_at, older_than) >= now) {
        return Ok(false);
    }
    if let Some(delivery) = found {
        tx.remove(index(&delivery), &member);
    }
    tx.remove(keys::DELIVERIES_DUE, &member);
    tx.remove(keys::DELIVERY_TIMES, &member);
    tx.delete(&keys::delivery(id));
    Ok(true)
}
