//! Bringing images back: what a tag named before it was overwritten, and images that were deleted.

use crate::db::Order;
use crate::db::tx::Tx;
use crate::ops::images::ImageDraft;
use crate::ops::purge::leave_content;
use crate::ops::submit::{Idempotency, Submission, Submitted, Target, submit};
use crate::ops::{after, records, refusal, transact};
use crate::{Page, Store, StoreError, keys};
use jiff::Timestamp;
use mothball_domain::id::JobId;
use mothball_domain::image::{Digest, Image, ImageRef, PreviousDigest};
use mothball_domain::job::{Job, JobSpec};
use mothball_domain::name::{ProjectName, UserName};
use mothball_domain::undo::{DeletedImage, Gone, set_aside};
use std::time::Duration;

/// What is to be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreTo {
    /// The image that was deleted.
    Deleted,
    /// What the tag named before it was last overwritten.
    Previous,
    /// This digest, which the tag named before.
    Digest(Digest),
}

/// Somebody asks for an image back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// Its project.
    pub project: ProjectName,
    /// Its name and tag.
    pub image: ImageRef,
    /// What is to be brought back of it.
    pub to: RestoreTo,
    /// Who asks.
    pub user: UserName,
    /// A fresh id for the job that has the registry's tag follow.
    pub job: JobId,
    /// How long what the tag names now can be restored.
    pub undo: Duration,
    /// Attempts that the job gets.
    pub max_attempts: u32,
    /// The caller's own name for the request: repeated, a restore of what was before would undo itself.
    pub idempotency: Option<Idempotency>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Restored {
    /// It is back, and this job has the registry's tag follow.
    Done(Box<Image>, Box<Job>),
    /// The tag has an image, so that nothing is to be brought back; a sentence.
    Taken(String),
    /// Nothing can be brought back; a sentence.
    Nothing(String),
    /// The project's quota does not allow it; a sentence.
    Quota(String),
    /// This unfinished job has the tag.
    Busy(Box<Job>),
}

/// A tag of which something can be restored.
#[derive(Debug, Clone, PartialEq)]
pub enum Restorable {
    /// It has an image, and named something else before.
    Overwritten(Box<Image>),
    /// Its image was deleted.
    Deleted(Box<DeletedImage>),
}

impl Store {
    /// Brings an image back, in one step with the job that has the registry's tag follow. After an error it may be back
    /// or not.
    pub async fn restore_image(&self, restore: &Restore) -> Result<Restored, StoreError> {
        let restored = transact!(self, |tx| restore_image(tx, restore).await);
        if let Ok(Restored::Done(_, job)) = &restored {
            self.count_submitted(job);
        }
        restored
    }

    /// An image that was deleted and can still be restored.
    pub async fn deleted_image(
        &self,
        project: &ProjectName,
        image: &ImageRef,
    ) -> Result<Option<DeletedImage>, StoreError> {
        let mut tx = Tx::new(&self.db);
        let found: Option<DeletedImage> = tx.get(&keys::deleted_image(project, image)).await?;
        let now = tx.now().await?;
        Ok(found.filter(|deleted| deleted.is_restorable(now)))
    }

    /// Tags of a project of which something can be restored, by name and tag, a page at a time; of each, only what can
    /// be restored now.
    pub async fn restorable_images(
        &self,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Restorable>, StoreError> {
        let index = keys::undo_of_project(project);
        let (members, next) = self.leaf(&index, after, Order::Ascending, limit).await?;
        let mut tx = Tx::new(&self.db);
        let images: Vec<ImageRef> = members.iter().filter_map(|m| m.parse().ok()).collect();
        let both = |image: &ImageRef| [keys::image(project, image), keys::deleted_image(project, image)];
        tx.load(&images.iter().flat_map(both).collect::<Vec<_>>()).await?;
        let now = tx.now().await?;
        let mut items = Vec::new();
        for image in &images {
            items.extend(restorable(&mut tx, project, image, now).await?);
        }
        Ok(Page { items, next })
    }
}

async fn restorable(
    tx: &mut Tx<'_>,
    project: &ProjectName,
    image: &ImageRef,
    now: Timestamp,
) -> Result<Option<Restorable>, StoreError> {
    if let Some(mut found) = tx.get::<Image>(&keys::image(project, image)).await? {
        found.previous.retain(|p| p.is_restorable(now));
        return Ok((!found.previous.is_empty()).then(|| Restorable::Overwritten(Box::new(found))));
    }
    let found: Option<DeletedImage> = tx.get(&keys::deleted_image(project, image)).await?;
    let Some(mut found) = found.filter(|deleted| deleted.is_restorable(now)) else { return Ok(None) };
    found.image.previous.retain(|p| p.is_restorable(now));
    Ok(Some(Restorable::Deleted(Box::new(found))))
}

/// What the tag of a save named before, once it names what was saved. A deleted image whose tag it takes is among that.
pub(crate) async fn overwrite(
    tx: &mut Tx<'_>,
    project: &ProjectName,
    image: &ImageRef,
    before: Option<&Image>,
    draft: &ImageDraft,
) -> Result<Vec<PreviousDigest>, StoreError> {
    let now = tx.now().await?;
    let (previous, fallen_out, of) = if let Some(before) = before {
        let newest = PreviousDigest::of(before, now, after(now, draft.undo));
        let (previous, fallen_out) = set_aside(before.previous.clone(), Some(newest), &draft.digest);
        (previous, fallen_out, before.clone())
    } else if let Some(deleted) = tx.get::<DeletedImage>(&keys::deleted_image(project, image)).await? {
        records::remove_deleted_image(tx, &deleted.image);
        let (previous, fallen_out) = deleted.overwritten(&draft.digest);
        (previous, fallen_out, deleted.image)
    } else {
        return Ok(Vec::new());
    };
    for out in fallen_out {
        leave_content(tx, &of, &out).await?;
    }
    Ok(previous)
}

/// Takes an image out of every list. It can be restored for `undo`; where that is no time at all, its content goes.
pub(crate) async fn delete(
    tx: &mut Tx<'_>,
    image: Image,
    why: Gone,
    by: &UserName,
    undo: Duration,
) -> Result<(), StoreError> {
    let now = tx.now().await?;
    records::remove_image(tx, &image);
    let deleted = DeletedImage::new(image, why, by.clone(), now, after(now, undo));
    if deleted.is_restorable(now) {
        return records::put_deleted_image(tx, &deleted);
    }
    forget(tx, &deleted).await
}

/// Lets go of all that could be restored of a deleted image.
pub(crate) async fn forget(tx: &mut Tx<'_>, deleted: &DeletedImage) -> Result<(), StoreError> {
    let own = PreviousDigest::of(&deleted.image, deleted.deleted_at, deleted.until);
    for content in std::iter::once(&own).chain(&deleted.image.previous) {
        leave_content(tx, &deleted.image, content).await?;
    }
    Ok(())
}

async fn restore_image(tx: &mut Tx<'_>, r: &Restore) -> Result<Restored, StoreError> {
    tx.load(&[keys::image(&r.project, &r.image), keys::deleted_image(&r.project, &r.image)]).await?;
    let now = tx.now().await?;
    let live: Option<Image> = tx.get(&keys::image(&r.project, &r.image)).await?;
    let deleted: Option<DeletedImage> = tx.get(&keys::deleted_image(&r.project, &r.image)).await?;
    let deleted = deleted.filter(|deleted| deleted.is_restorable(now));
    let was_deleted = live.is_none();
    let Some(from) = live.or_else(|| deleted.map(|deleted| deleted.brought_back(now))) else {
        return Ok(Restored::Nothing(format!("no image {} can be restored", r.image)));
    };
    let target = match &r.to {
        RestoreTo::Deleted if was_deleted => None,
        RestoreTo::Deleted => return Ok(not_deleted(&from, now)),
        RestoreTo::Digest(digest) if *digest == from.digest && was_deleted => None,
        RestoreTo::Digest(digest) if *digest == from.digest => {
            return Ok(Restored::Taken(format!("image {} is {digest} already", r.image)));
        }
        RestoreTo::Digest(digest) => Some(digest.clone()),
        RestoreTo::Previous => match from.last_previous(now) {
            Some(previous) => Some(previous.digest.clone()),
            None => return Ok(nothing_before(&from)),
        },
    };
    let back = match &target {
        None => Some(from),
        Some(digest) => from.back_on(digest, now, after(now, r.undo)),
    };
    let Some(back) = back else {
        let why = format!("image {} was never that digest, or that is over its grace", r.image);
        return Ok(Restored::Nothing(why));
    };
    if was_deleted {
        if let Some(why) = refusal::quota_of_image(tx, &r.project, &r.image).await? {
            return Ok(Restored::Quota(why));
        }
        records::remove_deleted_image(tx, &back);
    }
    records::put_image(tx, &back)?;
    follow(tx, r, back).await
}

fn not_deleted(live: &Image, now: Timestamp) -> Restored {
    let Some(before) = live.last_previous(now) else { return nothing_before(live) };
    Restored::Taken(format!("image {} is there; it was {} before", live.image, before.digest))
}

fn nothing_before(live: &Image) -> Restored {
    let why = format!("image {} was not overwritten lately: there is nothing to restore", live.image);
    Restored::Nothing(why)
}

/// Starts the job that has the registry's tag follow. Whoever has the tag by another job has it for itself: then nothing
/// of the restore is written.
async fn follow(tx: &mut Tx<'_>, r: &Restore, back: Image) -> Result<Restored, StoreError> {
    let submission = Submission {
        id: r.job,
        spec: JobSpec::RestoreImage { image: r.image.clone(), digest: back.digest.clone() },
        user: r.user.clone(),
        project: r.project.clone(),
        target: Target::Image,
        schedule: None,
        idempotency: r.idempotency.clone(),
        max_attempts: r.max_attempts,
        alive_within: Duration::ZERO,
    };
    match submit(tx, &submission).await? {
        Submitted::New(job) | Submitted::Replayed(job) => Ok(Restored::Done(Box::new(back), job)),
        Submitted::Joined(job) | Submitted::Busy(job) => Ok(Restored::Busy(job)),
        other => Ok(Restored::Nothing(format!("the store refused the restore: {other:?}"))),
    }
}
