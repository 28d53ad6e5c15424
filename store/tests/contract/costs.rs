//! The ledger: what is written of containers, what it comes to, and how long it is kept.

use crate::world::*;
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use mothball_domain::billing::{Line, Sheet};
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::job::{JobSpec, Then};
use mothball_store::{Effect, LedgerQuery, Outcome, Settled, Target};
use rust_decimal::Decimal;
use std::time::Duration;

const EVER: LedgerQuery = LedgerQuery { project: None, user: None, since: Timestamp::UNIX_EPOCH };

async fn sheets(w: &World) -> Result<Vec<Sheet>> {
    Ok(w.store.ledger(&EVER).await?.sheets)
}

async fn lines(w: &World) -> Result<Vec<Line>> {
    Ok(sheets(w).await?.into_iter().flat_map(|sheet| sheet.lines).collect())
}

/// Parks and wakes a container.
async fn night(w: &World, container: &Container) -> Result<Container> {
    w.parked(container, "base:parked").await?;
    let wake = w.new_job(&request(JobSpec::Launch, Target::Container(container.id))).await?;
    w.ended(&wake, running("d-again")).await?;
    w.container(container.id).await
}

pub(crate) async fn a_stretch_has_the_price_it_began_with(w: &World) -> Result<()> {
    w.node("n1", 1).await?;
    let container = w.launched("box", 1).await?;
    let sheet = sheets(w).await?.pop().context("a sheet")?;
    ensure!((sheet.container, &sheet.name) == (container.id, &container.name), "{sheet:?}");
    ensure!((&sheet.project, &sheet.user) == (&project("p"), &user("ann")), "{sheet:?}");
    let line = &sheet.lines[0];
    ensure!(line.rate == container.rate() && line.rate.price_per_hour == Decimal::from(36));
    ensure!(line.to.is_none() && line.stored.is_none(), "{line:?}");
    w.deleted(&container).await?;
    let ended = lines(w).await?;
    let at = w.container(container.id).await?.metered[0].to;
    ensure!(ended.len() == 1 && ended[0].from == line.from && ended[0].to == at, "{ended:?}");
    Ok(())
}

pub(crate) async fn what_a_park_saves_is_in_the_ledger(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let mut container = w.launched("box", 0).await?;
    // More than the record keeps.
    for _ in 0..20 {
        container = night(w, &container).await?;
    }
    ensure!(container.metered.len() < 41 && sheets(w).await?.len() == 3, "{}", container.metered.len());
    let written = lines(w).await?;
    ensure!(written.len() == 41, "{} lines", written.len());
    for (i, line) in written.iter().enumerate() {
        let stored = line.stored.as_ref().map(|s| (s.bytes, s.price_per_gb_month));
        ensure!(stored == (i % 2 == 1).then_some((1001, Decimal::from(2))), "{i}: {line:?}");
        let next = written.get(i + 1);
        ensure!(next.is_none_or(|next| line.to == Some(next.from)), "{i}: {line:?} {next:?}");
    }
    // A wake that fails with a container on the node saves nothing any more; the others are counted until they are over.
    w.parked(&container, "base:parked").await?;
    let wake = w.new_job(&request(JobSpec::Launch, Target::Container(container.id))).await?;
    w.ended(&wake, failed(permanent(), LONG)).await?;
    let parked = w.container(container.id).await?;
    ensure!(
        parked.state == ContainerState::Parked && parked.open_stretch().is_some_and(|s| s.stored.is_some())
    );
    w.deleted(&parked).await?;
    ensure!(lines(w).await?.iter().all(|line| line.to.is_some()));
    Ok(())
}

pub(crate) async fn deleted_containers_stay_in_the_ledger_until_it_is_purged(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let (old, new) = (w.launched("old", 0).await?, w.launched("new", 0).await?);
    w.deleted(&old).await?;
    let cost = w.container(old.id).await?.usage(w.store.now().await?);
    ensure!(w.store.purge_ledger(LONG, 10).await? == 0 && w.store.purge_containers(LONG, 10).await? == 0);
    ensure!(w.store.purge_containers(Duration::ZERO, 10).await? == 1, "the record goes first");
    ensure!(w.store.container(old.id).await?.is_none() && w.store.container(new.id).await?.is_some());
    let kept = sheets(w).await?;
    ensure!(kept.len() == 2 && kept[0].container == old.id && kept[0].name == old.name, "{kept:?}");
    ensure!(w.store.used_by_deleted(&project("p")).await? == cost);
    ensure!(w.store.purge_ledger(Duration::ZERO, 10).await? == 1);
    let kept = sheets(w).await?;
    ensure!(kept.len() == 1 && kept[0].container == new.id, "what lasts is kept: {kept:?}");
    ensure!(w.store.used_by_deleted(&project("p")).await? == cost, "totals never fall");
    ensure!(w.store.purge_ledger(Duration::ZERO, 10).await? == 0);
    // Numbers are never given out again, whatever has been forgotten.
    ensure!(w.launched("third", 0).await?.id.0 == new.id.0 + 1);
    w.store.purge_containers(Duration::ZERO, 10).await.map(drop)?;
    w.deleted(&new).await.map(drop)
}

pub(crate) async fn the_ledger_is_asked_for_by_project_user_and_time(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    w.deleted(&w.launched("gone", 0).await?).await?;
    let bobs = w.new_job(&by("bob", &request(JobSpec::Launch, new_container("bobs", 0)))).await?;
    w.ended(&bobs, running("d-bobs")).await?;
    let mut other = request(JobSpec::Launch, new_container("others", 0));
    other.project = project("q");
    w.ended(&w.new_job(&other).await?, running("d-others")).await?;
    let names = async |query: LedgerQuery| {
        let sheets = w.store.ledger(&query).await?.sheets;
        let mut names: Vec<String> = sheets.iter().map(|sheet| sheet.name.to_string()).collect();
        names.sort();
        anyhow::Ok(names)
    };
    ensure!(names(EVER).await? == ["bobs", "gone", "others"]);
    ensure!(names(LedgerQuery { project: Some(project("p")), ..EVER }).await? == ["bobs", "gone"]);
    ensure!(names(LedgerQuery { user: Some(user("bob")), ..EVER }).await? == ["bobs"]);
    ensure!(names(LedgerQuery { project: Some(project("none")), ..EVER }).await?.is_empty());
    let later = w.store.now().await? + Duration::from_secs(1);
    let lasting = w.store.ledger(&LedgerQuery { since: later, ..EVER }).await?;
    ensure!(lasting.sheets.len() == 2 && lasting.now < later, "what lasts is not over: {lasting:?}");
    Ok(())
}

/// A worker that dies after each step, and one whose words come twice: the times are those of the first.
pub(crate) async fn a_settle_that_is_repeated_bills_once(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let launch = w.new_job(&request(JobSpec::Launch, new_container("box", 0))).await?;
    // The first worker is lost before it can say that the container runs.
    let lost = w.claimed_for(&launch, Duration::ZERO).await?;
    w.attend(launch.id).await?;
    ensure!(lines(w).await?.is_empty(), "billed before it was ready");
    let held = w.claimed(&launch).await?;
    w.settled(&held, running("d-box")).await?;
    let first = lines(w).await?;
    for fence in [held.fence, lost.fence] {
        let again = w.store.settle(launch.id, fence, &running("d-box")).await?;
        ensure!(again == Settled::Lost);
    }
    ensure!(lines(w).await? == first && first.len() == 1, "{first:?}");

    let container = w.container(launch.container.context("a container")?).await?;
    let park = w.new_job(&request(snapshot("base:v1", Then::Park), Target::Container(container.id))).await?;
    let lost = w.claimed_for(&park, Duration::ZERO).await?;
    w.store.record_image(park.id, lost.fence, &draft(1)).await?;
    w.store.checkpoint(park.id, lost.fence, &at_checkpoint(gone())).await?;
    let removed_at = w.job(park.id).await?.checkpoint.removed_at;
    w.attend(park.id).await?;
    let held = w.claimed(&park).await?;
    // The next attempt says again that it is gone; that is no later.
    w.store.checkpoint(park.id, held.fence, &at_checkpoint(gone())).await?;
    w.settled(&held, Outcome::Succeeded(Effect::Removed)).await?;
    let written = lines(w).await?;
    ensure!(written.len() == 2 && written[0].to == removed_at && removed_at.is_some(), "{written:?}");
    ensure!(written[1].from == removed_at.context("a time")? && written[1].to.is_none(), "{written:?}");
    Ok(())
}

fn gone() -> mothball_domain::job::Checkpoint {
    mothball_domain::job::Checkpoint {
        removed_at: Some(Timestamp::UNIX_EPOCH),
        ..mothball_domain::job::Checkpoint::default()
    }
}

pub(crate) async fn containers_of_before_the_ledger_are_brought_into_it(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let (gone, lasting) = (w.launched("gone", 0).await?, w.launched("lasting", 0).await?);
    w.deleted(&gone).await?;
    let (written, used) = (sheets(w).await?, w.store.used_by_deleted(&project("p")).await?);
    w.forget_ledger().await?;
    ensure!(sheets(w).await?.is_empty());
    ensure!(w.store.begin_ledger().await? == 2);
    ensure!(sheets(w).await? == written, "{:?}", sheets(w).await?);
    ensure!(w.store.used_by_deleted(&project("p")).await? == used);
    ensure!(w.store.begin_ledger().await? == 0);
    w.deleted(&lasting).await.map(drop)
}
