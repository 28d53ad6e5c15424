//! What people and programs are to be told of: the outbox. `deliveries` holds what is on its way, `webhooks` and
//! `preferences` who wants to know of what.

pub(crate) mod deliveries;
pub(crate) mod preferences;
pub(crate) mod webhooks;

use crate::db::tx::Tx;
use crate::ops::{records, transact};
use crate::{Store, StoreError, keys};
use jiff::Timestamp;
use mothball_domain::container::Container;
use mothball_domain::id::{DeliveryId, NoticeId, WebhookId};
use mothball_domain::job::{Job, JobKind, JobSpec, Then};
use mothball_domain::name::{ProjectName, UserName};
use mothball_domain::notice::delivery::{Delivery, DeliveryState, Receiver};
use mothball_domain::notice::preferences::Preferences;
use mothball_domain::notice::webhook::{WEBHOOKS_MAX, Webhook};
use mothball_domain::notice::{News, Notice, Subject};
use mothball_domain::people::{Project, Role, User};
use uuid::Uuid;

impl Store {
    /// Notices that were not spread yet, oldest first.
    pub async fn notices_due(&self, limit: usize) -> Result<Vec<NoticeId>, StoreError> {
        let members = self.db.due(keys::NOTICES_DUE, limit).await?;
        Ok(members.iter().filter_map(|member| member.parse().ok()).collect())
    }

    /// Turns a notice into one delivery for each who wants it, and says how many. Atomic; the second time it does
    /// nothing.
    pub async fn spread(&self, id: NoticeId) -> Result<usize, StoreError> {
        transact!(self, |tx| spread(tx, id).await)
    }

    /// Forgets a notice that cannot be read: it would be due for ever. Idempotent.
    pub async fn drop_notice(&self, id: NoticeId) -> Result<(), StoreError> {
        transact!(self, |tx| {
            forget(tx, id);
            Ok::<(), StoreError>(())
        })
    }
}

/// Puts what happened into the outbox, in the step that brought it about. `user` is whom it concerns; none for the
/// project's admins.
pub(crate) async fn tell(
    tx: &mut Tx<'_>,
    project: &ProjectName,
    user: Option<&UserName>,
    news: News,
) -> Result<(), StoreError> {
    let at = tx.now().await?;
    let id = NoticeId(Uuid::now_v7());
    let notice = Notice { id, at, project: project.clone(), user: user.cloned(), news };
    tx.put(&keys::notice(id), &notice)?;
    tx.add(keys::NOTICES_DUE, id.to_string(), at.as_millisecond());
    Ok(())
}

/// Tells of a job that succeeded, and of the park or wake that it was; `before` is its container as it was, `container`
/// as it is now.
pub(crate) async fn tell_success(
    tx: &mut Tx<'_>,
    job: &Job,
    before: Option<&Container>,
    container: Option<&Container>,
) -> Result<(), StoreError> {
    tell_end(tx, job, container).await?;
    let (Some(before), Some(container)) = (before, container) else { return Ok(()) };
    let at = tx.now().await?;
    let news = match &job.spec {
        JobSpec::Snapshot { then: Then::Park, image, .. } => News::Parked {
            container: subject(container),
            image: image.clone(),
            job: job.id,
            per_hour: container.rate().price_per_hour,
            storage_per_hour: container.cost_per_hour_now(),
            cost: container.cost(at),
        },
        JobSpec::Launch if before.parked_image.is_some() => News::Woken {
            container: subject(container),
            flavor: container.launch.flavor.name.clone(),
            per_hour: container.launch.flavor.price_per_hour,
            job: job.id,
        },
        _ => return Ok(()),
    };
    tell(tx, &job.project, Some(&container.user), news).await
}

/// Tells of a job that ended: with its error where it has one.
pub(crate) async fn tell_end(
    tx: &mut Tx<'_>,
    job: &Job,
    container: Option<&Container>,
) -> Result<(), StoreError> {
    // Nobody asked for it: it is what is left to do of a removal that was told of.
    if job.kind() == JobKind::PurgeImage {
        return Ok(());
    }
    let news = News::Job {
        job: job.id,
        kind: job.kind(),
        container: container.map(subject),
        image: job.image.clone(),
        error: job.error.clone(),
    };
    tell(tx, &job.project, Some(&job.user), news).await
}

/// A container as notices name it.
pub(crate) fn subject(container: &Container) -> Subject {
    Subject { id: container.id, name: container.name.clone() }
}

fn forget(tx: &mut Tx<'_>, id: NoticeId) {
    tx.delete(&keys::notice(id));
    tx.remove(keys::NOTICES_DUE, id.to_string());
}

async fn spread(tx: &mut Tx<'_>, id: NoticeId) -> Result<usize, StoreError> {
    let Some(notice) = tx.get::<Notice>(&keys::notice(id)).await? else {
        forget(tx, id);
        return Ok(0);
    };
    let event = notice.news.event();
    let mut receivers = Vec::new();
    let members = tx.scan(&keys::webhooks_of_project(&notice.project), WEBHOOKS_MAX).await?;
    let ids: Vec<WebhookId> = members.iter().filter_map(|member| member.parse().ok()).collect();
    let webhooks: Vec<Webhook> = tx.get_many(&ids.into_iter().map(keys::webhook).collect::<Vec<_>>()).await?;
    receivers.extend(webhooks.iter().filter(|w| w.wants(event)).map(|w| Receiver::Webhook { id: w.id }));
    for user in concerned(tx, &notice).await? {
        let wishes: Preferences = tx.get(&keys::preferences(&user)).await?.unwrap_or_default();
        let language = wishes.language;
        if let Some(address) = wishes.address(event).cloned() {
            receivers.push(Receiver::Email { user, address, language });
        }
    }
    let count = receivers.len();
    let now = tx.now().await?;
    for to in receivers {
        let delivery = fresh(DeliveryId(Uuid::now_v7()), notice.clone(), to, now);
        deliveries::put(tx, &delivery)?;
    }
    forget(tx, id);
    Ok(count)
}

/// A delivery that is due now.
pub(crate) fn fresh(id: DeliveryId, notice: Notice, to: Receiver, now: Timestamp) -> Delivery {
    Delivery {
        id,
        notice,
        to,
        state: DeliveryState::Pending,
        taken: 0,
        tries: 0,
        log: Vec::new(),
        next_at: Some(now),
        created_at: now,
    }
}

/// The people whom a notice concerns and who may still know: not those who are disabled or have left the project.
async fn concerned(tx: &mut Tx<'_>, notice: &Notice) -> Result<Vec<UserName>, StoreError> {
    let project: Option<Project> = tx.get(&keys::project(&notice.project)).await?;
    let members = project.map(|p| p.members).unwrap_or_default();
    let named: Vec<UserName> = match &notice.user {
        Some(user) => vec![user.clone()],
        None => members.iter().filter(|(_, role)| **role == Role::Admin).map(|(u, _)| u.clone()).collect(),
    };
    let records: Vec<User> = tx.get_many(&named.iter().map(keys::user).collect::<Vec<_>>()).await?;
    let may = |user: &User| !user.disabled && (user.operator || members.contains_key(&user.name));
    Ok(records.into_iter().filter(may).map(|user| user.name).collect())
}

/// The container of a job, as it is now.
pub(crate) async fn container_of(tx: &mut Tx<'_>, job: &Job) -> Result<Option<Container>, StoreError> {
    match job.container {
        Some(id) => records::container(tx, id).await,
        None => Ok(None),
    }
}
