//! delete_image: take the tag away, and the manifest when nothing else needs it.

use crate::attempt::Attempt;
use crate::halt::Halt;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::image::{Digest, ImageRef, repository};
use mothball_domain::job::Step;
use mothball_image::{Deletion, Untag};
use mothball_store::Effect;

/// Deletes an image whose tag had `digest` when that was asked for.
pub(crate) async fn run(attempt: &mut Attempt, image: &ImageRef, digest: &Digest) -> Result<Effect, Halt> {
    let (registry, store) = (attempt.parts.registry.clone(), attempt.parts.store.clone());
    let project = attempt.job.project.clone();
    let repo = repository(&project, &image.name);
    attempt.step(Step::Untag).await?;
    let current = attempt.until_stopped(registry.manifest_digest(&repo, image.tag.as_str())).await?;
    let untagged = if current.as_ref() == Some(digest) {
        attempt.confirm().await?.check()?;
        registry.untag(&repo, &image.tag).await?
    } else {
        // Somebody else's push has the tag now, or nobody: it is not ours to take away.
        Untag::AlreadyGone
    };

    attempt.step(Step::RemoveManifest).await?;
    let needed = store.digest_is_needed(&project, &image.name, digest, image).await.map_err(|e| {
        Failure::transient(
            FailureClass::Internal,
            format!("the store cannot say whether the image is needed: {e}"),
        )
    })?;
    attempt.confirm().await?.check()?;
    if needed {
        attempt.note("Another tag or a parked container needs the same content: it stays in the registry.");
        if untagged == Untag::Unsupported {
            attempt.note(
                "This registry cannot remove a tag alone: the tag stays there, out of Mothball's lists.",
            );
        }
    } else if registry.delete_manifest(&repo, digest).await? == Deletion::Unsupported {
        attempt.note("This registry does not allow deletion: its operator must remove the content.");
    } else {
        attempt.note("The registry frees the space with its next garbage collection.");
    }
    Ok(Effect::ImageRemoved)
}
