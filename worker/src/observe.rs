//! Looking at Docker: what became of the node's containers, what runs here that nobody knows, and whether a container was
//! left frozen. Docker may be slow: the heartbeat does not wait for this.

use crate::adopted;
use crate::docker::{ContainerFacts, EngineInfo};
use crate::freeze;
use crate::heartbeat::Seen;
use crate::node::NodeContext;
use crate::settings::Parts;
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::id::ContainerId;
use mothball_store::{ContainerQuery, Observed, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Most containers of one node that are looked at.
const CONTAINERS_MAX: usize = 10_000;
/// Most strays that are reported.
const STRAYS_MAX: usize = 100;
/// How long the size of one writable layer may take to be counted.
const SIZE_LIMIT: Duration = Duration::from_secs(30);
/// When a layer that took too long is counted again: Docker walks on after we stopped to wait.
const SIZE_AGAIN: Duration = Duration::from_mins(10);

/// Whose turn it is to have its layer counted.
#[derive(Debug, Default)]
struct Turn {
    next: usize,
    slow: BTreeMap<ContainerId, Instant>,
}

/// Looks until `ended`.
pub(crate) async fn run(
    parts: Arc<Parts>,
    node: Arc<NodeContext>,
    seen: watch::Sender<Seen>,
    ended: CancellationToken,
) {
    let mut ticks = interval(parts.settings.heartbeat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = Turn::default();
    loop {
        tokio::select! {
            biased;
            () = ended.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let looked = ended.run_until_cancelled(async {
            freeze::sweep(&parts.engine, &node.journal(), &node.frozen_now()).await;
            let info = parts.engine.info().await?;
            let strays = look(&parts, &node, &mut turn).await?;
            Ok::<(EngineInfo, Vec<String>), LookError>((info, strays))
        });
        match looked.await {
            None => return,
            Some(Ok((info, strays))) => drop(seen.send_replace(Seen { info, strays })),
            Some(Err(error)) => {
                tracing::warn!(error = %error, "the node's containers could not be compared with the store");
            }
        }
    }
}

/// Compares Docker's containers with the store's; returns those that carry our labels and that the store does not know.
async fn look(parts: &Parts, node: &NodeContext, turn: &mut Turn) -> Result<Vec<String>, LookError> {
    let query = ContainerQuery {
        node: Some(node.run.name.clone()),
        limit: CONTAINERS_MAX,
        ..ContainerQuery::default()
    };
    // Docker first: a container that is made after this is not in the list, and one made before is on record by its job.
    let labelled = parts.engine.list_labelled().await?;
    let known = parts.store.containers(&query).await?.items;
    for container in known.iter().filter(|c| c.job.is_none() && c.state.exists()) {
        observe(parts, node, container, None).await?;
    }
    count_one(parts, node, &known, turn).await?;
    let known_ids: BTreeSet<&str> = known.iter().filter_map(|c| c.docker_id.as_deref()).collect();
    // A launch at work knows its container before the store does.
    let at_work: BTreeSet<String> =
        known.iter().filter(|c| c.job.is_some()).map(|c| c.id.to_string()).collect();
    let stray = |c: &&crate::docker::LabelledContainer| {
        let number = c.labels.get(crate::docker::CONTAINER_LABEL);
        !known_ids.contains(c.id.as_str()) && !number.is_some_and(|n| at_work.contains(n))
    };
    Ok(labelled.iter().filter(stray).map(|c| c.id.clone()).take(STRAYS_MAX).collect())
}

/// Counts one container's writable layer: that walks all of it, so they come in turn.
async fn count_one(
    parts: &Parts,
    node: &NodeContext,
    known: &[Container],
    turn: &mut Turn,
) -> Result<(), LookError> {
    turn.slow.retain(|_, until| *until > Instant::now());
    let countable: Vec<&Container> = known
        .iter()
        .filter(|c| c.job.is_none() && matches!(c.state, ContainerState::Ready | ContainerState::Stopped))
        .filter(|c| !turn.slow.contains_key(&c.id))
        .collect();
    if countable.is_empty() {
        return Ok(());
    }
    let container = countable[turn.next % countable.len()];
    turn.next = turn.next.wrapping_add(1);
    let Some(id) = &container.docker_id else { return Ok(()) };
    match timeout(SIZE_LIMIT, parts.engine.writable_bytes(id)).await {
        Ok(Ok(bytes)) => observe(parts, node, container, Some(bytes)).await,
        // It may just have been removed: the next look says.
        Ok(Err(_)) => Ok(()),
        Err(_) => {
            turn.slow.insert(container.id, Instant::now() + SIZE_AGAIN);
            Ok(())
        }
    }
}

async fn observe(
    parts: &Parts,
    node: &NodeContext,
    container: &Container,
    writable_bytes: Option<u64>,
) -> Result<(), LookError> {
    let Some(docker_id) = container.docker_id.clone() else { return Ok(()) };
    let facts = parts.engine.inspect(&docker_id).await?;
    if let Some(facts) = facts.as_ref().filter(|facts| !node.bases.has(&facts.image_id)) {
        // Also of one that was adopted, or launched before its image's config was kept.
        node.base(&facts.image_id);
    }
    if let Some(facts) = facts.as_ref().filter(|_| adopted::is_of_others(container)) {
        record_launch(parts, node, container, facts).await?;
    }
    let running = facts.map(|facts| facts.status.is_alive());
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

/// Writes down what an adopted container was launched with.
async fn record_launch(
    parts: &Parts,
    node: &NodeContext,
    container: &Container,
    facts: &ContainerFacts,
) -> Result<(), LookError> {
    let rules = &parts.settings.mounts;
    let launched = adopted::launched(&parts.engine, node, rules, container, facts).await?;
    if !launched.seen.is_in(container) {
        parts.store.record_launch(&node.run.uid, container.id, &facts.id, &launched.seen).await?;
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
