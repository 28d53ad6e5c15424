//! Images that projects let go: their owners have notice, and when that has run its time they are removed, restorable for a
//! while. The store decides in one step with what it writes, so any number of schedulers may go round.

use crate::Parts;
use crate::attend::attend;
use crate::once::Round;
use crate::rounds::Rounds;
use mothball_domain::id::JobId;
use mothball_domain::image::Image;
use mothball_domain::name::{ImageName, ProjectName};
use mothball_store::{Retained, StoreError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) async fn run(parts: &Parts, shutdown: &CancellationToken) {
    let mut rounds = Rounds::every(parts.settings.retention_tick, "images to let go", shutdown);
    while rounds.next().await {
        let done = Round::Retention.go(parts, shutdown).await;
        rounds.ended(done).await;
    }
}

pub(crate) async fn round(parts: &Parts, shutdown: &CancellationToken) -> Result<(), StoreError> {
    for project in parts.store.projects_with_retention_policy().await? {
        let policy = parts.store.retention_policy(&project).await?;
        for name in parts.store.image_names(&project).await? {
            if shutdown.is_cancelled() {
                return Ok(());
            }
            match retain(parts, &project, &name).await {
                // Images of one name that change all the time, or cannot be read, must not stop the others.
                Err(error @ (StoreError::Contended(_) | StoreError::Corrupt(_))) => {
                    tracing::warn!(project = %project, image.name = %name, error = %error, "a retention policy could not be applied");
                }
                done => done?,
            }
        }
        if policy.is_off() {
            // Its notices are withdrawn: there is nothing to look at any more.
            parts.store.end_retention_policy(&project).await?;
        }
    }
    Ok(())
}

async fn retain(parts: &Parts, project: &ProjectName, name: &ImageName) -> Result<(), StoreError> {
    let (store, retaining) = (&parts.store, parts.settings.retaining());
    for done in store.retain(project, name, &retaining).await? {
        let done = match done {
            Retained::Due(image) => {
                store.retain_no_more(project, &image, JobId(Uuid::now_v7()), &retaining).await?
            }
            done => done,
        };
        tell(parts, &done).await;
        if let Retained::Removed(_, _, job) = done {
            // It is due anyway: this is only haste.
            attend(parts, job.id).await?;
        }
    }
    Ok(())
}

/// Writes what was done into the log, the metrics and the audit trail: there in the name of the image's owner, whose it is.
async fn tell(parts: &Parts, done: &Retained) {
    let (image, what, action, detail): (&Image, _, _, String) = match done {
        Retained::Nothing | Retained::Due(_) => return,
        Retained::Noticed(notice, image) => {
            let detail = format!("{}; it is removed at {}", notice.reason, notice.remove_at);
            (image, "noticed", "retention.notice", detail)
        }
        Retained::Withdrawn(why, image) => (image, "withdrawn", "retention.withdraw", why.to_string()),
        Retained::Removed(notice, image, job) => {
            (image, "removed", "retention.remove", format!("{}; job {}", notice.reason, job.id))
        }
    };
    tracing::info!(project = %image.project, image = %image.image, done = what, detail, "applied a retention policy");
    parts.metrics.retained.with_label_values(&[what]).inc();
    let subject = format!("image {}", image.image);
    let (user, project) = (&image.created_by, Some(&image.project));
    let noted = parts.store.audit(Uuid::now_v7(), user, project, action, &subject, &detail).await;
    if let Err(error) = noted {
        tracing::error!(image = %image.image, error = %error, "not in the audit trail");
    }
}
