//! purge_image: remove from the registry, for good, content that no tag names and nobody can restore.

use crate::attempt::Attempt;
use crate::halt::{Halt, Stop};
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::image::{Digest, ImageRef, repository};
use mothball_domain::job::Step;
use mothball_image::Deletion;
use mothball_store::{Effect, Removal};

/// Removes `digest`, which the tag of `image` named last.
pub(crate) async fn run(attempt: &mut Attempt, image: &ImageRef, digest: &Digest) -> Result<Effect, Halt> {
    let is_gone = remove_content(attempt, image, digest).await?;
    Ok(if is_gone { Effect::ContentRemoved } else { Effect::None })
}

/// Removes content from the registry, and with it every tag there that still names it, Mothball's own included; not where
/// something needs it. Whether it is gone.
pub(crate) async fn remove_content(
    attempt: &mut Attempt,
    image: &ImageRef,
    digest: &Digest,
) -> Result<bool, Halt> {
    let (registry, store) = (attempt.parts.registry.clone(), attempt.parts.store.clone());
    let repo = repository(&attempt.job.project, &image.name);
    attempt.step(Step::RemoveManifest).await?;
    let removal = store.remove_content(attempt.job.id, attempt.job.fence).await.map_err(|e| {
        Failure::transient(
            FailureClass::Internal,
            format!("the store cannot say whether the image is needed: {e}"),
        )
    })?;
    match removal {
        Removal::Go => {}
        Removal::Needed(need) => {
            attempt.note(format!("The content stays in the registry: {need}."));
            return Ok(false);
        }
        Removal::NotLeaving => {
            attempt.note("The content stays in the registry: it was saved again.");
            return Ok(false);
        }
        Removal::Lost => {
            attempt.stop.stop(Stop::Lost);
            return Err(Halt::Stopped(Stop::Lost));
        }
    }
    attempt.confirm().await?.check()?;
    let note = match registry.delete_manifest(&repo, digest).await? {
        Deletion::Unsupported => {
            "This registry does not allow deletion: its operator must remove the content."
        }
        Deletion::Deleted | Deletion::AlreadyGone => {
            "The registry frees the space with its next garbage collection."
        }
    };
    attempt.note(note);
    Ok(true)
}
