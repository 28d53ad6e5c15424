//! restore_image: the image is back in every list; the registry's tag follows.

use crate::attempt::Attempt;
use crate::halt::Halt;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::image::{Digest, ImageRef, hidden_tag, repository};
use mothball_domain::job::Step;
use mothball_image::RegistryError;
use mothball_store::Effect;

/// Has the tag of `image` name `digest` again, and keeps that alive by a tag of our own.
pub(crate) async fn run(attempt: &mut Attempt, image: &ImageRef, digest: &Digest) -> Result<Effect, Halt> {
    let registry = attempt.parts.registry.clone();
    let repo = repository(&attempt.job.project, &image.name);
    attempt.step(Step::Retag).await?;
    for tag in [&hidden_tag(digest), &image.tag] {
        attempt.confirm().await?.check()?;
        registry.copy_tag(&repo, digest, tag).await.map_err(|error| lost(error, image))?;
    }
    Ok(Effect::None)
}

fn lost(error: RegistryError, image: &ImageRef) -> Halt {
    match error {
        RegistryError::NotFound { .. } => {
            let why = format!("the registry has lost the content of image {image}");
            let hint =
                "Nothing can be launched from it any more: delete it, or restore what it named before.";
            Failure::permanent(FailureClass::Gone, why).with_hint(hint).into()
        }
        other => other.into(),
    }
}
