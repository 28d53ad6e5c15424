//! delete: let the container's processes end, then remove it.

use crate::attempt::Attempt;
use crate::halt::Halt;
use crate::launch::unrecorded;
use crate::run::refused;
use jiff::Timestamp;
use mothball_domain::container::Container;
use mothball_domain::job::Step;
use mothball_store::Effect;

/// Deletes the job's container.
pub(crate) async fn run(attempt: &mut Attempt) -> Result<Effect, Halt> {
    let container = attempt.container().await?;
    let engine = attempt.parts.engine.clone();
    let Some(docker_id) = container.docker_id.clone() else {
        remove_unrecorded(attempt, &container).await?;
        return Ok(Effect::Removed);
    };
    check_node(attempt, &container)?;
    attempt.step(Step::Stop).await?;
    if let Some(facts) = engine.inspect(&docker_id).await? {
        if facts.is_paused() {
            // A frozen process cannot end by itself.
            engine.unpause(&docker_id).await?;
        }
        let grace = attempt.parts.settings.stop_grace;
        match attempt.until_stopped(engine.stop(&docker_id, grace)).await {
            Err(Halt::Failed(failure)) => {
                tracing::warn!(error = %failure, "the container did not stop; removing it all the same");
            }
            other => other?,
        }
    }
    attempt.step(Step::Remove).await?;
    if attempt.container().await?.protected {
        return Err(refused(
            format!(
                "container {} was protected after its deletion was asked for: it is kept",
                container.name
            ),
            "Switch the protection off to delete the container.",
        ));
    }
    attempt.confirm().await?.check()?;
    engine.remove(&docker_id, true, true).await?;
    attempt.checkpoint.removed_at = Some(Timestamp::now());
    attempt.save().await?;
    Ok(Effect::Removed)
}

/// A launch that died between making its container and writing that down has left it under its name.
async fn remove_unrecorded(attempt: &mut Attempt, container: &Container) -> Result<(), Halt> {
    attempt.step(Step::Remove).await?;
    let engine = attempt.parts.engine.clone();
    if let Some(facts) = unrecorded(attempt, container).await? {
        attempt.confirm().await?.check()?;
        engine.remove(&facts.id, true, true).await?;
    }
    Ok(())
}

/// "Not found" counts as deleted only on the very Docker that had the container.
pub(crate) fn check_node(attempt: &Attempt, container: &Container) -> Result<(), Halt> {
    if container.node_uid.as_deref() == Some(attempt.node.run.uid.as_str()) {
        return Ok(());
    }
    Err(refused(
        format!("container {} belongs to another Docker than the one that this node has now", container.name),
        "Ask the operator what became of the node's Docker data; forget the container if it is gone for good.",
    ))
}
