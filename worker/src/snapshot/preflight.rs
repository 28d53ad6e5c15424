//! preflight: what can be known before any work.

use super::Request;
use crate::attempt::Attempt;
use crate::docker::{ContainerFacts, ContainerStatus};
use crate::halt::Halt;
use crate::run::refused;
use crate::survey::DISK_MARGIN_BYTES;
use crate::way::Way;
use mothball_domain::container::Container;
use mothball_domain::exclude::Exclude;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_image::oci::ContainerConfig;

/// A container that can be saved.
#[derive(Debug)]
pub(crate) struct Ready {
    /// What Docker says of it.
    pub(crate) facts: ContainerFacts,
    /// How it is saved.
    pub(crate) way: Way,
    /// What its image starts a container with; none when that is not known any more, and where it is not asked for.
    pub(crate) base: Option<ContainerConfig>,
    /// Bytes in its writable layer, where they are to be copied.
    pub(crate) writable_bytes: u64,
}

/// What the preflight found.
pub(crate) enum Found {
    /// A container to be saved.
    Container(Box<Ready>),
    /// No container, and that is right: the job removed it.
    Removed,
}

/// Looks at the container, the node's disk and the registry.
pub(crate) async fn check(
    attempt: &mut Attempt,
    container: &Container,
    request: &Request,
) -> Result<Found, Halt> {
    let engine = attempt.parts.engine.clone();
    let gone = |sentence: &str| Halt::Failed(Failure::permanent(FailureClass::Gone, sentence));
    let docker_id =
        container.docker_id.clone().ok_or_else(|| gone("the container does not exist on its node"))?;
    let Some(facts) = engine.inspect(&docker_id).await? else {
        if request.then.removes() && attempt.checkpoint.recorded {
            return Ok(Found::Removed);
        }
        return Err(gone("the container does not exist on its node any more"));
    };
    if matches!(facts.status, ContainerStatus::Removing) {
        // Our own removal of an earlier attempt may still be at work in Docker: the next look tells.
        let sentence = "the container is being removed";
        return Err(Failure::transient(FailureClass::Engine, sentence).into());
    }
    volumes(attempt, &facts, request)?;
    let info = attempt.until_stopped(engine.info()).await?;
    let way = attempt.node.reach.of_container(&info, &facts);
    let mut ready = Ready { facts, way, base: None, writable_bytes: 0 };
    excludes(request, &ready.way)?;
    attempt.until_stopped(attempt.parts.registry.ping()).await?;
    if !matches!(ready.way, Way::Direct(_)) {
        by_engine(attempt, &mut ready).await?;
    }
    note_way(attempt, &ready.way)?;
    Ok(Found::Container(Box::new(ready)))
}

/// Takes the way of Docker Engine after all, because of what the direct one met in the layer.
pub(crate) async fn fall_back(
    attempt: &mut Attempt,
    request: &Request,
    ready: &mut Ready,
    why: String,
) -> Result<(), Halt> {
    ready.way = attempt.node.reach.other_than_direct(why);
    excludes(request, &ready.way)?;
    by_engine(attempt, ready).await?;
    note_way(attempt, &ready.way)
}

/// What a commit needs: room for a copy of the layer, and the image's own settings.
async fn by_engine(attempt: &Attempt, ready: &mut Ready) -> Result<(), Halt> {
    let engine = &attempt.parts.engine;
    let facts = &ready.facts;
    ready.writable_bytes = attempt.until_stopped(engine.writable_bytes(&facts.id)).await?;
    if let Some(free) = attempt.node.disk_free_bytes()
        && free < ready.writable_bytes + DISK_MARGIN_BYTES
    {
        let sentence = format!(
            "the node's disk has {} MB free, and the copy of the container's {} MB does not fit",
            free >> 20,
            ready.writable_bytes >> 20
        );
        return Err(Failure::transient(FailureClass::NodeDisk, sentence).into());
    }
    ready.base = match engine.image(&facts.image_id).await? {
        Some(image) => Some(serde_json::from_value(image.config).map_err(|e| {
            Failure::permanent(FailureClass::Engine, format!("the image's settings cannot be read: {e}"))
        })?),
        // Kept while the image was there.
        None => attempt.node.base(&facts.image_id).and_then(|base| base.config.config),
    };
    Ok(())
}

/// Tells the job's owner which way the save takes, and why not the direct one.
fn note_way(attempt: &mut Attempt, way: &Way) -> Result<(), Halt> {
    match way {
        Way::Direct(_) => attempt.note("Saved directly from the container's layer (way: direct)."),
        Way::Engine(why) => {
            attempt.note(format!("Saved by Docker commit and push (way: engine), because {why}."));
        }
        Way::Closed(why) => {
            return Err(refused(
                format!("the container cannot be saved directly: {why}"),
                "Ask the operator to set worker.snapshot to \"auto\", or to let the worker read Docker's overlay2 layers.",
            ));
        }
    }
    Ok(())
}

/// Docker commits all of a writable layer: whoever wants something kept out of the image must not be told that it was.
fn excludes(request: &Request, way: &Way) -> Result<(), Halt> {
    if request.excludes.is_empty() || matches!(way, Way::Direct(_)) {
        return Ok(());
    }
    let list: Vec<&str> = request.excludes.iter().map(Exclude::as_str).collect();
    Err(refused(
        format!("this node saves by Docker commit, which cannot leave out {}", list.join(", ")),
        "Delete or move these files and save without excludes (--no-default-excludes sets the project's own aside); or ask the operator for a node that saves directly.",
    ))
}

/// Anonymous volumes hold data that no image has: a removal would lose it.
fn volumes(attempt: &mut Attempt, facts: &ContainerFacts, request: &Request) -> Result<(), Halt> {
    let volumes: Vec<String> = facts.anonymous_volumes().map(|v| v.destination.clone()).collect();
    if volumes.is_empty() {
        return Ok(());
    }
    let list = volumes.join(", ");
    if request.then.removes() && !request.discard_volumes {
        return Err(refused(
            format!("the image keeps {list} in volumes, which no image holds and which a removal would lose"),
            "Copy what you need out of them, then say --discard-volumes; or save without deleting.",
        ));
    }
    attempt.note(format!("Not saved: volumes at {list}."));
    Ok(())
}
