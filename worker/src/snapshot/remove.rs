//! delete container: the one step that cannot be undone, taken only with the image proven in this very attempt and the
//! container frozen since the saved instant.

use super::Request;
use crate::attempt::Attempt;
use crate::freeze::Freeze;
use crate::halt::Halt;
use crate::run::refused;
use jiff::Timestamp;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::job::Step;

/// Removes the container whose image is proven.
pub(super) async fn remove_proven(
    attempt: &mut Attempt,
    freeze: &Freeze,
    request: &Request,
) -> Result<(), Halt> {
    attempt.step(Step::DeleteContainer).await?;
    let proven = attempt.checkpoint.verified && attempt.checkpoint.recorded;
    if !proven {
        return Err(Failure::permanent(
            FailureClass::Internal,
            "a container was about to be deleted without proof",
        )
        .into());
    }
    let container = attempt.container().await?;
    if container.protected {
        return Err(refused(
            format!("container {} was protected while it was being saved: it is kept", container.name),
            "The image is saved. Switch the protection off to delete the container.",
        ));
    }
    let docker_id = container.docker_id.ok_or_else(|| {
        Failure::permanent(FailureClass::Internal, "the container's record lost its Docker id")
    })?;
    let engine = attempt.parts.engine.clone();
    freeze.check(attempt).await?;
    // The lease is ours and nobody wants it stopped, as of now; from here on there is no way back.
    attempt.confirm().await?.check()?;
    if freeze.is_frozen()
        && let Err(error) = engine.kill_all_frozen(&docker_id).await
    {
        // Docker thaws what it kills: without this a process could write one more line that no image has.
        let sentence = format!("the frozen container's processes could not be ended safely: {error}");
        return Err(Failure::transient(FailureClass::Engine, sentence).into());
    }
    // Between the first look and the end of its processes it may have run once more.
    freeze.check(attempt).await?;
    attempt.confirm().await?.check()?;
    engine.remove(&docker_id, true, request.discard_volumes).await?;
    attempt.checkpoint.removed_at = Some(Timestamp::now());
    attempt.save().await
}
