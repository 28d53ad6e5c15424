//! upload and finish, the way of Docker Engine: the committed image pushed under a tag of the job's own, and the manifest
//! that has the image's own config put by digest.

use crate::attempt::Attempt;
use crate::halt::Halt;
use crate::snapshot::finish::forgotten;
use crate::snapshot::leftovers;
use crate::snapshot::preflight::Ready;
use mothball_domain::container::Container;
use mothball_domain::failure::FailureClass;
use mothball_domain::image::Digest;
use mothball_domain::job::Step;
use mothball_image::oci::ContainerConfig;
use mothball_image::{Registry, RegistryError, ScrubRules, scrub_config};
use secrecy::SecretString;
use std::time::Duration;

/// How long a registry may take to say what ails it.
const WORDS_LIMIT: Duration = Duration::from_secs(5);

/// Brings the committed image into the registry, unless an earlier attempt has; the digest of its manifest.
pub(in crate::snapshot) async fn to_registry(
    attempt: &mut Attempt,
    repo: &str,
    container: &Container,
    ready: &Ready,
) -> Result<Digest, Halt> {
    let registry = attempt.parts.registry.clone();
    let digest = match attempt.checkpoint.manifest.clone() {
        Some(digest) => digest,
        None => upload(attempt, &registry, repo, container, ready).await?,
    };
    // Also what an attempt has left that died just here.
    leftovers::remove_pushed(&registry, repo, attempt.job.id).await;
    Ok(digest)
}

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
    let pushed = push(attempt, repo, &leftovers::temporary_tag(attempt.job.id)).await?;

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

/// Pushes the committed image under a tag of the job's own, and returns the manifest's digest.
async fn push(attempt: &mut Attempt, repo: &str, tag: &str) -> Result<String, Halt> {
    let engine = attempt.parts.engine.clone();
    let repository = format!("{}/{repo}", attempt.parts.registry.host());
    let image = attempt.checkpoint.committed.clone().unwrap_or_default();
    engine.tag_image(&image, &repository, tag).await?;
    let pushed = push_once(attempt, &repository, tag).await;
    let Err(Halt::Failed(failure)) = &pushed else { return pushed };
    if failure.class == FailureClass::Registry
        && let Some(words) = in_the_registrys_words(attempt, repo).await
    {
        return Err(words.failure().into());
    }
    if failure.class == FailureClass::Auth {
        // Credentials change and tokens end in the middle of a long push. Once more, with what the file holds now.
        tracing::info!(
            "the registry refused the credentials; pushing once more with those that are there now"
        );
        return push_once(attempt, &repository, tag).await;
    }
    pushed
}

/// Docker tells the status of a registry that broke, and not its words: 500 may be a full disk. So it is asked by ourselves
/// for what Docker wanted, an upload.
async fn in_the_registrys_words(attempt: &Attempt, repo: &str) -> Option<RegistryError> {
    let registry = &attempt.parts.registry;
    let asked = async {
        let upload = registry.start_upload(repo).await?;
        registry.cancel_upload(upload).await
    };
    let error = tokio::time::timeout(WORDS_LIMIT, asked).await.ok()?.err()?;
    matches!(error, RegistryError::Disk { .. } | RegistryError::Quota { .. }).then_some(error)
}

async fn push_once(attempt: &mut Attempt, repository: &str, tag: &str) -> Result<String, Halt> {
    let engine = attempt.parts.engine.clone();
    let auth = crate::launch::credentials(attempt)?;
    let report = attempt.reporter();
    let (mut sent, mut reused) = (0, 0);
    let progress = |p: crate::docker::PushProgress| {
        (sent, reused) = (p.bytes_done, p.bytes_reused);
        report(p.bytes_done, p.bytes_total);
    };
    let pushed = engine.push(repository, tag, auth.as_ref(), progress, attempt.stop.token()).await;
    attempt.parts.metrics.bytes_uploaded.inc_by(sent.saturating_sub(reused));
    attempt.parts.metrics.bytes_reused.inc_by(reused);
    attempt.stop.check()?;
    Ok(pushed?.digest)
}
