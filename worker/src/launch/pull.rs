//! The way of Docker Engine: the image is pulled.

use crate::attempt::Attempt;
use crate::docker::{ImageFacts, RegistryAuth};
use crate::halt::Halt;
use mothball_domain::container::{Container, Source};

/// Makes sure that the node has the image, and returns the name or id that Docker knows it by.
pub(super) async fn fetch(attempt: &mut Attempt, container: &Container) -> Result<String, Halt> {
    let engine = attempt.parts.engine.clone();
    let source = &container.launch.source;
    let reference = source.reference().to_owned();
    if let Some(image) = engine.image(&reference).await? {
        return Ok(image.id);
    }
    let auth = match source {
        // Only our own registry gets our credentials.
        Source::Custom { .. } => credentials(attempt)?,
        Source::Catalog { .. } | Source::Adopted { .. } => {
            let ours = format!("{}/", attempt.parts.registry.host());
            if reference.starts_with(&ours) { credentials(attempt)? } else { None }
        }
    };
    Ok(pull(attempt, &reference, auth.as_ref()).await?.id)
}

/// Pulls from our own registry, with our own credentials.
pub(super) async fn from_own_registry(attempt: &Attempt, reference: &str) -> Result<ImageFacts, Halt> {
    let auth = credentials(attempt)?;
    pull(attempt, reference, auth.as_ref()).await
}

async fn pull(attempt: &Attempt, reference: &str, auth: Option<&RegistryAuth>) -> Result<ImageFacts, Halt> {
    let report = attempt.reporter();
    let progress = |p: crate::docker::PullProgress| report(p.bytes_done, p.bytes_total);
    let pulled = attempt.parts.engine.pull(reference, auth, progress, attempt.stop.token()).await;
    attempt.stop.check()?;
    Ok(pulled?)
}

/// The registry's credentials in the form that Docker takes.
pub(crate) fn credentials(attempt: &Attempt) -> Result<Option<RegistryAuth>, Halt> {
    let found = attempt.parts.registry.docker_credentials()?;
    Ok(found.map(|c| RegistryAuth { username: c.username, password: c.password, server: c.serveraddress }))
}
