//! What a save makes on the node and takes away again: committed images and empty containers.

use super::engine::{CARRIER_LABEL, JOB_LABEL, carrier};
use crate::attempt::Attempt;
use crate::docker::Engine;
use crate::node::NodeContext;
use crate::settings::Parts;
use mothball_domain::id::JobId;

/// Takes away what this job has made; what cannot be removed now goes at the next start of a worker.
pub(super) async fn remove_of_job(attempt: &mut Attempt) {
    remove_images(attempt).await;
    attempt.checkpoint.committed = None;
}

/// Takes away the images that this job has committed.
pub(super) async fn remove_images(attempt: &Attempt) {
    let engine = &attempt.parts.engine;
    if let Err(error) = remove_made_by(engine, attempt.job.id).await {
        tracing::warn!(error = %error, "an image of this job could not be removed from the node");
    }
}

async fn remove_made_by(engine: &Engine, job: JobId) -> Result<(), crate::docker::DockerError> {
    engine.remove(&carrier(job), true, true).await?;
    // The image taken last comes first: the other is its parent.
    for image in engine.images_with_label(JOB_LABEL, &job.to_string()).await? {
        engine.remove_image(&image.id, true).await?;
    }
    Ok(())
}

/// Takes away what jobs that are over have left on the node.
pub(crate) async fn remove(parts: &Parts, _node: &NodeContext) {
    let images = match parts.engine.images_labelled(JOB_LABEL).await {
        Ok(images) => images,
        Err(error) => {
            tracing::warn!(error = %error, "leftovers of earlier saves could not be listed");
            return;
        }
    };
    for (image, job) in images {
        let Ok(job) = job.parse::<JobId>() else { continue };
        let over = match parts.store.job(job).await {
            Ok(found) => found.is_none_or(|job| job.state.is_final()),
            Err(_) => false,
        };
        if over {
            tracing::info!(job.id = %job, image = %image, "removing what an earlier save left on the node");
            if let Err(error) = remove_made_by(&parts.engine, job).await {
                tracing::warn!(job.id = %job, error = %error, "it could not be removed");
            }
        }
    }
    tracing::debug!(label = CARRIER_LABEL, "leftovers looked at");
}
