//! launch: bring the image, create the container, start it, and see it run.
//!
//! A saved image is brought directly into a container of its base ([`restore`]) where that is possible, else by Docker
//! ([`pull`]); the job says which, and why.

mod made;
mod pull;
mod restore;

use made::docker_name;
pub(crate) use made::unrecorded;
pub(crate) use pull::credentials;

use crate::attempt::Attempt;
use crate::docker::{ContainerStatus, CreateRequest};
use crate::halt::{Halt, Stop};
use crate::run::refused;
use mothball_domain::container::{Container, Port, Source};
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::job::Step;
use mothball_store::Effect;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a started container must run before its launch counts: one whose command ends at once is no success.
const SETTLE_DOWN: Duration = Duration::from_millis(500);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// Launches the job's container.
pub(crate) async fn run(attempt: &mut Attempt) -> Result<Effect, Halt> {
    let done = steps(attempt).await;
    if let Err(halt) = &done
        && !matches!(halt, Halt::Stopped(Stop::Interrupted | Stop::Lost))
    {
        made::remove(attempt).await;
    }
    done
}

async fn steps(attempt: &mut Attempt) -> Result<Effect, Halt> {
    let container = attempt.container().await?;
    attempt.step(Step::Fetch).await?;
    let docker_id = if let Some(docker_id) = restored(attempt, &container).await? {
        attempt.step(Step::Create).await?;
        docker_id
    } else {
        let image = pull::fetch(attempt, &container).await?;
        attempt.step(Step::Create).await?;
        create(attempt, &container, image).await?
    };
    attempt.step(Step::Start).await?;
    attempt.parts.engine.start(&docker_id).await?;
    attempt.step(Step::Ready).await?;
    let ports = running(attempt, &docker_id).await?;
    Ok(Effect::Running { docker_id, ports })
}

/// A container of the base, filled with what was saved; none where the image is to be pulled.
async fn restored(attempt: &mut Attempt, container: &Container) -> Result<Option<String>, Halt> {
    if !matches!(container.launch.source, Source::Custom { .. }) {
        return Ok(None);
    }
    // What an earlier attempt has left may be half filled, and may be of another image than this attempt comes to use.
    made::remove_earlier(attempt, container).await?;
    let why = match restore::find(attempt, container).await? {
        Ok(image) => {
            let docker_id = create(attempt, container, image.base_id()).await?;
            match restore::fill(attempt, &docker_id, &image).await? {
                Ok(()) => {
                    attempt.note("Launched by filling a container of the base image with what was saved (way: direct).");
                    return Ok(Some(docker_id));
                }
                Err(why) => why,
            }
        }
        Err(why) => why,
    };
    made::remove_earlier(attempt, container).await?;
    attempt.note(format!("Launched by Docker pull (way: engine), because {why}."));
    Ok(None)
}

/// Makes the container, and writes it down.
async fn create(attempt: &mut Attempt, container: &Container, image: String) -> Result<String, Halt> {
    let request = request(attempt, container, image)?;
    // Not dropped half-way: Docker would make the container all the same, and nobody would know of it.
    let created = attempt.parts.engine.create(&request).await?;
    for warning in &created.warnings {
        attempt.note(format!("Docker warned: {warning}"));
    }
    attempt.checkpoint.created = Some(created.id.clone());
    attempt.save().await?;
    // The image may be gone when the container is saved.
    attempt.node.base(&request.image);
    Ok(created.id)
}

fn request(attempt: &Attempt, container: &Container, image: String) -> Result<CreateRequest, Halt> {
    let (settings, flavor) = (&attempt.parts.settings, &container.launch.flavor);
    let gpu = |index: &u32| attempt.node.gpus.iter().find(|g| g.index == *index).map(|g| g.uuid.clone());
    let gpus: Option<Vec<String>> = container.gpus.iter().map(gpu).collect();
    let gpus = gpus.ok_or_else(|| {
        Failure::transient(
            FailureClass::Engine,
            format!("node {} no longer has the GPUs that were reserved", settings.node),
        )
    })?;
    let label = |name: &str, value: String| (format!("mothball.{name}"), value);
    let mounts = container.launch.mounts.iter();
    Ok(CreateRequest {
        name: docker_name(container.id),
        image,
        env: container.launch.env.clone(),
        labels: BTreeMap::from([
            label("container", container.id.to_string()),
            label("name", container.name.to_string()),
            label("project", container.project.to_string()),
            label("user", container.user.to_string()),
            label("flavor", flavor.name.to_string()),
            label("image", container.launch.source.display_name()),
            label("launch", attempt.job.id.to_string()),
            label("gpus", gpus.join(",")),
        ]),
        mounts: mounts.cloned().collect(),
        ports: container.launch.ports.clone(),
        publish_address: settings.publish_address.clone(),
        cpus: flavor.cpus,
        memory_bytes: flavor.memory.0,
        shm_bytes: flavor.shm.map(|s| s.0),
        gpus,
        gpu_request: settings.gpu_request,
        network: settings.network.clone(),
    })
}

/// Sees that a started container goes on running, and finds out where its ports are.
pub(crate) async fn running(attempt: &Attempt, docker_id: &str) -> Result<Vec<Port>, Halt> {
    let until = Instant::now() + SETTLE_DOWN;
    loop {
        let facts = attempt.parts.engine.inspect(docker_id).await?.ok_or_else(|| {
            Failure::transient(FailureClass::Engine, "the container vanished right after its start")
        })?;
        if !matches!(
            facts.status,
            ContainerStatus::Running | ContainerStatus::Paused | ContainerStatus::Restarting
        ) {
            let code = facts.exit_code.map_or_else(String::new, |code| format!(" with exit code {code}"));
            let killed = if facts.oom_killed { ", killed for want of memory" } else { "" };
            return Err(refused(
                format!("the container ended at once{code}{killed}"),
                "The image's own command must go on running; check it, or the container's logs, and launch again.",
            ));
        }
        if Instant::now() >= until {
            let published =
                facts.ports.iter().map(|p| Port { target: p.target, published: Some(p.published) });
            let mut ports: Vec<Port> = published.collect();
            ports.sort_by_key(|p| p.target);
            ports.dedup_by_key(|p| p.target);
            return Ok(ports);
        }
        attempt
            .until_stopped(async {
                sleep(LOOK).await;
                Ok::<(), Halt>(())
            })
            .await?;
    }
}
