//! Images of a project.

use crate::db::Order;
use crate::db::tx::Tx;
use crate::ops::claim::held;
use crate::ops::{records, transact};
use crate::{Page, Renewal, Store, StoreError, keys};
use mothball_domain::container::{Container, ContainerState, Source};
use mothball_domain::id::{Fence, JobId};
use mothball_domain::image::{Digest, Image, ImageRef, PREVIOUS_MAX, PreviousDigest};
use mothball_domain::job::Step;
use mothball_domain::name::{ImageName, ProjectName};
use rust_decimal::Decimal;

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
}

/// Most images of one name whose digests are compared before one is removed.
const SAME_NAME_MAX: usize = 10_000;

impl Store {
    /// Writes the record of the image that job `id` has saved and proven, keeping the digest it overwrites for undo.
    /// Atomic with the job's checkpoint; idempotent.
    pub async fn record_image(
        &self,
        id: JobId,
        fence: Fence,
        draft: &ImageDraft,
    ) -> Result<Renewal, StoreError> {
        transact!(self, |tx| record_image(tx, id, fence, draft).await)
    }

    /// One image.
    pub async fn image(&self, project: &ProjectName, image: &ImageRef) -> Result<Option<Image>, StoreError> {
        Tx::new(&self.db).get(&keys::image(project, image)).await
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

    /// Whether a digest must stay in the registry though `except` no longer names it: another tag has it, some tag may
    /// be rolled back to it, or a container was launched from it and may need it again.
    pub async fn digest_is_needed(
        &self,
        project: &ProjectName,
        name: &ImageName,
        digest: &Digest,
        except: &ImageRef,
    ) -> Result<bool, StoreError> {
        let mut tx = Tx::new(&self.db);
        let members = tx.scan(&keys::images_of_name(project, name), SAME_NAME_MAX).await?;
        let image_keys: Vec<String> = members.iter().map(|m| format!("image:{project}:{m}")).collect();
        let images: Vec<Image> = tx.get_many(&image_keys).await?;
        let named = |i: &Image| i.digest == *digest || i.previous.iter().any(|p| p.digest == *digest);
        if images.iter().any(|i| i.image != *except && named(i)) {
            return Ok(true);
        }
        let members = tx.scan(&keys::containers_of_project(project), SAME_NAME_MAX).await?;
        let container_keys: Vec<String> = members
            .iter()
            .filter_map(|m| m.parse().ok())
            .map(|n| keys::container(mothball_domain::id::ContainerId(n)))
            .collect();
        let containers: Vec<Container> = tx.get_many(&container_keys).await?;
        Ok(containers.iter().any(|c| needs(c, digest, except)))
    }
}

/// A parked container wakes from its image; one whose launch has not happened yet needs the digest it was given.
fn needs(container: &Container, digest: &Digest, image: &ImageRef) -> bool {
    let launches_from = matches!(&container.launch.source, Source::Custom { digest: d, .. } if d == digest);
    match container.state {
        ContainerState::Parked => container.parked_image.as_ref() == Some(image) || launches_from,
        // A person may have a failed launch tried again.
        ContainerState::Initializing | ContainerState::Error => launches_from,
        _ => false,
    }
}

async fn record_image(
    tx: &mut Tx<'_>,
    id: JobId,
    fence: Fence,
    draft: &ImageDraft,
) -> Result<Renewal, StoreError> {
    let Some(mut job) = held(tx, id, fence).await? else { return Ok(Renewal::Lost) };
    let now = tx.now().await?;
    let Some(image) = job.spec.image().cloned() else { return Ok(Renewal::Lost) };
    let before: Option<Image> = tx.get(&keys::image(&job.project, &image)).await?;
    let mut previous = before.as_ref().map(|b| b.previous.clone()).unwrap_or_default();
    if let Some(before) = before.as_ref().filter(|b| b.digest != draft.digest) {
        let overwritten =
            PreviousDigest { digest: before.digest.clone(), size_bytes: before.size_bytes, replaced_at: now };
        previous.insert(0, overwritten);
        previous.truncate(PREVIOUS_MAX);
    }
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
    Ok(Renewal::Held { cancel: job.cancel_requested })
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
