//! Images of a project.

use crate::db::Order;
use crate::db::tx::Tx;
use crate::ops::claim::held;
use crate::ops::purge::{self, Reclaimed};
use crate::ops::submit::unfinished;
use crate::ops::{records, transact, undo};
use crate::{Page, Store, StoreError, keys};
use mothball_domain::id::{Fence, JobId};
use mothball_domain::image::{Digest, Image, ImageRef};
use mothball_domain::job::Step;
use mothball_domain::name::ProjectName;
use rust_decimal::Decimal;
use std::time::Duration;

/// What a worker knows of an image that it has proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDraft {
    /// The manifest.
    pub digest: Digest,
    /// Bytes of all its blobs.
    pub size_bytes: u64,
    /// What keeping a gigabyte of it for a month costs.
    pub storage_price: Decimal,
    /// Layers.
    pub layers: u32,
    /// What a plain `docker pull` takes.
    pub reference: String,
    /// The image that the container was launched from.
    pub base: Option<String>,
    /// How long what it overwrites can be restored.
    pub undo: Duration,
}

/// What came of recording an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is recorded; the job is the caller's, who is told whether it is to be stopped.
    Held {
        /// Whether the job's owner wants it stopped.
        cancel: bool,
    },
    /// The caller does not hold the job any more: nothing was written.
    Lost,
    /// The very same content is just being removed from the registry by this job, or may have been after the caller's proof:
    /// the image was not recorded. The caller brings the content again, and proves it again.
    Leaving(JobId),
}

impl Store {
    /// Writes the record of the image that job `id` has saved and proven, keeping for undo the digest that it overwrites, or
    /// the deleted image whose tag it takes. Atomic with the job's checkpoint; idempotent.
    pub async fn record_image(
        &self,
        id: JobId,
        fence: Fence,
        draft: &ImageDraft,
    ) -> Result<Recorded, StoreError> {
        transact!(self, |tx| record_image(tx, id, fence, draft).await)
    }

    /// One image.
    pub async fn image(&self, project: &ProjectName, image: &ImageRef) -> Result<Option<Image>, StoreError> {
        Tx::new(&self.db).get(&keys::image(project, image)).await
    }

    /// Whether `name:tag` names no image, and no unfinished job is about to write it. By the time of the answer somebody may
    /// have taken it: the submission finds out.
    pub async fn image_name_is_free(
        &self,
        project: &ProjectName,
        image: &ImageRef,
    ) -> Result<bool, StoreError> {
        let mut tx = Tx::new(&self.db);
        let (record, job) = (keys::image(project, image), keys::image_job(project, image));
        tx.load(&[record.clone(), job.clone()]).await?;
        if tx.get::<Image>(&record).await?.is_some() {
            return Ok(false);
        }
        match tx.get::<JobId>(&job).await? {
            Some(id) => Ok(unfinished(&mut tx, id).await?.is_none()),
            None => Ok(true),
        }
    }

    /// Images of a project by name and tag, a page at a time.
    pub async fn images(
        &self,
        project: &ProjectName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Image>, StoreError> {
        let index = keys::images_of_project(project);
        let (members, next) = self.leaf(&index, after, Order::Ascending, limit).await?;
        let image_keys: Vec<String> = members.iter().map(|m| format!("image:{project}:{m}")).collect();
        Ok(Page { items: Tx::new(&self.db).get_many(&image_keys).await?, next })
    }

    /// Changes whether clean-up must leave an image alone. None when there is no such image. Idempotent.
    pub async fn pin_image(
        &self,
        project: &ProjectName,
        image: &ImageRef,
        pinned: bool,
    ) -> Result<Option<Image>, StoreError> {
        transact!(self, |tx| pin(tx, project, image, pinned).await)
    }
}

async fn record_image(
    tx: &mut Tx<'_>,
    id: JobId,
    fence: Fence,
    draft: &ImageDraft,
) -> Result<Recorded, StoreError> {
    let Some(mut job) = held(tx, id, fence).await? else { return Ok(Recorded::Lost) };
    let now = tx.now().await?;
    let Some(image) = job.spec.image().cloned() else { return Ok(Recorded::Lost) };
    if let Reclaimed::No(other) = purge::reclaim(tx, &job.project, &image.name, &draft.digest).await? {
        return Ok(Recorded::Leaving(other));
    }
    let before: Option<Image> = tx.get(&keys::image(&job.project, &image)).await?;
    let previous = undo::overwrite(tx, &job.project, &image, before.as_ref(), draft).await?;
    let record = Image {
        project: job.project.clone(),
        image,
        digest: draft.digest.clone(),
        size_bytes: draft.size_bytes,
        storage_price: draft.storage_price,
        layers: draft.layers,
        created_by: job.user.clone(),
        created_at: before.as_ref().map_or(now, |b| b.created_at),
        updated_at: now,
        last_used_at: before.as_ref().and_then(|b| b.last_used_at),
        source_container: job.container,
        job: job.id,
        base: draft.base.clone(),
        pinned: before.as_ref().is_some_and(|b| b.pinned),
        reference: draft.reference.clone(),
        previous,
    };
    records::put_image(tx, &record)?;
    job.checkpoint.recorded = true;
    job.step = Some(Step::Record);
    job.note_event(now, "recorded", format!("{} is {}", record.image, record.digest));
    tx.put(&keys::job(id), &job)?;
    Ok(Recorded::Held { cancel: job.cancel_requested })
}

async fn pin(
    tx: &mut Tx<'_>,
    project: &ProjectName,
    image: &ImageRef,
    pinned: bool,
) -> Result<Option<Image>, StoreError> {
    let key = keys::image(project, image);
    let Some(mut image) = tx.get::<Image>(&key).await? else { return Ok(None) };
    image.pinned = pinned;
    tx.put(&key, &image)?;
    Ok(Some(image))
}
