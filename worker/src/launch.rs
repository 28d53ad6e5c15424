//! launch: bring the image, create the container, start it, and see it run.

use crate::attempt::Attempt;
use crate::docker::{ContainerStatus, CreateRequest, RegistryAuth};
use crate::halt::{Halt, Stop};
use crate::run::refused;
use mothball_domain::container::{Container, Port, Source};
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::id::ContainerId;
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
        remove_half_made(attempt).await;
    }
    done
}

async fn steps(attempt: &mut Attempt) -> Result<Effect, Halt> {
    let container = attempt.container().await?;
    let engine = attempt.parts.engine.clone();
    attempt.step(Step::Fetch).await?;
    let image = fetch(attempt, &container).await?;

    attempt.step(Step::Create).await?;
    let request = request(attempt, &container, image)?;
    // Not dropped half-way: Docker would make the container all the same, and nobody would know of it.
    let created = engine.create(&request).await?;
    for warning in &created.warnings {
        attempt.note(format!("Docker warned: {warning}"));
    }
    attempt.checkpoint.created = Some(created.id.clone());
    attempt.save().await?;

    attempt.step(Step::Start).await?;
    engine.start(&created.id).await?;
    attempt.step(Step::Ready).await?;
    let ports = running(attempt, &created.id).await?;
    Ok(Effect::Running { docker_id: created.id, ports })
}

/// Makes sure that the node has the image, and returns the name or id that Docker knows it by.
async fn fetch(attempt: &mut Attempt, container: &Container) -> Result<String, Halt> {
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
    let report = attempt.reporter();
    let progress = |p: crate::docker::PullProgress| report(p.bytes_done, p.bytes_total);
    let pulled = engine.pull(&reference, auth.as_ref(), progress, attempt.stop.token()).await;
    attempt.stop.check()?;
    Ok(pulled?.id)
}

/// The registry's credentials in the form that Docker takes.
pub(crate) fn credentials(attempt: &Attempt) -> Result<Option<RegistryAuth>, Halt> {
    let found = attempt.parts.registry.docker_credentials()?;
    Ok(found.map(|c| RegistryAuth { username: c.username, password: c.password, server: c.serveraddress }))
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

/// The name that a container gets in Docker.
pub(crate) fn docker_name(id: ContainerId) -> String {
    format!("mothball-{id}")
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

/// A launch that does not succeed leaves no container behind.
async fn remove_half_made(attempt: &mut Attempt) {
    let Some(id) = attempt.checkpoint.created.clone() else { return };
    match attempt.parts.engine.remove(&id, true, true).await {
        Ok(_) => attempt.checkpoint.created = None,
        Err(error) => tracing::warn!(error = %error, "the half-made container could not be removed"),
    }
}
