//! The node's heartbeat: what it is like, what became of its containers, and what runs here that nobody knows.

use crate::docker::EngineInfo;
use crate::node::NodeContext;
use crate::settings::Parts;
use mothball_domain::container::{Container, ContainerState};
use mothball_store::{ContainerQuery, Observed, StoreError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Most containers of one node that are looked at.
const CONTAINERS_MAX: usize = 10_000;
/// Most strays that are reported.
const STRAYS_MAX: usize = 100;
/// How long the size of one writable layer may take to be counted.
const SIZE_LIMIT: Duration = Duration::from_secs(30);

/// Reports until `shutdown`.
pub(crate) async fn run(
    parts: Arc<Parts>,
    node: Arc<NodeContext>,
    info: EngineInfo,
    shutdown: CancellationToken,
) {
    let mut ticks = interval(parts.settings.heartbeat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut info = info;
    let mut sized = 0;
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // The beat first: it must not wait for Docker.
        beat(&parts, &node, &info, &[]).await;
        if let Ok(fresh) = parts.engine.info().await {
            info = fresh;
            if let Err(error) = look(&parts, &node, &info, &mut sized).await {
                tracing::warn!(error = %error, "the node's containers could not be compared with the store");
            }
        } else {
            tracing::warn!("Docker Engine does not answer");
        }
    }
}

async fn beat(parts: &Parts, node: &NodeContext, info: &EngineInfo, strays: &[String]) {
    let report = node.report(&parts.settings, info);
    match parts.store.heartbeat(&node.run, &report, strays).await {
        Ok(true) => {
            parts.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        }
        Ok(false) => {
            tracing::error!(node = %node.run.name, "this worker's registration was taken over or forgotten");
            parts.ready.send_if_modified(|ready| std::mem::replace(ready, false));
        }
        Err(error) => tracing::warn!(error = %error, "the heartbeat could not be written"),
    }
}

/// Compares Docker's containers with the store's.
async fn look(
    parts: &Parts,
    node: &NodeContext,
    info: &EngineInfo,
    sized: &mut usize,
) -> Result<(), LookError> {
    let query = ContainerQuery {
        node: Some(node.run.name.clone()),
        limit: CONTAINERS_MAX,
        ..ContainerQuery::default()
    };
    let known = parts.store.containers(&query).await?.items;
    for container in known.iter().filter(|c| c.job.is_none() && c.state.exists()) {
        observe(parts, node, container, None).await?;
    }
    let known_ids: BTreeSet<&str> = known.iter().filter_map(|c| c.docker_id.as_deref()).collect();
    let launching = known.iter().any(|c| c.job.is_some());
    let labelled = parts.engine.list_labelled().await?;
    let strays: Vec<String> = labelled
        .iter()
        .map(|c| c.id.clone())
        .filter(|id| !known_ids.contains(id.as_str()))
        .take(STRAYS_MAX)
        .collect();
    // While a job runs, its container may be made and not yet recorded: not a stray.
    if !strays.is_empty() && !launching {
        beat(parts, node, info, &strays).await;
    }
    // Counting a layer walks all of it: one container with each beat, in turn.
    let countable: Vec<&Container> = known
        .iter()
        .filter(|c| c.job.is_none() && matches!(c.state, ContainerState::Ready | ContainerState::Stopped))
        .collect();
    if !countable.is_empty() {
        let container = countable[*sized % countable.len()];
        *sized = sized.wrapping_add(1);
        if let Some(id) = &container.docker_id
            && let Ok(Ok(bytes)) = timeout(SIZE_LIMIT, parts.engine.writable_bytes(id)).await
        {
            observe(parts, node, container, Some(bytes)).await?;
        }
    }
    Ok(())
}

async fn observe(
    parts: &Parts,
    node: &NodeContext,
    container: &Container,
    writable_bytes: Option<u64>,
) -> Result<(), LookError> {
    let Some(docker_id) = container.docker_id.clone() else { return Ok(()) };
    let running = parts.engine.inspect(&docker_id).await?.map(|facts| facts.status.is_alive());
    let state_as_seen = match running {
        Some(true) => ContainerState::Ready,
        Some(false) => ContainerState::Stopped,
        None => ContainerState::Lost,
    };
    let size_as_seen = writable_bytes.or(container.writable_bytes);
    if state_as_seen != container.state || size_as_seen != container.writable_bytes {
        let seen = Observed { id: container.id, docker_id, running, writable_bytes };
        parts.store.observe(&node.run.uid, &seen).await?;
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Docker(#[from] crate::docker::DockerError),
}
