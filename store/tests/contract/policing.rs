//! What policies do to containers: whom they concern, and what a warning leads to.

use crate::world::*;
use anyhow::{Result, bail, ensure};
use mothball_domain::container::Container;
use mothball_domain::flavor::Flavor;
use mothball_domain::job::{Job, JobSpec};
use mothball_domain::policy::ParkPolicy;
use mothball_store::{ContainerChange, Effect, Outcome, Policed, Policing, Target};
use rust_decimal::Decimal;

/// More than the budget that [`over_budget`] sets.
fn spent_much() -> Policing {
    Policing { spent: Decimal::TEN, seen_within: LONG, max_attempts: 3, alive_within: LONG }
}

/// Project p has a budget, and no grace.
async fn over_budget(w: &World) -> Result<ParkPolicy> {
    let budget = Some(Decimal::ONE);
    let policy = ParkPolicy { budget_per_month: budget, grace_seconds: Some(0), ..ParkPolicy::default() };
    w.store.set_park_policy(&project("p"), &policy).await?;
    Ok(policy)
}

async fn policed(w: &World, container: &Container) -> Result<Policed> {
    Ok(w.store.police(container.id, fresh_id(), &spent_much()).await?)
}

async fn parked_by_policy(w: &World, container: &Container) -> Result<Job> {
    match policed(w, container).await? {
        Policed::Parking(_, job) => Ok(*job),
        other => bail!("not parked: {other:?}"),
    }
}

async fn woken(w: &World, container: &Container, size: Flavor) -> Result<()> {
    let wake = request(JobSpec::Launch, Target::Wake(container.id, Box::new(size)));
    let wake = w.new_job(&wake).await?;
    w.ended(&wake, running("d-again")).await.map(drop)
}

/// However soon after its park a container is woken: before any scheduler has looked at it, too.
pub(super) async fn a_warning_leads_to_one_park(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    over_budget(w).await?;
    ensure!(matches!(policed(w, &container).await?, Policed::Warned(..)));
    let park = parked_by_policy(w, &container).await?;
    let held = w.claimed(&park).await?;
    w.store.record_image(held.id, held.fence, &draft(1)).await?;
    w.settled(&held, Outcome::Succeeded(Effect::Removed)).await?;
    woken(w, &container, container.launch.flavor.clone()).await?;
    let again = policed(w, &container).await?;
    ensure!(matches!(again, Policed::Warned(..)), "it was woken, and its owner not warned: {again:?}");
    Ok(())
}

/// A warning that has led to its park is taken away also where there is no reason for another.
pub(super) async fn a_warning_that_led_to_a_park_does_not_stand(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    over_budget(w).await?;
    ensure!(matches!(policed(w, &container).await?, Policed::Warned(..)));
    let park = parked_by_policy(w, &container).await?;
    let held = w.claimed(&park).await?;
    w.store.record_image(held.id, held.fence, &draft(1)).await?;
    w.settled(&held, Outcome::Succeeded(Effect::Removed)).await?;
    woken(w, &container, container.launch.flavor.clone()).await?;
    let policy = ParkPolicy { budget_per_month: Some(Decimal::from(1000)), ..ParkPolicy::default() };
    w.store.set_park_policy(&project("p"), &policy).await?;
    let (concerned, _) = w.store.concerned(&project("p"), &policy, &spent_much(), None, 10).await?;
    ensure!(concerned == [container.id], "{concerned:?}");
    ensure!(policed(w, &container).await? == Policed::Nothing);
    ensure!(w.store.warnings(&[container.id]).await?.is_empty(), "it stands");
    Ok(())
}

/// A page is looked at in a few reads, and only those about which something is to be done are named.
pub(super) async fn only_whom_a_policy_concerns_is_named(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let (one, two, three) =
        (w.launched("one", 0).await?, w.launched("two", 0).await?, w.launched("three", 0).await?);
    let named = async |policy: &ParkPolicy, after, limit| {
        w.store.concerned(&project("p"), policy, &spent_much(), after, limit).await
    };
    let none = ParkPolicy::default();
    ensure!(named(&none, None, 10).await? == (vec![], None));
    let policy = over_budget(w).await?;
    let keep = ContainerChange { keep_until: Some(Some(jiff::Timestamp::MAX)), ..ContainerChange::default() };
    w.store.change_container(two.id, &keep).await?;
    ensure!(named(&policy, None, 10).await? == (vec![one.id, three.id], None));
    ensure!(named(&policy, None, 2).await? == (vec![one.id], Some(two.id)));
    ensure!(named(&policy, Some(two.id), 2).await? == (vec![three.id], None));
    // Who was warned is named when the reason is gone, and when it is parked.
    ensure!(matches!(policed(w, &one).await?, Policed::Warned(..)));
    ensure!(matches!(policed(w, &three).await?, Policed::Warned(..)));
    w.parked(&three, "base:t").await?;
    ensure!(named(&none, None, 10).await? == (vec![one.id, three.id], None));
    w.store.set_park_policy(&project("p"), &none).await?;
    ensure!(matches!(policed(w, &one).await?, Policed::Withdrawn(_)));
    ensure!(policed(w, &three).await? == Policed::Nothing);
    ensure!(named(&none, None, 10).await? == (vec![], None));
    Ok(())
}
