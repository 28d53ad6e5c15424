//! verify, record: the manifest that a save has put by digest is proven, named and written down. The tag is moved only onto
//! a manifest that is proven.

use super::Request;
use crate::attempt::Attempt;
use crate::halt::Halt;
use mothball_domain::container::Container;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::image::{Digest, hidden_tag};
use mothball_domain::job::Step;
use mothball_image::{Registry, RegistryError};
use mothball_store::ImageDraft;

/// Proves an image that is in the registry by its digest, moves the user's tag onto it and records it.
pub(super) async fn prove(
    attempt: &mut Attempt,
    container: &Container,
    request: &Request,
    repo: &str,
    digest: &Digest,
) -> Result<(), Halt> {
    let registry = attempt.parts.registry.clone();
    attempt.step(Step::Verify).await?;
    let asked = async { Ok::<_, Halt>(registry.verify(repo, digest).await) };
    let proof = match attempt.until_stopped(asked).await? {
        Ok(proof) => proof,
        Err(error) => {
            if matches!(error, RegistryError::Unproven { .. }) {
                // The next attempt must bring again what is missing.
                attempt.checkpoint.manifest = None;
                // It is what the worker believed to be there.
                if let Some(docker_id) = &container.docker_id
                    && let Err(error) = attempt.node.indexes.forget(docker_id)
                {
                    tracing::warn!(%error, "an index could not be removed");
                }
            }
            return Err(error.into());
        }
    };
    attempt.checkpoint.verified = true;
    attempt.checkpoint.size_bytes = Some(proof.size_bytes);
    attempt.checkpoint.layers = Some(proof.layers);
    attempt.save().await?;

    move_tag(attempt, &registry, repo, request, digest).await?;
    // The tag is moved: a cancel that comes now must not leave it on an image that nobody has written down.
    attempt.follow_up(Step::Record).await?;
    let draft = ImageDraft {
        digest: digest.clone(),
        size_bytes: proof.size_bytes,
        storage_price: attempt.parts.settings.storage_price,
        layers: proof.layers,
        reference: format!("{}/{repo}@{digest}", registry.host()),
        base: Some(container.launch.source.display_name()),
        undo: attempt.parts.settings.undo,
    };
    if let Err(halt) = attempt.record_image(&draft).await {
        if matches!(halt, Halt::Failed(_)) {
            // What was proven may be gone: the next attempt brings it again.
            attempt.checkpoint.manifest = None;
            attempt.checkpoint.verified = false;
        }
        return Err(halt);
    }
    attempt.checkpoint.recorded = true;
    attempt.save().await
}

/// Moves the user's tag, keeping alive what it named before and what a parked container will need.
async fn move_tag(
    attempt: &mut Attempt,
    registry: &Registry,
    repo: &str,
    request: &Request,
    digest: &Digest,
) -> Result<(), Halt> {
    let tag = &request.image.tag;
    let before = attempt.until_stopped(registry.manifest_digest(repo, tag.as_str())).await?;
    if let Some(before) = before.filter(|before| before != digest) {
        match registry.copy_tag(repo, &before, &hidden_tag(&before)).await {
            // A tag whose manifest the registry has lost cannot be kept, and must not stop a good one.
            Err(RegistryError::NotFound { .. }) => {
                attempt.note("What this tag named before is gone from the registry and cannot be restored.");
            }
            kept => kept?,
        }
    }
    // Whoever takes the tag away from it later, by us or not, the recorded digest stays.
    let hidden = hidden_tag(digest);
    let kept = async { Ok::<_, Halt>(registry.copy_tag(repo, digest, &hidden).await) };
    let kept = attempt.until_stopped(kept).await?;
    named(attempt, kept)?;
    // A holder that lost its lease meanwhile must not move a tag that others read.
    attempt.confirm().await?.check()?;
    let moved = registry.copy_tag(repo, digest, tag).await;
    named(attempt, moved)?;
    let tagged = registry.manifest_digest(repo, tag.as_str()).await?;
    if tagged.as_ref() != Some(digest) {
        let sentence = format!("the registry took the tag {tag} and does not have it");
        return Err(Failure::transient(FailureClass::Registry, sentence).into());
    }
    Ok(())
}

/// A tag that could not be given because the registry has lost the manifest: the next attempt brings it again.
fn named(attempt: &mut Attempt, done: Result<(), RegistryError>) -> Result<(), RegistryError> {
    if matches!(done, Err(RegistryError::NotFound { .. })) {
        attempt.checkpoint.manifest = None;
    }
    done.map_err(forgotten)
}

/// What a registry took a moment ago and does not have is not "gone", which nothing could be done about.
pub(super) fn forgotten(error: RegistryError) -> RegistryError {
    match error {
        RegistryError::NotFound { .. } => RegistryError::Unproven { missing: vec![error.to_string()] },
        other => other,
    }
}
