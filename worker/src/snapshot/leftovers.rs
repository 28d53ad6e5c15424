//! What a save makes and takes away again: committed images and empty containers on the node, and in the registry the
//! manifest as Docker pushed it, under a tag of the job's own.

use super::engine::{CARRIER_LABEL, JOB_LABEL, carrier};
use crate::attempt::Attempt;
use crate::docker::Engine;
use crate::node::NodeContext;
use crate::settings::Parts;
use mothball_domain::id::JobId;
use mothball_domain::image::{ImageRef, repository};
use mothball_domain::job::Job;
use mothball_domain::name::HIDDEN_TAG_PREFIX;
use mothball_image::{Registry, RegistryError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a registry may take to give back what was pushed for a while: a job that is over does not wait for longer.
const PUSHED_LIMIT: Duration = Duration::from_secs(10);
/// How often Docker is asked to take a job's images away, and the pause between two tries.
const TRIES: u32 = 3;
const AGAIN: Duration = Duration::from_millis(300);

/// Takes away what this job has made; what cannot be removed now goes with the next sweep of the node.
pub(super) async fn remove_of_job(attempt: &mut Attempt, image: &ImageRef) {
    // Where the manifest is the image's own, the pushed one is gone already.
    if attempt.checkpoint.committed.is_some() && attempt.checkpoint.manifest.is_none() {
        let repo = repository(&attempt.job.project, &image.name);
        remove_pushed(&attempt.parts.registry, &repo, attempt.job.id).await;
    }
    remove_images(attempt).await;
    attempt.checkpoint.committed = None;
}

/// The tag under which a job's image is pushed before its config is the image's own.
pub(super) fn temporary_tag(job: JobId) -> String {
    format!("{HIDDEN_TAG_PREFIX}job-{}", job.0.simple())
}

/// Takes away what Docker pushed for a job: the manifest, and the config that is not the image's own. The layers are
/// shared with the manifest that is kept.
pub(super) async fn remove_pushed(registry: &Registry, repo: &str, job: JobId) {
    let why = match timeout(PUSHED_LIMIT, delete_pushed(registry, repo, job)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no end within {} s", PUSHED_LIMIT.as_secs()),
    };
    tracing::warn!(job.id = %job, error = why, "the temporary manifest could not be deleted");
}

async fn delete_pushed(registry: &Registry, repo: &str, job: JobId) -> Result<(), RegistryError> {
    let Some(manifest) = registry.manifest(repo, &temporary_tag(job)).await? else { return Ok(()) };
    // The config first: without its manifest nobody would find it again.
    registry.delete_blob(repo, &manifest.image()?.config.digest).await?;
    registry.delete_manifest(repo, &manifest.digest).await.map(drop)
}

/// Takes away the images that this job has committed.
pub(super) async fn remove_images(attempt: &Attempt) {
    let engine = &attempt.parts.engine;
    for left in (0..TRIES).rev() {
        let Err(error) = remove_made_by(engine, attempt.job.id).await else { return };
        tracing::warn!(error = %error, tries_left = left, "an image of this job could not be removed from the node");
        if left > 0 {
            sleep(AGAIN).await;
        }
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
        let Ok(record) = parts.store.job(job).await else { continue };
        if record.as_ref().is_some_and(|record| !record.state.is_final()) {
            continue;
        }
        tracing::info!(job.id = %job, image = %image, "removing what an earlier save left on the node");
        if let Some(repo) = record.as_ref().and_then(repository_of) {
            remove_pushed(&parts.registry, &repo, job).await;
        }
        if let Err(error) = remove_made_by(&parts.engine, job).await {
            tracing::warn!(job.id = %job, error = %error, "it could not be removed");
        }
    }
    tracing::debug!(label = CARRIER_LABEL, "leftovers looked at");
}

fn repository_of(job: &Job) -> Option<String> {
    job.spec.image().map(|image| repository(&job.project, &image.name))
}
