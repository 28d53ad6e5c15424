//! What may be asked of a container and of a project, and who must do it.

use crate::db::tx::Tx;
use crate::{Store, StoreError, keys};
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::image::{Image, ImageRef};
use mothball_domain::job::JobSpec;
use mothball_domain::name::{NodeName, ProjectName};
use mothball_domain::people::Project;
use std::collections::BTreeSet;

/// The node that must do what is asked of a container; any node can end the record of one that is nowhere.
pub(crate) fn bound_to(container: &Container) -> Option<NodeName> {
    container.node.clone().filter(|_| container.state != ContainerState::Parked)
}

/// Whether a container in this state can have a job of this kind.
pub(crate) fn allowed(spec: &JobSpec, state: ContainerState) -> bool {
    match spec {
        JobSpec::Snapshot { .. } => matches!(state, ContainerState::Ready | ContainerState::Stopped),
        JobSpec::Delete => state.exists() || matches!(state, ContainerState::Error | ContainerState::Parked),
        JobSpec::Start => state == ContainerState::Stopped,
        JobSpec::Stop => state == ContainerState::Ready,
        JobSpec::Launch => state == ContainerState::Parked,
        JobSpec::DeleteImage { .. } | JobSpec::RestoreImage { .. } | JobSpec::PurgeImage { .. } => false,
    }
}

/// Images counted; a quota above this is as good as none.
const COUNTED_MAX: usize = 10_000;

/// What a project with a quota has, and whether one more save fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaUse {
    /// Images that it has, those that are being saved included.
    pub images: u64,
    /// Most images.
    pub images_most: Option<u32>,
    /// Bytes of its images.
    pub bytes: u64,
    /// Most bytes.
    pub bytes_most: Option<u64>,
    /// Why the save does not fit; a sentence.
    pub refusal: Option<String>,
}

impl Store {
    /// What a project has of its quota, and whether a save as `image` would fit as things stand. None where it has no quota.
    /// Reads only.
    pub async fn quota_use(
        &self,
        project: &ProjectName,
        image: &ImageRef,
    ) -> Result<Option<QuotaUse>, StoreError> {
        Ok(used(&mut Tx::new(&self.db), project, image).await?.map(|(used, _)| used))
    }
}

/// Why a save would pass the project's quota. Overwriting adds nothing; what is being saved counts as saved; what can only be
/// restored counts for nothing, because it goes by itself.
pub(crate) async fn quota(
    tx: &mut Tx<'_>,
    project: &ProjectName,
    spec: &JobSpec,
) -> Result<Option<String>, StoreError> {
    let JobSpec::Snapshot { image, .. } = spec else { return Ok(None) };
    quota_of_image(tx, project, image).await
}

/// Why one more image, or this one again, would pass the project's quota. It counts from here on.
pub(crate) async fn quota_of_image(
    tx: &mut Tx<'_>,
    project: &ProjectName,
    image: &ImageRef,
) -> Result<Option<String>, StoreError> {
    let passed: u64 = tx.get(&keys::quota(project)).await?.unwrap_or(0);
    let Some((used, overwrites)) = used(tx, project, image).await? else { return Ok(None) };
    if used.refusal.is_none() && !overwrites {
        tx.put(&keys::quota(project), &(passed + 1))?;
    }
    Ok(used.refusal)
}

/// What is used, and whether the save only overwrites.
async fn used(
    tx: &mut Tx<'_>,
    project: &ProjectName,
    image: &ImageRef,
) -> Result<Option<(QuotaUse, bool)>, StoreError> {
    let record: Option<Project> = tx.get(&keys::project(project)).await?;
    let Some(record) = record.filter(|p| p.quota_images.is_some() || p.quota_bytes.is_some()) else {
        return Ok(None);
    };
    // In this order: a save that ends between the two scans stands in both, not in neither.
    let saving = tx.scan(&keys::saving_of_project(project), COUNTED_MAX).await?;
    let saved = tx.scan(&keys::images_of_project(project), COUNTED_MAX).await?;
    let image_keys: Vec<String> = saved.iter().map(|m| format!("image:{project}:{m}")).collect();
    let images: Vec<Image> =
        if record.quota_bytes.is_some() { tx.get_many(&image_keys).await? } else { Vec::new() };
    let bytes: u64 = images.iter().map(|i| i.size_bytes).sum();
    let count = saved.iter().chain(&saving).collect::<BTreeSet<_>>().len() as u64;
    let overwrites = saved.contains(&image.to_string());
    let many = record.quota_images.filter(|most| count >= u64::from(*most));
    let many = many.map(|most| format!("project {project} has {count} images, its quota is {most}"));
    let large = record.quota_bytes.filter(|most| bytes >= *most);
    let large =
        large.map(|most| format!("project {project} has {bytes} bytes of images, its quota is {most}"));
    let refusal = many.or(large).filter(|_| !overwrites);
    let used = QuotaUse {
        images: count,
        images_most: record.quota_images,
        bytes,
        bytes_most: record.quota_bytes,
        refusal,
    };
    Ok(Some((used, overwrites)))
}
