//! What launches have made: a container under its record's name, started or not.

use crate::attempt::Attempt;
use crate::docker::{CONTAINER_LABEL, ContainerFacts, DockerError};
use mothball_domain::container::Container;
use mothball_domain::id::ContainerId;

/// The name that a container gets in Docker.
pub(crate) fn docker_name(id: ContainerId) -> String {
    format!("mothball-{id}")
}

/// The container that an attempt made for this record and did not write down; none where there is none, or where the name
/// is a stranger's.
pub(crate) async fn unrecorded(
    attempt: &Attempt,
    container: &Container,
) -> Result<Option<ContainerFacts>, DockerError> {
    let found = attempt.parts.engine.inspect(&docker_name(container.id)).await?;
    Ok(found.filter(|facts| {
        let label = |name: &str| facts.labels.get(name).map(String::as_str);
        label(CONTAINER_LABEL) == Some(container.id.to_string().as_str())
            && label("mothball.name") == Some(container.name.as_str())
            && label("mothball.project") == Some(container.project.as_str())
            && label("mothball.user") == Some(container.user.as_str())
    }))
}

/// Takes away what this launch has made. What cannot be taken away now is found by the next attempt, or reported as a
/// stray.
pub(super) async fn remove(attempt: &mut Attempt) {
    let Some(id) = attempt.checkpoint.created.clone() else { return };
    match attempt.parts.engine.remove(&id, true, true).await {
        Ok(_) => attempt.checkpoint.created = None,
        Err(error) => tracing::warn!(error = %error, "the half-made container could not be removed"),
    }
}

/// Takes away what an earlier attempt at this launch has made, written down or not.
pub(super) async fn remove_earlier(attempt: &mut Attempt, container: &Container) -> Result<(), DockerError> {
    let made = unrecorded(attempt, container).await?.map(|facts| facts.id);
    for id in made.into_iter().chain(attempt.checkpoint.created.take()) {
        attempt.parts.engine.remove(&id, true, true).await?;
    }
    Ok(())
}
