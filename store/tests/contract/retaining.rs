//! Policies about images: notice, its withdrawal, removal.

use super::undoing::ready;
use crate::world::*;
use anyhow::{Context, Result, bail, ensure};
use mothball_domain::image::{Image, ImageRef};
use mothball_domain::job::{Job, JobSpec, Then};
use mothball_domain::retention::{Reason, RetentionPolicy, Stay, Verdict};
use mothball_domain::undo::Gone;
use mothball_store::{Effect, Outcome, Restore, RestoreTo, Restored, Retained, Retaining, Target};
use std::time::Duration;

/// Notice that has run its time at once.
const AT_ONCE: Retaining = Retaining { notice: Duration::ZERO, undo: LONG, max_attempts: 3 };
/// Notice that outlasts the test.
const LATER: Retaining = Retaining { notice: LONG, ..AT_ONCE };

async fn keep_last(w: &World, count: u32) -> Result<()> {
    let policy = RetentionPolicy { keep_last: Some(count), unused_days: None };
    w.store.set_retention_policy(&project("p"), &policy).await.context("set the policy")
}

/// What a scheduler does in one round, as words.
async fn round(w: &World, retaining: &Retaining) -> Result<Vec<String>> {
    let mut done = Vec::new();
    for name in w.store.image_names(&project("p")).await? {
        for retained in w.store.retain(&project("p"), &name, retaining).await? {
            done.push(match retained {
                Retained::Due(image) => match removed(w, &image, retaining).await? {
                    Some((image, _)) => format!("removed {}", image.image),
                    None => continue,
                },
                Retained::Noticed(_, image) => format!("noticed {}", image.image),
                Retained::Withdrawn(why, image) => format!("withdrawn {} {}", image.image, why.as_str()),
                other => bail!("{other:?}"),
            });
        }
    }
    Ok(done)
}

async fn removed(w: &World, image: &ImageRef, retaining: &Retaining) -> Result<Option<(Image, Job)>> {
    match w.store.retain_no_more(&project("p"), image, fresh_id(), retaining).await? {
        Retained::Removed(_, image, job) => Ok(Some((*image, *job))),
        Retained::Nothing => Ok(None),
        other => bail!("{other:?}"),
    }
}

async fn lists(w: &World) -> Result<Vec<String>> {
    let images = w.store.images(&project("p"), None, 100).await?.items;
    Ok(images.into_iter().map(|i| i.image.to_string()).collect())
}

pub(crate) async fn a_policy_is_kept_until_it_lets_nothing_go(w: &World) -> Result<()> {
    ready(w).await?;
    ensure!(w.store.retention_policy(&project("p")).await?.is_off());
    let policy = RetentionPolicy { keep_last: Some(3), unused_days: Some(30) };
    w.store.set_retention_policy(&project("p"), &policy).await?;
    ensure!(w.store.retention_policy(&project("p")).await? == policy);
    w.store.end_retention_policy(&project("p")).await?;
    ensure!(w.store.projects_with_retention_policy().await? == [project("p")], "it is in force");
    w.store.set_retention_policy(&project("p"), &RetentionPolicy::default()).await?;
    ensure!(w.store.projects_with_retention_policy().await? == [project("p")], "its notices stand");
    w.store.end_retention_policy(&project("p")).await?;
    ensure!(w.store.projects_with_retention_policy().await?.is_empty());
    Ok(())
}

pub(crate) async fn notice_is_given_once_and_then_the_image_goes(w: &World) -> Result<()> {
    let container = ready(w).await?;
    for (name, number) in [("base:v1", 1), ("base:v2", 2), ("base:v3", 3), ("other:v1", 4)] {
        w.saved(&container, name, number).await?;
    }
    ensure!(round(w, &AT_ONCE).await?.is_empty(), "there is no policy");
    keep_last(w, 1).await?;
    ensure!(round(w, &LATER).await? == ["noticed base:v1", "noticed base:v2"]);
    ensure!(round(w, &LATER).await?.is_empty(), "they had notice");
    let refs = ["base:v1", "base:v2", "base:v3"].map(image);
    let notices = w.store.removal_notices(&project("p"), &refs).await?;
    ensure!(notices.len() == 2, "{notices:?}");
    let notice = notices.get(&image("base:v1")).context("a notice")?;
    ensure!(notice.digest == digest(1) && notice.reason == Reason::NotAmongLast, "{notice:?}");
    ensure!(notice.remove_at.duration_since(notice.noticed_at).as_secs() == LONG.as_secs().cast_signed());
    ensure!(removed(w, &image("base:v1"), &AT_ONCE).await?.is_none(), "what was promised counts");

    // The policy is set anew: the notices that stand go with the old one, and the new ones are over at once.
    w.store.set_retention_policy(&project("p"), &RetentionPolicy::default()).await?;
    ensure!(round(w, &LATER).await? == ["withdrawn base:v1 no_policy", "withdrawn base:v2 no_policy"]);
    keep_last(w, 2).await?;
    ensure!(round(w, &AT_ONCE).await? == ["noticed base:v1"]);
    ensure!(round(w, &AT_ONCE).await? == ["removed base:v1"] && round(w, &AT_ONCE).await?.is_empty());
    ensure!(lists(w).await? == ["base:v2", "base:v3", "other:v1"]);
    let gone = w.store.deleted_image(&project("p"), &image("base:v1")).await?.context("a deleted image")?;
    ensure!(gone.why == Gone::Retention && gone.image.digest == digest(1), "{gone:?}");
    let job = w.all_jobs().await?.into_iter().find(|job| matches!(job.spec, JobSpec::DeleteImage { .. }));
    let job = job.context("a job that takes the tag away")?;
    ensure!(job.user == user("ann") && w.is_due(job.id).await?);
    w.ended(&job, Outcome::Succeeded(Effect::ImageRemoved { undo: LONG })).await?;
    ensure!(w.store.deleted_image(&project("p"), &image("base:v1")).await? == Some(gone));
    Ok(())
}

pub(crate) async fn a_notice_goes_with_its_reason(w: &World) -> Result<()> {
    let container = ready(w).await?;
    for (name, number) in [("base:v1", 1), ("base:v2", 2)] {
        w.saved(&container, name, number).await?;
    }
    let policy = RetentionPolicy { keep_last: Some(1), unused_days: None };
    w.store.set_retention_policy(&project("p"), &policy).await?;
    ensure!(round(w, &LATER).await? == ["noticed base:v1"]);
    w.store.pin_image(&project("p"), &image("base:v1"), true).await?;
    ensure!(round(w, &LATER).await? == ["withdrawn base:v1 pinned"] && round(w, &LATER).await?.is_empty());
    w.store.pin_image(&project("p"), &image("base:v1"), false).await?;
    ensure!(round(w, &AT_ONCE).await? == ["noticed base:v1"]);
    // Between the notice and the removal: pinned, then saved anew.
    w.store.pin_image(&project("p"), &image("base:v1"), true).await?;
    ensure!(removed(w, &image("base:v1"), &AT_ONCE).await?.is_none(), "a pinned image was removed");
    w.store.pin_image(&project("p"), &image("base:v1"), false).await?;
    w.saved(&container, "base:v1", 9).await?;
    ensure!(removed(w, &image("base:v1"), &AT_ONCE).await?.is_none(), "another image was removed");
    ensure!(round(w, &LATER).await? == ["withdrawn base:v1 among_last", "noticed base:v2"]);
    // What is restored begins anew.
    let days = RetentionPolicy { keep_last: None, unused_days: Some(1) };
    w.store.set_retention_policy(&project("p"), &days).await?;
    ensure!(round(w, &LATER).await? == ["withdrawn base:v2 used_lately"]);
    Ok(())
}

pub(crate) async fn what_a_container_needs_or_a_job_has_stays(w: &World) -> Result<()> {
    let container = ready(w).await?;
    let parked = w.launched("parked", 0).await?;
    w.parked(&parked, "base:parked").await?;
    w.saved(&container, "base:v2", 2).await?;
    w.saved(&container, "base:v3", 3).await?;
    keep_last(w, 1).await?;
    let save = w.new_job(&request(snapshot("base:v2", Then::Keep), Target::Container(container.id))).await?;
    ensure!(round(w, &AT_ONCE).await?.is_empty(), "one is needed, one has a job");
    w.store.cancel(save.id).await?;
    ensure!(round(w, &AT_ONCE).await? == ["noticed base:v2"]);
    let removal = JobSpec::DeleteImage { image: image("base:v2"), digest: digest(2) };
    let removal = w.new_job(&request(removal, Target::Image)).await?;
    ensure!(removed(w, &image("base:v2"), &AT_ONCE).await?.is_none(), "a job has it");
    w.store.cancel(removal.id).await?;
    ensure!(round(w, &AT_ONCE).await? == ["removed base:v2"]);
    // Its tag is overwritten: it still wakes from what it was parked as, and the tag stays as well.
    w.saved(&container, "base:parked", 5).await?;
    w.saved(&container, "base:v4", 6).await?;
    ensure!(round(w, &AT_ONCE).await? == ["noticed base:v3"]);
    w.deleted(&w.container(parked.id).await?).await?;
    ensure!(round(w, &AT_ONCE).await? == ["noticed base:parked", "removed base:v3"]);
    Ok(())
}

pub(crate) async fn of_many_schedulers_one_removes(w: &World) -> Result<()> {
    let container = ready(w).await?;
    for (name, number) in [("base:v1", 1), ("base:v2", 2), ("base:v3", 3)] {
        w.saved(&container, name, number).await?;
    }
    keep_last(w, 1).await?;
    let noticed = futures_util::future::try_join_all((0..6).map(|_| round(w, &AT_ONCE))).await?;
    let mut all: Vec<String> = noticed.into_iter().flatten().collect();
    let rest = futures_util::future::try_join_all((0..6).map(|_| round(w, &AT_ONCE))).await?;
    all.extend(rest.into_iter().flatten());
    all.sort();
    ensure!(all == ["noticed base:v1", "noticed base:v2", "removed base:v1", "removed base:v2"], "{all:?}");
    let jobs = w.all_jobs().await?.into_iter().filter(|job| matches!(job.spec, JobSpec::DeleteImage { .. }));
    ensure!(jobs.count() == 2);
    // While the tag is taken away nobody brings it back; afterwards anybody does, and it has notice anew.
    let restore = Restore {
        project: project("p"),
        image: image("base:v1"),
        to: RestoreTo::Deleted,
        user: user("ann"),
        job: fresh_id(),
        undo: LONG,
        max_attempts: 3,
        idempotency: None,
    };
    let Restored::Busy(job) = w.store.restore_image(&restore).await? else { bail!("it was not refused") };
    w.ended(&job, Outcome::Succeeded(Effect::ImageRemoved { undo: LONG })).await?;
    ensure!(matches!(w.store.restore_image(&restore).await?, Restored::Done(..)));
    ensure!(
        w.store.removal_notices(&project("p"), &[image("base:v1")]).await?.is_empty(),
        "the old notice stands"
    );
    Ok(())
}

pub(crate) async fn a_preview_says_what_happens_and_changes_nothing(w: &World) -> Result<()> {
    let container = ready(w).await?;
    for (name, number) in [("base:v1", 1), ("base:v2", 2), ("base:v3", 2), ("base:v4", 4), ("other:v1", 5)] {
        w.saved(&container, name, number).await?;
    }
    w.store.pin_image(&project("p"), &image("base:v3"), true).await?;
    let policy = RetentionPolicy { keep_last: Some(1), unused_days: None };
    let forecasts = w.store.would_retain(&project("p"), &policy, &LATER).await?;
    let told: Vec<(String, String, u64)> = forecasts
        .iter()
        .map(|f| {
            let verdict = match &f.verdict {
                Verdict::Stay(why) => why.as_str(),
                Verdict::Notice(_) => "goes",
                _ => "else",
            };
            (f.image.image.to_string(), verdict.to_owned(), f.frees_bytes)
        })
        .collect();
    let expected = [
        ("base:v1", "goes", 1001),
        // Pinned v3 has the same content.
        ("base:v2", "goes", 0),
        ("base:v3", Stay::Pinned.as_str(), 0),
        ("base:v4", Stay::AmongLast.as_str(), 0),
        ("other:v1", Stay::AmongLast.as_str(), 0),
    ];
    let expected = expected.map(|(image, verdict, bytes)| (image.to_owned(), verdict.to_owned(), bytes));
    ensure!(told == expected, "{told:?}");
    ensure!(
        w.store.removal_notices(&project("p"), &[image("base:v1")]).await?.is_empty(),
        "a preview gave notice"
    );
    keep_last(w, 1).await?;
    ensure!(round(w, &LATER).await? == ["noticed base:v1", "noticed base:v2"], "the policy does otherwise");
    Ok(())
}
