//! The outbox: who is told of what, once; and what becomes of what is on its way.

use crate::world::*;
use anyhow::{Context, Result, ensure};
use mothball_domain::container::ContainerState;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::id::{ContainerId, DeliveryId, JobId, WebhookId};
use mothball_domain::job::{JobSpec, Then};
use mothball_domain::notice::delivery::{Delivery, DeliveryRetry, DeliveryState, Ended, Receiver};
use mothball_domain::notice::preferences::{Language, Preferences};
use mothball_domain::notice::webhook::{SigningSecret, WEBHOOKS_MAX, Webhook};
use mothball_domain::notice::{Event, News};
use mothball_domain::people::Role;
use mothball_domain::policy::{ParkPolicy, Reason};
use mothball_store::{
    ContainerChange, Effect, Outcome, Policed, Policing, Spent, Submitted, Target, WebhookChange,
    WebhookDraft,
};
use rust_decimal::Decimal;
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

const RETRY: DeliveryRetry = DeliveryRetry { max: 2, first: Duration::from_hours(1) };

/// Project p with its admin boss and its member ann, who have addresses.
async fn people(w: &World) -> Result<()> {
    w.store.create_project(&project("p")).await?;
    for (name, role) in [("ann", Role::Member), ("boss", Role::Admin)] {
        w.store.create_user(&user(name), false).await?;
        w.store.set_member(&project("p"), &user(name), Some(role)).await?;
        let email = Some(format!("{name}@example.org").parse()?);
        let wishes = Preferences { email, language: Language::Chinese, ..Preferences::default() };
        w.store.set_preferences(&user(name), &wishes).await?;
    }
    Ok(())
}

/// A job of ann's that fails.
async fn stop_fails(w: &World, id: ContainerId) -> Result<()> {
    let job = w.new_job(&request(JobSpec::Stop, Target::Container(id))).await?;
    let failure = Failure::permanent(FailureClass::Engine, "Docker refused");
    w.ended(&job, Outcome::Failed { failure, retry_after: Duration::ZERO }).await?;
    Ok(())
}

fn draft(events: &[Event]) -> WebhookDraft {
    WebhookDraft {
        id: WebhookId(Uuid::now_v7()),
        project: project("p"),
        user: user("boss"),
        url: "https://example.org/hook".to_owned(),
        events: events.iter().copied().collect(),
        secret: SigningSecret::of([1; 32]),
    }
}

async fn webhook(w: &World, events: &[Event]) -> Result<Webhook> {
    w.store.create_webhook(&draft(events)).await?.context("a webhook")
}

/// Spreads all that is to be told; how many deliveries came of it.
async fn spread(w: &World) -> Result<usize> {
    let mut made = 0;
    for id in w.store.notices_due(1000).await? {
        made += w.store.spread(id).await?;
        ensure!(w.store.spread(id).await? == 0, "it was spread twice");
    }
    ensure!(w.store.notices_due(1000).await?.is_empty());
    Ok(made)
}

async fn mails(w: &World, name: &str) -> Result<Vec<Delivery>> {
    Ok(w.store.deliveries_to_user(&user(name), None, 100).await?.items)
}

async fn posts(w: &World, webhook: &Webhook) -> Result<Vec<Delivery>> {
    Ok(w.store.deliveries_to_webhook(webhook.id, None, 100).await?.items)
}

fn events(deliveries: &[Delivery]) -> Vec<Event> {
    deliveries.iter().map(|d| d.notice.news.event()).collect()
}

pub(crate) async fn what_happened_is_told_once_to_those_who_want_it(w: &World) -> Result<()> {
    people(w).await?;
    let (all, failures) = (webhook(w, &[]).await?, webhook(w, &[Event::JobFailed]).await?);
    let off = webhook(w, &[]).await?;
    let switch_off = WebhookChange { enabled: Some(false), ..WebhookChange::default() };
    w.store.change_webhook(off.id, &switch_off).await?;
    w.node("n1", 0).await?;
    let id = w.launched("box", 0).await?.id;
    // A launch that went well: told to the one webhook that wants everything, and to nobody by mail.
    ensure!(spread(w).await? == 1);
    let told = posts(w, &all).await?;
    ensure!(events(&told) == [Event::JobSucceeded], "{told:#?}");

    stop_fails(w, id).await?;
    ensure!(spread(w).await? == 3);
    ensure!(posts(w, &all).await?.len() == 2 && posts(w, &off).await?.is_empty());
    for told in [posts(w, &failures).await?, mails(w, "ann").await?] {
        let News::Job { error: Some(error), container: Some(container), .. } = &told[0].notice.news else {
            anyhow::bail!("{told:#?}");
        };
        ensure!(told.len() == 1 && error.message == "Docker refused" && container.id == id, "{told:#?}");
    }
    ensure!(mails(w, "boss").await?.is_empty(), "it concerns ann");
    let to = &mails(w, "ann").await?[0].to;
    let Receiver::Email { address, language, .. } = to else { anyhow::bail!("{to:?}") };
    ensure!(address.as_str() == "ann@example.org" && *language == Language::Chinese);
    Ok(())
}

pub(crate) async fn who_has_left_or_is_disabled_is_not_told(w: &World) -> Result<()> {
    people(w).await?;
    w.node("n1", 0).await?;
    let id = w.launched("box", 0).await?.id;
    spread(w).await?;
    w.store.change_user(&user("ann"), None, Some(true)).await?;
    stop_fails(w, id).await?;
    ensure!(spread(w).await? == 0, "ann is disabled");
    w.store.change_user(&user("ann"), None, Some(false)).await?;
    w.store.set_member(&project("p"), &user("ann"), None).await?;
    stop_fails(w, id).await?;
    ensure!(spread(w).await? == 0, "ann has left the project");
    w.store.set_member(&project("p"), &user("ann"), Some(Role::Member)).await?;
    stop_fails(w, id).await?;
    ensure!(spread(w).await? == 1);
    Ok(())
}

pub(crate) async fn a_delivery_is_one_taker_s_until_it_ends(w: &World) -> Result<()> {
    people(w).await?;
    let hook = webhook(w, &[]).await?;
    let id = DeliveryId(Uuid::now_v7());
    let sent = w.store.ping_webhook(hook.id, id).await?.context("a test")?;
    ensure!(w.store.ping_webhook(hook.id, id).await? == Some(sent.clone()), "the same id is the same test");
    ensure!(w.store.deliveries_due(10).await? == [id]);
    let first = w.store.take_delivery(id, LONG).await?.context("taken")?;
    ensure!(first.webhook.as_ref() == Some(&hook) && first.delivery.notice == sent.notice);
    ensure!(w.store.take_delivery(id, LONG).await?.is_none(), "two have it");
    ensure!(w.store.deliveries_due(10).await?.is_empty());

    let refused = Ended::Again("503".to_owned());
    let again = w.store.end_delivery(id, first.delivery.taken, &refused, &RETRY).await?.context("ended")?;
    ensure!(again.state == DeliveryState::Pending && again.next_at.is_some());
    // Sent once more at once, and by another: the first has nothing to say any more.
    w.store.replay_delivery(id).await?.context("replayed")?;
    let second = w.store.take_delivery(id, LONG).await?.context("taken again")?;
    let late = Ended::Arrived("200 OK".to_owned());
    ensure!(w.store.end_delivery(id, first.delivery.taken, &late, &RETRY).await?.is_none());
    let ended = w.store.end_delivery(id, second.delivery.taken, &late, &RETRY).await?.context("ended")?;
    ensure!(ended.state == DeliveryState::Delivered && ended.next_at.is_none() && ended.log.len() == 2);
    ensure!(w.store.end_delivery(id, second.delivery.taken, &late, &RETRY).await?.is_none(), "it is over");
    ensure!(w.store.deliveries_due(10).await?.is_empty());

    w.store.remove_webhook(hook.id).await?;
    w.store.replay_delivery(id).await?.context("replayed")?;
    let taken = w.store.take_delivery(id, LONG).await?.context("taken")?;
    ensure!(taken.webhook.is_none());
    Ok(())
}

pub(crate) async fn deliveries_are_listed_newest_first_and_go_when_they_are_old(w: &World) -> Result<()> {
    let hook = webhook(w, &[]).await?;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let id = DeliveryId(Uuid::now_v7());
        w.store.ping_webhook(hook.id, id).await?;
        ids.insert(0, id);
    }
    let page = w.store.deliveries_to_webhook(hook.id, None, 3).await?;
    let rest = w.store.deliveries_to_webhook(hook.id, page.next.as_deref(), 3).await?;
    let listed: Vec<DeliveryId> = page.items.iter().chain(&rest.items).map(|d| d.id).collect();
    ensure!(listed == ids && rest.next.is_none(), "{listed:?}");
    ensure!(w.store.purge_deliveries(LONG, 100).await? == 0);
    ensure!(w.store.purge_deliveries(Duration::ZERO, 2).await? == 2);
    ensure!(w.store.purge_deliveries(Duration::ZERO, 100).await? == 3);
    ensure!(posts(w, &hook).await?.is_empty() && w.store.deliveries_due(10).await?.is_empty());
    Ok(())
}

pub(crate) async fn a_project_has_so_many_webhooks(w: &World) -> Result<()> {
    let first = draft(&[Event::JobFailed]);
    let made = w.store.create_webhook(&first).await?.context("made")?;
    ensure!(w.store.create_webhook(&first).await? == Some(made.clone()), "the same id is the same webhook");
    for _ in 1..WEBHOOKS_MAX {
        webhook(w, &[]).await?;
    }
    ensure!(w.store.create_webhook(&draft(&[])).await?.is_none(), "one too many");
    ensure!(w.store.webhooks(&project("p"), None, 100).await?.items.len() == WEBHOOKS_MAX);
    let change = WebhookChange {
        url: Some("https://example.org/other".to_owned()),
        events: Some(BTreeSet::new()),
        secret: Some(SigningSecret::of([2; 32])),
        enabled: Some(false),
        off_because: Some("410".to_owned()),
    };
    let changed = w.store.change_webhook(made.id, &change).await?.context("changed")?;
    let WebhookChange { url: Some(url), secret: Some(secret), .. } = change else { unreachable!() };
    ensure!(
        changed
            == Webhook {
                url,
                secret,
                events: BTreeSet::new(),
                enabled: false,
                off_because: Some("410".into()),
                ..made
            }
    );
    let on = WebhookChange { enabled: Some(true), ..WebhookChange::default() };
    let on = w.store.change_webhook(changed.id, &on).await?.context("on")?;
    ensure!(on.enabled && on.off_because.is_none());
    ensure!(w.store.remove_webhook(on.id).await? && !w.store.remove_webhook(on.id).await?);
    webhook(w, &[]).await?;
    Ok(())
}

/// What a policy that has a reason for everything does to a container.
async fn policed(w: &World, id: ContainerId, job: JobId) -> Result<Policed> {
    let policing = Policing { spent: Decimal::TEN, seen_within: LONG, max_attempts: 1, alive_within: LONG };
    Ok(w.store.police(id, job, &policing).await?)
}

/// A budget of 1, with this grace.
fn strict(grace_seconds: u64) -> ParkPolicy {
    ParkPolicy {
        budget_per_month: Some(Decimal::ONE),
        grace_seconds: Some(grace_seconds),
        ..ParkPolicy::default()
    }
}

pub(crate) async fn a_warning_is_told_with_a_link_that_keeps_and_a_park_with_its_job(
    w: &World,
) -> Result<()> {
    people(w).await?;
    let hook = webhook(w, &[Event::ContainerWarned, Event::ContainerParking, Event::ContainerParked]).await?;
    w.node("n1", 0).await?;
    let id = w.launched("box", 0).await?.id;
    w.store.set_park_policy(&project("p"), &strict(0)).await?;
    ensure!(matches!(policed(w, id, fresh_id()).await?, Policed::Warned(..)));
    spread(w).await?;
    let told = posts(w, &hook).await?;
    let News::Warned { container, reason: Reason::Budget, per_hour, keep: Some(keep), .. } =
        &told[0].notice.news
    else {
        anyhow::bail!("{told:#?}");
    };
    ensure!(container.id == id && *per_hour == Decimal::from(36));
    ensure!(w.store.kept_by(keep).await?.map(|c| c.id) == Some(id));
    ensure!(w.store.policy_park_of(id).await?.is_none());

    let Policed::Parking(_, job) = policed(w, id, fresh_id()).await? else { anyhow::bail!("no park") };
    ensure!(w.store.policy_park_of(id).await? == Some(job.id));
    spread(w).await?;
    let told = posts(w, &hook).await?;
    ensure!(events(&told) == [Event::ContainerParking, Event::ContainerWarned], "{told:#?}");
    ensure!(matches!(&told[0].notice.news, News::Parking { job: by, .. } if *by == job.id));
    w.ended(&job, Outcome::Succeeded(Effect::Removed)).await?;
    spread(w).await?;
    let told = posts(w, &hook).await?;
    ensure!(matches!(&told[0].notice.news, News::Parked { per_hour, .. } if *per_hour == Decimal::from(36)));
    ensure!(w.store.policy_park_of(id).await?.is_none(), "it is over");
    Ok(())
}

pub(crate) async fn a_park_that_is_refused_waits_a_whole_grace(w: &World) -> Result<()> {
    people(w).await?;
    w.node("n1", 0).await?;
    let id = w.launched("box", 0).await?.id;
    w.store.set_park_policy(&project("p"), &strict(0)).await?;
    ensure!(matches!(policed(w, id, fresh_id()).await?, Policed::Warned(..)));
    w.store.set_quota(&project("p"), None, Some(0)).await?;
    w.store.set_park_policy(&project("p"), &strict(3600)).await?;
    ensure!(matches!(policed(w, id, fresh_id()).await?, Policed::NotNow(..)), "the quota is used up");
    ensure!(matches!(policed(w, id, fresh_id()).await?, Policed::Nothing), "it is tried again at once");
    let standing = w.store.warnings(&[id]).await?;
    let grace = standing[&id].park_at.duration_since(w.store.now().await?);
    ensure!(grace.as_secs() > 3500, "{standing:?}");
    Ok(())
}

pub(crate) async fn a_warning_goes_with_its_policy(w: &World) -> Result<()> {
    people(w).await?;
    w.node("n1", 0).await?;
    let id = w.launched("box", 0).await?.id;
    w.store.set_park_policy(&project("p"), &strict(3600)).await?;
    ensure!(matches!(policed(w, id, fresh_id()).await?, Policed::Warned(..)));
    // Whatever is at work on the container.
    let save = request(snapshot("base:v1", Then::Keep), Target::Container(id));
    ensure!(matches!(w.store.submit(&save).await?, Submitted::New(_)));
    ensure!(matches!(policed(w, id, fresh_id()).await?, Policed::Nothing));
    w.store.set_park_policy(&project("p"), &ParkPolicy::default()).await?;
    ensure!(matches!(policed(w, id, fresh_id()).await?, Policed::Withdrawn(_)));
    ensure!(w.store.warnings(&[id]).await?.is_empty());
    // What is kept is let be.
    let until = w.store.now().await? + Duration::from_hours(1);
    let keep = ContainerChange { keep_until: Some(Some(until)), ..ContainerChange::default() };
    let kept = w.store.change_container(id, &keep).await?.context("kept")?;
    ensure!(kept.state == ContainerState::Ready);
    Ok(())
}

pub(crate) async fn each_mark_of_a_budget_is_told_once_a_month(w: &World) -> Result<()> {
    people(w).await?;
    let p = project("p");
    let since = w.store.spent_this_month(&p).await?.since;
    let spent = |amount: i64| Spent { since, amount: Decimal::from(amount) };
    ensure!(w.store.tell_budget(&p, spent(99)).await?.is_none(), "there is no budget");
    let policy = ParkPolicy { budget_per_month: Some(Decimal::from(100)), ..ParkPolicy::default() };
    w.store.set_park_policy(&p, &policy).await?;
    for (amount, told) in [(49, None), (50, Some(50)), (79, None), (101, Some(100)), (80, None), (200, None)]
    {
        ensure!(w.store.tell_budget(&p, spent(amount)).await? == told, "{amount}");
    }
    // What was added up in another month says nothing of this one.
    let before = Spent { since: since - Duration::from_hours(24 * 31), amount: Decimal::from(999) };
    ensure!(w.store.tell_budget(&p, before).await?.is_none());
    // Another budget has marks of its own.
    let larger = ParkPolicy { budget_per_month: Some(Decimal::from(400)), ..ParkPolicy::default() };
    w.store.set_park_policy(&p, &larger).await?;
    ensure!(w.store.tell_budget(&p, spent(200)).await? == Some(50));
    spread(w).await?;
    ensure!(events(&mails(w, "boss").await?) == [Event::BudgetReached; 3]);
    ensure!(mails(w, "ann").await?.is_empty(), "it concerns admins");
    Ok(())
}
