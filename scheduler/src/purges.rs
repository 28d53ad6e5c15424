//! The last way of images: what is over its grace cannot be restored any more, and what nobody can restore and nothing needs
//! is removed from the registry by a job. Each step may be asked for twice.

use crate::Parts;
use crate::attend::attend;
use crate::once::Round;
use crate::rounds::Rounds;
use mothball_domain::id::JobId;
use mothball_domain::image::Digest;
use mothball_domain::name::{ImageName, ProjectName};
use mothball_store::{Purged, StoreError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Tags, and contents, looked at in one round.
const BATCH: usize = 100;

pub(crate) async fn run(parts: &Parts, shutdown: &CancellationToken) {
    let mut rounds = Rounds::new(parts, "images over their grace", shutdown);
    while rounds.next().await {
        let done = Round::Purges.go(parts, shutdown).await;
        rounds.ended(done).await;
    }
}

pub(crate) async fn round(parts: &Parts, shutdown: &CancellationToken) -> Result<(), StoreError> {
    for (project, image) in parts.store.undo_due(BATCH).await? {
        if shutdown.is_cancelled() {
            return Ok(());
        }
        let expired = parts.store.expire_undo(&project, &image).await;
        let expired = passed_over(expired, &project, &image.name)?.unwrap_or(0);
        if expired > 0 {
            tracing::info!(project = %project, image = %image, digests = expired, "can no longer be restored");
        }
    }
    for (project, name, digest) in parts.store.leaving_due(BATCH).await? {
        if shutdown.is_cancelled() {
            return Ok(());
        }
        purge(parts, &project, &name, &digest).await?;
    }
    Ok(())
}

async fn purge(
    parts: &Parts,
    project: &ProjectName,
    name: &ImageName,
    digest: &Digest,
) -> Result<(), StoreError> {
    let (store, attempts) = (&parts.store, parts.settings.max_attempts);
    let purged = store.purge_content(project, name, digest, JobId(Uuid::now_v7()), attempts).await;
    let (leaving, job) = match passed_over(purged, project, name)? {
        None | Some(Purged::Nothing) => return Ok(()),
        Some(Purged::Needed(leaving, need)) => {
            tracing::debug!(project = %project, image = %leaving.image, %digest, %need, "content stays in the registry");
            return Ok(());
        }
        Some(Purged::Started(leaving, job)) => (leaving, job),
    };
    tracing::info!(project = %project, image = %leaving.image, %digest, job.id = %job.id, "content goes from the registry");
    parts.metrics.purges.inc();
    let (subject, detail) = (format!("image {}", leaving.image), format!("{digest}; job {}", job.id));
    let noted =
        store.audit(Uuid::now_v7(), &leaving.user, Some(project), "image.purge", &subject, &detail).await;
    if let Err(error) = noted {
        tracing::error!(job.id = %job.id, error = %error, "not in the audit trail");
    }
    // It is due anyway: this is only haste.
    attend(parts, job.id).await
}

/// One image that changes all the time, or cannot be read, must not stop the others.
fn passed_over<T>(
    done: Result<T, StoreError>,
    project: &ProjectName,
    name: &ImageName,
) -> Result<Option<T>, StoreError> {
    match done {
        Err(error @ (StoreError::Contended(_) | StoreError::Corrupt(_))) => {
            tracing::warn!(project = %project, image.name = %name, error = %error, "an image over its grace could not be let go");
            Ok(None)
        }
        done => done.map(Some),
    }
}
