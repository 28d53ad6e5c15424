//! The last way of content: what nobody can restore goes from the registry once, and only when nothing needs it.

use super::undoing::{ready, removed};
use crate::world::*;
use anyhow::{Context, Result, bail, ensure};
use mothball_domain::container::Source;
use mothball_domain::image::{Digest, ImageRef};
use mothball_domain::job::{Job, JobSpec, Then};
use mothball_domain::name::{ImageName, ProjectName};
use mothball_harness::wait::try_eventually;
use mothball_store::{Effect, Need, Outcome, Purged, Recorded, Removal, Retried, Target};
use std::time::Duration;

const NOW: Duration = Duration::ZERO;

/// What a scheduler does in one round; the jobs that it starts.
async fn round(w: &World) -> Result<Vec<Job>> {
    for (project, image) in w.store.undo_due(100).await? {
        w.store.expire_undo(&project, &image).await?;
    }
    let mut started = Vec::new();
    for (project, name, digest) in w.store.leaving_due(100).await? {
        if let Purged::Started(_, job) =
            w.store.purge_content(&project, &name, &digest, fresh_id(), 3).await?
        {
            started.push(*job);
        }
    }
    Ok(started)
}

fn purges(number: u8, name: &str) -> JobSpec {
    JobSpec::PurgeImage { image: image(name), digest: digest(number) }
}

fn content(number: u8) -> (ProjectName, ImageName, Digest) {
    (project("p"), image_name("base"), digest(number))
}

/// Asks for a purge of leaving content, due or not.
async fn asked(w: &World, number: u8) -> Result<Purged> {
    let (project, name, digest) = content(number);
    Ok(w.store.purge_content(&project, &name, &digest, fresh_id(), 3).await?)
}

async fn go(w: &World, job: &Job) -> Result<Removal> {
    Ok(w.store.remove_content(job.id, job.fence).await?)
}

pub(crate) async fn what_is_over_its_grace_is_purged_once(w: &World) -> Result<()> {
    let container = ready(w).await?;
    w.saved(&container, "base:v1", 1).await?;
    w.saved_for(&container, "base:v1", 2, LONG).await?;
    ensure!(round(w).await?.is_empty(), "it can still be restored");
    w.saved_for(&container, "base:v1", 3, NOW).await?;
    let racers = futures_util::future::try_join_all((0..6).map(|_| round(w))).await?;
    let started: Vec<Job> = racers.into_iter().flatten().collect();
    ensure!(started.len() == 1 && started[0].spec == purges(2, "base:v1"), "{started:?}");
    ensure!(started[0].user == user("ann") && started[0].image.as_deref() == Some("base:v1"));
    ensure!(w.is_due(started[0].id).await? && round(w).await?.is_empty());
    let image = w.store.image(&project("p"), &image("base:v1")).await?.context("the image")?;
    ensure!(image.previous.iter().map(|p| &p.digest).eq([&digest(1)]), "{:?}", image.previous);

    let held = w.claimed(&started[0]).await?;
    ensure!(go(w, &held).await? == Removal::Go && go(w, &held).await? == Removal::Go, "it is idempotent");
    w.settled(&held, Outcome::Succeeded(Effect::ContentRemoved)).await?;
    ensure!(asked(w, 2).await? == Purged::Nothing && round(w).await?.is_empty(), "it is forgotten");

    // A deleted image, with all that its tag named before.
    removed(w, "base:v1", 3, Duration::from_millis(20)).await?;
    let mut met = Vec::new();
    try_eventually(SOON, "two purges", async || {
        met.extend(round(w).await?.into_iter().map(|job| job.spec));
        Ok((met.len() == 2).then_some(()))
    })
    .await?;
    met.sort_by_key(|spec| format!("{spec:?}"));
    ensure!(met == [purges(1, "base:v1"), purges(3, "base:v1")], "{met:?}");
    ensure!(w.store.deleted_image(&project("p"), &"base:v1".parse()?).await?.is_none());
    Ok(())
}

pub(crate) async fn what_another_tag_or_an_undo_needs_is_not_purged(w: &World) -> Result<()> {
    let container = ready(w).await?;
    w.saved(&container, "base:v1", 1).await?;
    w.saved(&container, "base:alias", 1).await?;
    removed(w, "base:v1", 1, NOW).await?;
    ensure!(matches!(asked(w, 1).await?, Purged::Needed(_, Need::Tag(i)) if i == image("base:alias")));
    // The other tag is what lists it again.
    ensure!(round(w).await?.is_empty() && asked(w, 1).await? == Purged::Nothing);
    w.saved_for(&container, "base:alias", 2, LONG).await?;
    w.saved(&container, "base:third", 1).await?;
    removed(w, "base:third", 1, NOW).await?;
    ensure!(matches!(asked(w, 1).await?, Purged::Needed(_, Need::Restorable(i)) if i == image("base:alias")));
    removed(w, "base:alias", 2, LONG).await?;
    w.saved(&container, "base:third", 2).await?;
    removed(w, "base:third", 2, NOW).await?;
    ensure!(matches!(asked(w, 2).await?, Purged::Needed(_, Need::Restorable(i)) if i == image("base:alias")));
    // Another name is another repository.
    w.saved(&container, "other:v1", 3).await?;
    w.saved(&container, "base:v3", 3).await?;
    removed(w, "base:v3", 3, NOW).await?;
    ensure!(matches!(asked(w, 3).await?, Purged::Started(..)));
    Ok(())
}

pub(crate) async fn what_a_container_needs_is_kept_until_it_is_gone(w: &World) -> Result<()> {
    ready(w).await?;
    let parked = w.launched("parked", 0).await?;
    let save = w.new_job(&request(snapshot("base:v7", Then::Park), Target::Container(parked.id))).await?;
    let held = w.claimed(&save).await?;
    w.store.record_image(held.id, held.fence, &draft(7)).await?;
    w.settled(&held, Outcome::Succeeded(Effect::Removed)).await?;
    removed(w, "base:v7", 7, NOW).await?;
    ensure!(matches!(asked(w, 7).await?, Purged::Needed(_, Need::Container(id)) if id == parked.id));
    // It is looked at again, not forgotten.
    ensure!(matches!(asked(w, 7).await?, Purged::Needed(..)));
    let parked = w.container(parked.id).await?;
    ensure!(matches!(&parked.launch.source, Source::Custom { digest: d, .. } if *d == digest(7)));
    w.deleted(&parked).await?;
    ensure!(matches!(asked(w, 7).await?, Purged::Started(_, job) if job.spec == purges(7, "base:v7")));
    Ok(())
}

pub(crate) async fn a_save_of_what_is_being_purged_waits(w: &World) -> Result<()> {
    let container = ready(w).await?;
    w.saved(&container, "base:v1", 1).await?;
    removed(w, "base:v1", 1, NOW).await?;
    // Nobody is at work on it yet: it is the save's.
    w.saved(&container, "base:v2", 1).await?;
    ensure!(round(w).await?.is_empty() && asked(w, 1).await? == Purged::Nothing);
    removed(w, "base:v2", 1, NOW).await?;
    let purge = round(w).await?.pop().context("a purge")?;
    let purge = w.claimed(&purge).await?;
    ensure!(go(w, &purge).await? == Removal::Go);
    let save = w.new_job(&request(snapshot("base:v3", Then::Keep), Target::Container(container.id))).await?;
    let save = w.claimed(&save).await?;
    let record = async || w.store.record_image(save.id, save.fence, &draft(1)).await;
    ensure!(record().await? == Recorded::Leaving(purge.id) && record().await? == Recorded::Leaving(purge.id));
    ensure!(w.store.image(&project("p"), &image("base:v3")).await?.is_none());
    // A purge that failed may have done it all the same: one more proof is needed, and then it is the save's.
    w.settled(&purge, failed(permanent(), LONG)).await?;
    ensure!(record().await? == Recorded::Leaving(purge.id));
    ensure!(
        matches!(w.store.retry(purge.id, LONG).await?, Retried::Impossible(_)),
        "a save has seen it fail"
    );
    ensure!(record().await? == Recorded::Held { cancel: false });
    w.settled(&save, Outcome::Succeeded(Effect::None)).await?;
    ensure!(round(w).await?.is_empty());
    Ok(())
}

pub(crate) async fn a_purge_that_failed_is_started_again(w: &World) -> Result<()> {
    let container = ready(w).await?;
    w.saved(&container, "base:v1", 1).await?;
    removed(w, "base:v1", 1, NOW).await?;
    let first = round(w).await?.pop().context("a purge")?;
    ensure!(asked(w, 1).await? == Purged::Nothing, "a job is at work on it");
    w.ended(&first, failed(permanent(), LONG)).await?;
    ensure!(round(w).await?.is_empty(), "not at once");
    let Purged::Started(_, second) = asked(w, 1).await? else { bail!("it is given up") };
    ensure!(matches!(w.store.retry(first.id, LONG).await?, Retried::Impossible(_)), "another job removes it");
    let held = w.claimed(&second).await?;
    ensure!(go(w, &held).await? == Removal::Go);
    w.settled(&held, Outcome::Succeeded(Effect::ContentRemoved)).await?;
    ensure!(asked(w, 1).await? == Purged::Nothing);
    // Whoever cancels one puts it off.
    w.saved(&container, "base:v1", 1).await?;
    removed(w, "base:v1", 1, NOW).await?;
    let third = round(w).await?.pop().context("a purge")?;
    w.store.cancel(third.id).await?;
    ensure!(matches!(asked(w, 1).await?, Purged::Started(..)));
    Ok(())
}

pub(crate) async fn without_undo_a_deletion_removes_the_content_itself(w: &World) -> Result<()> {
    let container = ready(w).await?;
    let deletion = async |name: &str, number: u8| -> Result<(Job, Removal)> {
        let spec = JobSpec::DeleteImage { image: image(name), digest: digest(number) };
        let held = w.claimed(&w.new_job(&request(spec, Target::Image)).await?).await?;
        let removal = go(w, &held).await?;
        Ok((held, removal))
    };
    w.saved(&container, "base:v1", 1).await?;
    w.saved_for(&container, "base:v1", 2, LONG).await?;
    w.saved(&container, "base:alias", 2).await?;
    let (held, removal) = deletion("base:v1", 2).await?;
    ensure!(removal == Removal::Needed(Need::Tag(image("base:alias"))), "{removal:?}");
    w.settled(&held, Outcome::Succeeded(Effect::ImageRemoved { undo: NOW })).await?;
    let started: Vec<JobSpec> = round(w).await?.into_iter().map(|job| job.spec).collect();
    ensure!(started == [purges(1, "base:v1")], "what the tag named before goes, too: {started:?}");
    let (held, removal) = deletion("base:alias", 2).await?;
    ensure!(removal == Removal::Go, "{removal:?}");
    w.settled(&held, Outcome::Succeeded(Effect::ImageRemoved { undo: NOW })).await?;
    ensure!(asked(w, 2).await? == Purged::Nothing && round(w).await?.is_empty(), "it is gone");
    ensure!(go(w, &held).await? == Removal::Lost);
    Ok(())
}

pub(crate) async fn what_falls_out_of_a_tags_history_is_purged(w: &World) -> Result<()> {
    let container = ready(w).await?;
    for number in 1..=12 {
        w.saved(&container, "base:v1", number).await?;
    }
    let started: Vec<JobSpec> = round(w).await?.into_iter().map(|job| job.spec).collect();
    ensure!(started == [purges(1, "base:v1")], "{started:?}");
    let of_none: ImageRef = "base:none".parse()?;
    ensure!(w.store.expire_undo(&project("p"), &of_none).await? == 0);
    Ok(())
}
