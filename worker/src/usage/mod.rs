//! Looking at what the node's containers use: CPU, network, GPUs, terminals. Each look is reported with the time for which
//! the container has been idle by its project's rule; what is done about that is not decided here.

mod rates;

use crate::node::NodeContext;
use crate::settings::Parts;
use futures_util::future::join_all;
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::id::ContainerId;
use mothball_domain::name::ProjectName;
use mothball_domain::usage::{GpuUse, IdleClock, IdleRule, Use};
use mothball_store::{ContainerQuery, Looked, StoreError};
use rates::Counters;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Most containers of one node that are looked at.
const CONTAINERS_MAX: usize = 10_000;
/// Containers asked about at the same time.
const PARALLEL: usize = 8;
/// How often GPUs are asked between two looks: the driver tells of its last second only.
const GPU_GLIMPSES: u32 = 5;

/// What is remembered of a container between two looks.
#[derive(Debug)]
struct Known {
    counters: Counters,
    at: Instant,
    idle: IdleClock,
    rule: IdleRule,
}

/// Looks until `ended`.
pub(crate) async fn run(parts: Arc<Parts>, node: Arc<NodeContext>, ended: CancellationToken) {
    let every = parts.settings.usage_interval;
    let mut ticks = interval(every / GPU_GLIMPSES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = HashMap::new();
    let mut gpus = GpuUse::default();
    for glimpse in 1u32.. {
        tokio::select! {
            biased;
            () = ended.cancelled() => return,
            _ = ticks.tick() => {}
        }
        glimpse_at_gpus(&parts, &mut gpus).await;
        if glimpse % GPU_GLIMPSES != 0 {
            continue;
        }
        let busiest = std::mem::take(&mut gpus);
        let looked = ended.run_until_cancelled(look(&parts, &node, &mut known, &busiest));
        match looked.await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::warn!(error = %error, "what the node's containers use could not be reported");
            }
        }
    }
}

/// Keeps the busiest moment of each GPU since the last report.
async fn glimpse_at_gpus(parts: &Parts, gpus: &mut GpuUse) {
    let (inventory, dir) = (parts.settings.gpus, parts.settings.state_dir.clone());
    let Ok(now) = tokio::task::spawn_blocking(move || inventory.utilization(&dir)).await else { return };
    for (index, busy) in now {
        let most = gpus.busy.entry(index).or_default();
        *most = most.max(busy);
    }
}

async fn look(
    parts: &Parts,
    node: &NodeContext,
    known: &mut HashMap<ContainerId, Known>,
    gpus: &GpuUse,
) -> Result<(), StoreError> {
    let query = ContainerQuery {
        node: Some(node.run.name.clone()),
        limit: CONTAINERS_MAX,
        ..ContainerQuery::default()
    };
    let mut containers = parts.store.containers(&query).await?.items;
    containers.retain(|c| matches!(c.state, ContainerState::Ready | ContainerState::Stopped));
    let rules = rules(parts, &containers).await?;
    known.retain(|id, _| containers.iter().any(|c| c.id == *id));

    let mut looks = Vec::with_capacity(containers.len());
    for batch in containers.chunks(PARALLEL) {
        let counted = join_all(batch.iter().map(|container| count(parts, container))).await;
        for (container, counters) in batch.iter().zip(counted) {
            let Some(counters) = counters else {
                // Its counters go on, and the next look tells of this interval too; what its GPUs did in it is gone.
                if !container.gpus.is_empty() {
                    known.remove(&container.id);
                }
                continue;
            };
            let rule = rules.get(&container.project).cloned().flatten().unwrap_or_else(IdleRule::usual);
            looks.extend(compare(parts, container, counters, rule, gpus, known));
        }
    }
    parts.store.report_usage(&node.run.name, gpus, &looks).await
}

/// The rules of the projects that these containers belong to.
async fn rules(
    parts: &Parts,
    containers: &[Container],
) -> Result<BTreeMap<ProjectName, Option<IdleRule>>, StoreError> {
    let mut rules = BTreeMap::new();
    for container in containers {
        if !rules.contains_key(&container.project) {
            let policy = parts.store.park_policy(&container.project).await?;
            rules.insert(container.project.clone(), policy.idle);
        }
    }
    Ok(rules)
}

/// The container's counters now; none where Docker does not tell.
async fn count(parts: &Parts, container: &Container) -> Option<Counters> {
    let id = container.docker_id.as_deref()?;
    let counted = async {
        let Some(usage) = parts.engine.usage(id).await? else { return Ok(None) };
        let pid = parts.engine.inspect(id).await?.and_then(|facts| facts.pid);
        let terminals = if pid.is_some() { parts.engine.terminals(id, pid).await? } else { 0 };
        Ok::<_, crate::docker::DockerError>(Some(Counters::new(&usage, terminals)))
    };
    counted.await.unwrap_or_else(|error| {
        tracing::debug!(container.id = %container.id, error = %error, "a container could not be looked at");
        None
    })
}

/// What a container used since the last look; none at the first one, and where its rule has changed.
fn compare(
    parts: &Parts,
    container: &Container,
    counters: Counters,
    rule: IdleRule,
    gpus: &GpuUse,
    known: &mut HashMap<ContainerId, Known>,
) -> Option<Looked> {
    let now = Instant::now();
    let fresh = Known { counters, at: now, idle: IdleClock::default(), rule: rule.clone() };
    let before = known.insert(container.id, fresh)?;
    let elapsed = now.duration_since(before.at);
    let used = Use { gpu: busiest(container, gpus), ..counters.since(&before.counters, elapsed)? };
    let mut idle = if before.rule == rule { before.idle } else { IdleClock::default() };
    let activity = rule.activity(&used, container.gpus.len() as u32);
    idle.look(elapsed, parts.settings.usage_interval, activity);
    if let Some(kept) = known.get_mut(&container.id) {
        kept.idle = idle.clone();
    }
    Some(Looked { container: container.id, used, idle, rule })
}

/// How busy the busiest of a container's GPUs was; none unless all of them tell.
fn busiest(container: &Container, gpus: &GpuUse) -> Option<f64> {
    let told: Option<Vec<f64>> = container.gpus.iter().map(|index| gpus.busy.get(index).copied()).collect();
    told?.into_iter().reduce(f64::max)
}
