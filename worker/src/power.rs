//! start and stop: a container that exists, without deleting it.

use crate::attempt::Attempt;
use crate::delete::check_node;
use crate::halt::Halt;
use crate::launch;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::job::Step;
use mothball_store::Effect;

/// Starts the job's container.
pub(crate) async fn start(attempt: &mut Attempt) -> Result<Effect, Halt> {
    let docker_id = docker_id(attempt).await?;
    attempt.step(Step::Start).await?;
    attempt.parts.engine.start(&docker_id).await?;
    let ports = launch::running(attempt, &docker_id).await?;
    Ok(Effect::Running { docker_id, ports })
}

/// Stops the job's container.
pub(crate) async fn stop(attempt: &mut Attempt) -> Result<Effect, Halt> {
    let docker_id = docker_id(attempt).await?;
    attempt.step(Step::Stop).await?;
    attempt.parts.engine.stop(&docker_id, attempt.parts.settings.stop_grace).await?;
    Ok(Effect::Stopped)
}

async fn docker_id(attempt: &Attempt) -> Result<String, Halt> {
    let container = attempt.container().await?;
    check_node(attempt, &container)?;
    let gone = || Failure::permanent(FailureClass::Gone, "the container does not exist on its node");
    let docker_id = container.docker_id.ok_or_else(gone)?;
    match attempt.parts.engine.inspect(&docker_id).await? {
        Some(_) => Ok(docker_id),
        None => Err(gone().into()),
    }
}
