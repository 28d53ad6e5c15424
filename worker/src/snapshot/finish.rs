//! upload, finish, verify, record: the committed image into the registry, its config made the image's own, proven, and
//! written down. The tag is moved only onto a manifest that is proven.

use super::Request;
use super::preflight::Ready;
use super::{engine, leftovers};
use crate::attempt::Attempt;
use crate::halt::Halt;
use mothball_domain::container::Container;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::image::{Digest, hidden_tag, repository};
use mothball_domain::job::Step;
use mothball_image::oci::ContainerConfig;
use mothball_image::{Registry, RegistryError, ScrubRules, scrub_config};
use mothball_store::ImageDraft;
use secrecy::SecretString;

/// Brings the committed image into the registry, proves it and records it.
pub(super) async fn to_registry(
    attempt: &mut Attempt,
    container: &Container,
    request: &Request,
    ready: &Ready,
) -> Result<(), Halt> {
    let registry = attempt.parts.registry.clone();
    let repo = repository(&attempt.job.project, &request.image.name);
    let digest = match attempt.checkpoint.manifest.clone() {
        Some(digest) => digest,
        None => upload(attempt, &registry, &repo, container, ready).await?,
    };
    // Also what an attempt has left that died just here.
    leftovers::remove_pushed(&registry, &repo, attempt.job.id).await;

    attempt.step(Step::Verify).await?;
    let asked = async { Ok::<_, Halt>(registry.verify(&repo, &digest).await) };
    let proof = match attempt.until_stopped(asked).await? {
        Ok(proof) => proof,
        Err(error) => {
            if matches!(error, RegistryError::Unproven { .. }) {
                // The next attempt must bring again what is missing.
                attempt.checkpoint.manifest = None;
            }
            return Err(error.into());
        }
    };
    attempt.checkpoint.verified = true;
    attempt.checkpoint.size_bytes = Some(proof.size_bytes);
    attempt.checkpoint.layers = Some(proof.layers);
    attempt.save().await?;

    move_tag(attempt, &registry, &repo, request, &digest).await?;
    // The tag is moved: a cancel that comes now must not leave it on an image that nobody has written down.
    attempt.follow_up(Step::Record).await?;
    let draft = ImageDraft {
        digest: digest.clone(),
        size_bytes: proof.size_bytes,
        layers: proof.layers,
        reference: format!("{}/{repo}@{digest}", registry.host()),
        base: Some(container.launch.source.display_name()),
    };
    attempt.record_image(&draft).await?;
    attempt.checkpoint.recorded = true;
    attempt.save().await
}

/// upload and finish: the push, and the manifest with the image's own config, by digest.
async fn upload(
    attempt: &mut Attempt,
    registry: &Registry,
    repo: &str,
    container: &Container,
    ready: &Ready,
) -> Result<Digest, Halt> {
    attempt.step(Step::Upload).await?;
    if attempt.job.attempt > 1 {
        // The push moves the job's tag: what it named would stay, with its config, and nobody could find it again.
        leftovers::remove_pushed(registry, repo, attempt.job.id).await;
    }
    let pushed = engine::push(attempt, repo, &leftovers::temporary_tag(attempt.job.id)).await?;

    attempt.step(Step::Finish).await?;
    let rewritten = rewrite(attempt, registry, repo, &pushed, container, ready);
    let digest = attempt.until_stopped(rewritten).await?;
    attempt.checkpoint.manifest = Some(digest.clone());
    attempt.save().await?;
    Ok(digest)
}

/// Writes the image's config anew and puts the manifest that has it, by digest alone.
async fn rewrite(
    attempt: &Attempt,
    registry: &Registry,
    repo: &str,
    pushed: &str,
    container: &Container,
    ready: &Ready,
) -> Result<Digest, Halt> {
    let missing =
        || RegistryError::Unproven { missing: vec![format!("manifest {pushed}, just pushed, is missing")] };
    let manifest = registry.manifest(repo, pushed).await?.ok_or_else(missing)?;
    let committed = registry.config(repo, &manifest).await.map_err(forgotten)?;
    let base = match &ready.base {
        Some(base) => base.clone(),
        None => without_launch(committed.config.clone().unwrap_or_default(), container),
    };
    let rules = ScrubRules {
        secrets: container.launch.env.values().cloned().map(SecretString::from).collect(),
        comment: Some(format!("job {}", attempt.job.id)),
        ..ScrubRules::default()
    };
    let config = scrub_config(committed, &base, &rules);
    let (bytes, digest) = registry.replace_config(repo, &manifest, &config).await?;
    registry.put_manifest(repo, digest.as_str(), &manifest.media_type, bytes).await?;
    Ok(digest)
}

/// The best that can be said of an image that is gone from the node: the container's settings without the launcher's.
fn without_launch(mut config: ContainerConfig, container: &Container) -> ContainerConfig {
    if let Some(env) = &mut config.env {
        env.retain(|entry| {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            !value.is_empty() && !container.launch.env.contains_key(name) && !name.starts_with("NVIDIA_")
        });
    }
    config
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
fn forgotten(error: RegistryError) -> RegistryError {
    match error {
        RegistryError::NotFound { .. } => RegistryError::Unproven { missing: vec![error.to_string()] },
        other => other,
    }
}
