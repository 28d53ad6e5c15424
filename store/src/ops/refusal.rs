//! What may be asked of a container and of a project, and who must do it.

use crate::db::tx::Tx;
use crate::{StoreError, keys};
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::image::Image;
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
        JobSpec::DeleteImage { .. } => false,
    }
}

/// Why a save would pass the project's quota. Overwriting adds nothing; what is being saved counts as saved.
pub(crate) async fn quota(
    tx: &mut Tx<'_>,
    project: &ProjectName,
    spec: &JobSpec,
) -> Result<Option<String>, StoreError> {
    /// Images counted; a quota above this is as good as none.
    const COUNTED_MAX: usize = 10_000;
    let JobSpec::Snapshot { image, .. } = spec else { return Ok(None) };
    let record: Option<Project> = tx.get(&keys::project(project)).await?;
    let Some(record) = record.filter(|p| p.quota_images.is_some() || p.quota_bytes.is_some()) else {
        return Ok(None);
    };
    let passed: u64 = tx.get(&keys::quota(project)).await?.unwrap_or(0);
    // In this order: a save that ends between the two scans stands in both, not in neither.
    let saving = tx.scan(&keys::saving_of_project(project), COUNTED_MAX).await?;
    let saved = tx.scan(&keys::images_of_project(project), COUNTED_MAX).await?;
    if saved.contains(&image.to_string()) {
        return Ok(None);
    }
    let count = saved.iter().chain(&saving).collect::<BTreeSet<_>>().len();
    if let Some(most) = record.quota_images.filter(|most| count >= *most as usize) {
        return Ok(Some(format!("project {project} has {count} images, its quota is {most}")));
    }
    if let Some(most) = record.quota_bytes {
        let image_keys: Vec<String> = saved.iter().map(|m| format!("image:{project}:{m}")).collect();
        let images: Vec<Image> = tx.get_many(&image_keys).await?;
        let bytes: u64 = images.iter().map(|i| i.size_bytes).sum();
        if bytes >= most {
            return Ok(Some(format!("project {project} has {bytes} bytes of images, its quota is {most}")));
        }
    }
    tx.put(&keys::quota(project), &(passed + 1))?;
    Ok(None)
}
