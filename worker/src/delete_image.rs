//! delete_image: take the tag away. The content stays for as long as the image can be restored; where that is no time at
//! all, it goes at once.

use crate::attempt::Attempt;
use crate::halt::Halt;
use crate::purge_image::remove_content;
use jiff::SignedDuration;
use mothball_domain::image::{Digest, ImageRef, repository};
use mothball_domain::job::Step;
use mothball_image::Untag;
use mothball_store::Effect;

/// Deletes an image whose tag had `digest` when that was asked for.
pub(crate) async fn run(attempt: &mut Attempt, image: &ImageRef, digest: &Digest) -> Result<Effect, Halt> {
    let (registry, undo) = (attempt.parts.registry.clone(), attempt.parts.settings.undo);
    let repo = repository(&attempt.job.project, &image.name);
    attempt.step(Step::Untag).await?;
    let current = attempt.until_stopped(registry.manifest_digest(&repo, image.tag.as_str())).await?;
    let untagged = if current.as_ref() == Some(digest) {
        attempt.confirm().await?.check()?;
        registry.untag(&repo, &image.tag).await?
    } else {
        // Somebody else's push has the tag now, or nobody: it is not ours to take away.
        Untag::AlreadyGone
    };
    let stays = if undo.is_zero() {
        !remove_content(attempt, image, digest).await?
    } else {
        let long = SignedDuration::try_from(undo).unwrap_or(SignedDuration::MAX);
        attempt.note(format!("It can be restored for {long:#}; then its content goes from the registry."));
        true
    };
    if stays && untagged == Untag::Unsupported {
        attempt.note(
            "This registry cannot remove a tag alone: the tag stays there, out of Mothball's lists, while the content does.",
        );
    }
    Ok(Effect::ImageRemoved { undo })
}
