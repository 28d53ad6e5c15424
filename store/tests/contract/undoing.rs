//! Bringing back: deleted images, and what tags named before.

use crate::world::*;
use anyhow::{Context, Result, bail, ensure};
use mothball_domain::container::Container;
use mothball_domain::image::Image;
use mothball_domain::job::{Job, JobSpec, Then};
use mothball_domain::undo::Gone;
use mothball_store::{
    Effect, Idempotency, Outcome, Restorable, Restore, RestoreTo, Restored, Retried, Submitted, Target,
};
use std::time::Duration;

pub(crate) async fn ready(w: &World) -> Result<Container> {
    w.store.create_project(&project("p")).await?;
    w.node("n1", 0).await?;
    w.launched("box", 0).await
}

/// Deletes an image by a job of ann's, restorable for so long.
pub(crate) async fn removed(w: &World, name: &str, number: u8, undo: Duration) -> Result<Job> {
    let spec = JobSpec::DeleteImage { image: image(name), digest: digest(number) };
    let job = w.new_job(&request(spec, Target::Image)).await?;
    w.ended(&job, Outcome::Succeeded(Effect::ImageRemoved { undo })).await
}

fn wanted(name: &str, to: RestoreTo) -> Restore {
    Restore {
        project: project("p"),
        image: image(name),
        to,
        user: user("ann"),
        job: fresh_id(),
        undo: LONG,
        max_attempts: 3,
        idempotency: None,
    }
}

async fn restored(w: &World, name: &str, to: RestoreTo) -> Result<(Image, Job)> {
    match w.store.restore_image(&wanted(name, to)).await? {
        Restored::Done(image, job) => Ok((*image, *job)),
        other => bail!("not restored: {other:?}"),
    }
}

async fn refused(w: &World, name: &str, to: RestoreTo) -> Result<Restored> {
    match w.store.restore_image(&wanted(name, to)).await? {
        Restored::Done(image, _) => bail!("restored: {image:?}"),
        other => Ok(other),
    }
}

async fn found(w: &World, name: &str) -> Result<Option<Image>> {
    Ok(w.store.image(&project("p"), &image(name)).await?)
}

pub(crate) async fn a_deleted_image_is_in_no_list_and_comes_back(w: &World) -> Result<()> {
    let container = ready(w).await?;
    w.saved(&container, "base:v1", 1).await?;
    w.saved(&container, "base:v1", 2).await?;
    w.store.pin_image(&project("p"), &image("base:v1"), true).await?;
    let before = found(w, "base:v1").await?.context("the image")?;
    removed(w, "base:v1", 2, LONG).await?;
    ensure!(
        found(w, "base:v1").await?.is_none()
            && w.store.images(&project("p"), None, 9).await?.items.is_empty()
    );
    let gone =
        w.store.deleted_image(&project("p"), &image("base:v1")).await?.context("nothing to restore")?;
    ensure!(gone.image == before && gone.why == Gone::Deleted && gone.by == user("ann"), "{gone:?}");
    ensure!(gone.until.duration_since(gone.deleted_at).as_secs() == LONG.as_secs().cast_signed(), "{gone:?}");
    ensure!(
        w.store.undo_due(9).await?.is_empty() && w.store.leaving_due(9).await?.is_empty(),
        "it is leaving"
    );

    let (back, job) = restored(w, "base:v1", RestoreTo::Deleted).await?;
    ensure!(back.last_used_at.is_some_and(|at| at >= gone.deleted_at));
    ensure!(
        back == Image { last_used_at: back.last_used_at, ..before }
            && found(w, "base:v1").await? == Some(back)
    );
    ensure!(w.store.deleted_image(&project("p"), &image("base:v1")).await?.is_none());
    ensure!(job.spec == JobSpec::RestoreImage { image: image("base:v1"), digest: digest(2) });
    ensure!(job.image.as_deref() == Some("base:v1") && w.is_due(job.id).await?);
    w.ended(&job, Outcome::Succeeded(Effect::None)).await?;
    removed(w, "base:v1", 2, LONG).await.map(drop)
}

pub(crate) async fn what_was_overwritten_comes_back_and_so_does_what_it_replaces(w: &World) -> Result<()> {
    let container = ready(w).await?;
    let first = w.saved(&container, "base:v1", 1).await?;
    w.saved(&container, "base:v1", 2).await?;
    w.saved(&container, "base:v1", 3).await?;
    let (back, job) = restored(w, "base:v1", RestoreTo::Previous).await?;
    ensure!(back.digest == digest(2) && back.size_bytes == 1002 && back.previous[0].digest == digest(3));
    w.ended(&job, Outcome::Succeeded(Effect::None)).await?;
    let (back, job) = restored(w, "base:v1", RestoreTo::Digest(digest(1))).await?;
    ensure!(back.digest == digest(1) && back.job == first.id, "{back:?}");
    ensure!(back.reference.ends_with(digest(1).as_str()), "{}", back.reference);
    let kept: Vec<_> = back.previous.iter().map(|p| p.digest.clone()).collect();
    ensure!(kept == [digest(2), digest(3)], "{kept:?}");
    w.ended(&job, Outcome::Succeeded(Effect::None)).await?;
    // Deleted since: the tag comes back as what it was before the last overwrite.
    removed(w, "base:v1", 1, LONG).await?;
    let (back, job) = restored(w, "base:v1", RestoreTo::Previous).await?;
    ensure!(back.digest == digest(2) && back.previous[0].digest == digest(1), "{back:?}");
    w.ended(&job, Outcome::Succeeded(Effect::None)).await?;
    // What is over its grace is not there any more.
    w.saved_for(&container, "base:v2", 4, LONG).await?;
    w.saved_for(&container, "base:v2", 5, Duration::ZERO).await?;
    ensure!(matches!(refused(w, "base:v2", RestoreTo::Previous).await?, Restored::Nothing(_)));
    ensure!(matches!(refused(w, "base:v2", RestoreTo::Digest(digest(4))).await?, Restored::Nothing(_)));
    Ok(())
}

pub(crate) async fn a_save_under_a_deleted_tag_overwrites_it(w: &World) -> Result<()> {
    let container = ready(w).await?;
    w.saved(&container, "base:v1", 1).await?;
    w.saved(&container, "base:v1", 2).await?;
    removed(w, "base:v1", 2, LONG).await?;
    let until = w.store.deleted_image(&project("p"), &image("base:v1")).await?.context("deleted")?.until;
    w.saved(&container, "base:v1", 3).await?;
    ensure!(w.store.deleted_image(&project("p"), &image("base:v1")).await?.is_none());
    let now = found(w, "base:v1").await?.context("the image")?;
    let kept: Vec<_> = now.previous.iter().map(|p| p.digest.clone()).collect();
    ensure!(kept == [digest(2), digest(1)] && now.previous[0].until == Some(until), "{now:?}");
    ensure!(matches!(refused(w, "base:v1", RestoreTo::Deleted).await?, Restored::Taken(_)));
    ensure!(restored(w, "base:v1", RestoreTo::Previous).await?.0.digest == digest(2));
    Ok(())
}

pub(crate) async fn a_restore_is_refused_with_the_reason(w: &World) -> Result<()> {
    let container = ready(w).await?;
    ensure!(matches!(refused(w, "base:v1", RestoreTo::Deleted).await?, Restored::Nothing(_)));
    w.saved(&container, "base:v1", 1).await?;
    let Restored::Nothing(why) = refused(w, "base:v1", RestoreTo::Deleted).await? else { bail!("restored") };
    ensure!(why.contains("nothing to restore"), "{why}");
    ensure!(matches!(refused(w, "base:v1", RestoreTo::Digest(digest(1))).await?, Restored::Taken(_)));
    ensure!(matches!(refused(w, "base:v1", RestoreTo::Digest(digest(9))).await?, Restored::Nothing(_)));
    w.saved(&container, "base:v1", 2).await?;
    ensure!(matches!(refused(w, "base:v1", RestoreTo::Deleted).await?, Restored::Taken(_)));

    // A job has the tag.
    let save = w.new_job(&request(snapshot("base:v1", Then::Keep), Target::Container(container.id))).await?;
    let busy = refused(w, "base:v1", RestoreTo::Previous).await?;
    ensure!(busy == Restored::Busy(Box::new(w.job(save.id).await?)), "{busy:?}");
    ensure!(found(w, "base:v1").await?.is_some_and(|i| i.digest == digest(2)), "a refused restore was done");
    w.store.cancel(save.id).await?;
    // So has the restore itself, until the registry's tag has followed.
    let (_, follows) = restored(w, "base:v1", RestoreTo::Previous).await?;
    ensure!(matches!(refused(w, "base:v1", RestoreTo::Previous).await?, Restored::Busy(_)));
    let save = request(snapshot("base:v1", Then::Keep), Target::Container(container.id));
    ensure!(matches!(w.store.submit(&save).await?, Submitted::Busy(job) if job.id == follows.id));
    w.ended(&follows, failed(permanent(), LONG)).await?;
    ensure!(matches!(w.store.retry(follows.id, LONG).await?, Retried::Queued(_)));
    w.ended(&follows, failed(permanent(), LONG)).await?;
    let (_, job) = restored(w, "base:v1", RestoreTo::Previous).await?;
    w.ended(&job, Outcome::Succeeded(Effect::None)).await?;
    ensure!(
        matches!(w.store.retry(follows.id, LONG).await?, Retried::Impossible(_)),
        "it names another digest"
    );

    // The quota: what can only be restored counts for nothing, what is restored does.
    removed(w, "base:v1", 2, LONG).await?;
    w.store.set_quota(&project("p"), None, Some(1)).await?;
    w.saved(&container, "base:v2", 3).await?;
    ensure!(matches!(refused(w, "base:v1", RestoreTo::Deleted).await?, Restored::Quota(_)));
    w.saved(&container, "base:v2", 4).await?;
    restored(w, "base:v2", RestoreTo::Previous).await.map(drop)
}

pub(crate) async fn of_many_restores_at_once_one_counts(w: &World) -> Result<()> {
    let container = ready(w).await?;
    w.saved(&container, "base:v1", 1).await?;
    removed(w, "base:v1", 1, LONG).await?;
    let racers = (0..8).map(|_| {
        let (store, restore) = (w.store.clone(), wanted("base:v1", RestoreTo::Deleted));
        async move { store.restore_image(&restore).await }
    });
    let outcomes = futures_util::future::try_join_all(racers).await?;
    let done = outcomes.iter().filter(|o| matches!(o, Restored::Done(..))).count();
    ensure!(done == 1, "{outcomes:?}");
    // By its key a request that is repeated is known to have come before.
    w.saved(&container, "base:v2", 1).await?;
    w.saved(&container, "base:v2", 2).await?;
    let key = Idempotency { key: "k".into(), body_sha256: "b".into() };
    let keyed = Restore { idempotency: Some(key.clone()), ..wanted("base:v2", RestoreTo::Previous) };
    let Restored::Done(_, job) = w.store.restore_image(&keyed).await? else { bail!("not restored") };
    let replayed = w.store.replay(&user("ann"), &key).await?.context("it is forgotten")?;
    ensure!(matches!(replayed, Submitted::Replayed(again) if again.id == job.id));
    Ok(())
}

pub(crate) async fn what_can_be_restored_is_listed_by_page(w: &World) -> Result<()> {
    let container = ready(w).await?;
    for (name, number) in [("base:a", 1), ("base:b", 2), ("base:b", 3), ("base:c", 4), ("base:d", 5)] {
        w.saved(&container, name, number).await?;
    }
    removed(w, "base:a", 1, LONG).await?;
    removed(w, "base:d", 5, LONG).await?;
    let (mut met, mut after) = (Vec::new(), None);
    loop {
        let page = w.store.restorable_images(&project("p"), after.as_deref(), 2).await?;
        met.extend(page.items.into_iter().map(|item| match item {
            Restorable::Deleted(deleted) => format!("{} deleted", deleted.image.image),
            Restorable::Overwritten(image) => {
                format!("{} was {}", image.image, &image.previous[0].digest.hex()[..2])
            }
        }));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    ensure!(met == ["base:a deleted", "base:b was 02", "base:d deleted"], "{met:?}");
    ensure!(w.store.restorable_images(&project("q"), None, 9).await?.items.is_empty());
    Ok(())
}
