//! Gauges that are read from the store when somebody asks. All values of a closed set are written each time, so
//! that a gauge falls to zero instead of vanishing.

mod money;

use crate::app::App;
use money::Money;
use mothball_domain::container::ContainerState;
use mothball_domain::id::ContainerId;
use mothball_domain::job::JobKind;
use mothball_domain::name::{NodeName, ProjectName};
use mothball_store::{ContainerQuery, Store, StoreError};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};
use std::collections::BTreeMap;

/// Records read from the store in one step.
const BATCH: usize = 200;

/// Why there are no gauges.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScrapeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// Reads them all; what belongs to projects only where `projects` says so.
pub(crate) async fn gauges(app: &App, projects: bool) -> Result<Vec<MetricFamily>, ScrapeError> {
    let registry = Registry::new();
    jobs(app, &registry).await?;
    let mut money = containers(app, &registry).await?;
    idleness(app, &registry, &mut money).await?;
    nodes(app, &registry).await?;
    if projects {
        let projects = images(&app.parts.store, &registry).await?;
        money.write(&app.parts.store, &projects, &registry).await?;
    }
    let build = gauge(&registry, "mothball_build_info", "The version that runs.", &["version"])?;
    build.with_label_values(&[&app.parts.version]).set(1);
    Ok(registry.gather())
}

fn gauge(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn seconds(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<GaugeVec, prometheus::Error> {
    let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

/// A count as Prometheus wants it.
fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

async fn jobs(app: &App, registry: &Registry) -> Result<(), ScrapeError> {
    let count = gauge(registry, "mothball_jobs", "Jobs by kind and state.", &["kind", "state"])?;
    let age = seconds(
        registry,
        "mothball_oldest_unfinished_job_age_seconds",
        "Age of the oldest job that is not over; 0 when there is none.",
        &["kind"],
    )?;
    let now = app.parts.store.now().await?;
    let mut oldest: BTreeMap<JobKind, f64> = JobKind::ALL.map(|kind| (kind, 0.0)).into();
    for counted in app.parts.store.job_counts().await? {
        count.with_label_values(&[counted.kind.as_str(), counted.state.as_str()]).set(whole(counted.count));
        if let Some(since) = counted.oldest {
            let age_s = now.duration_since(since).as_secs_f64().max(0.0);
            let known = oldest.entry(counted.kind).or_default();
            *known = known.max(age_s);
        }
    }
    for (kind, age_s) in oldest {
        age.with_label_values(&[kind.as_str()]).set(age_s);
    }
    Ok(())
}

async fn containers(app: &App, registry: &Registry) -> Result<Money, ScrapeError> {
    let mut money = Money::at(app.parts.store.now().await?);
    let count =
        gauge(registry, "mothball_containers", "Containers by state and flavor.", &["state", "flavor"])?;
    let states = || ContainerState::ALL.into_iter().filter(|s| *s != ContainerState::Deleted);
    for flavor in &app.parts.settings.flavors {
        for state in states() {
            count.with_label_values(&[state.as_str(), flavor.name.as_str()]).set(0);
        }
    }
    let mut query = ContainerQuery { limit: BATCH, ..ContainerQuery::default() };
    loop {
        let page = app.parts.store.containers(&query).await?;
        for container in &page.items {
            let flavor = container.launch.flavor.name.as_str();
            count.with_label_values(&[container.state.as_str(), flavor]).inc();
            money.add(container);
        }
        match (page.items.last(), page.next) {
            (Some(last), Some(_)) => query.cursor = Some(last.id),
            _ => return Ok(money),
        }
    }
}

/// How long running containers have been idle, by the rules of their projects, and what that costs.
async fn idleness(app: &App, registry: &Registry, money: &mut Money) -> Result<(), ScrapeError> {
    let idle = seconds(
        registry,
        "mothball_container_idle_seconds",
        "For how long a container has been idle by its project's rule; 0 while it is active.",
        &["container", "node"],
    )?;
    let mut query =
        ContainerQuery { state: Some(ContainerState::Ready), limit: BATCH, ..ContainerQuery::default() };
    loop {
        let page = app.parts.store.containers(&query).await?;
        let ids: Vec<ContainerId> = page.items.iter().map(|c| c.id).collect();
        let looks = app.parts.store.usage(&ids).await?;
        for container in &page.items {
            let node = container.node.as_ref().map_or("", NodeName::as_str);
            if let Some(look) = looks.get(&container.id) {
                idle.with_label_values(&[container.id.to_string().as_str(), node])
                    .set(look.idle.idle_for().as_secs_f64());
                money.add_idle(container, look, app.parts.settings.seen_within);
            }
        }
        match (page.items.last(), page.next) {
            (Some(last), Some(_)) => query.cursor = Some(last.id),
            _ => return Ok(()),
        }
    }
}

async fn nodes(app: &App, registry: &Registry) -> Result<(), ScrapeError> {
    let gpus =
        gauge(registry, "mothball_gpus", "GPUs by node: held by a container, or free.", &["node", "state"])?;
    let heartbeat = seconds(
        registry,
        "mothball_worker_last_heartbeat_timestamp_seconds",
        "When the node's worker last reported.",
        &["node"],
    )?;
    let utilization = seconds(
        registry,
        "mothball_gpu_utilization_ratio",
        "How busy a GPU was at its busiest since the report before, 0 to 1.",
        &["node", "gpu"],
    )?;
    for (node, reservations) in app.parts.store.nodes().await? {
        let held = reservations.gpus_held();
        let free = node.report.gpus.len().saturating_sub(held);
        gpus.with_label_values(&[node.name.as_str(), "held"]).set(whole(held as u64));
        gpus.with_label_values(&[node.name.as_str(), "free"]).set(whole(free as u64));
        let at_s = node.heartbeat_at.as_millisecond() as f64 / 1000.0;
        heartbeat.with_label_values(&[node.name.as_str()]).set(at_s);
        for (gpu, busy) in app.parts.store.gpu_use(&node.name).await?.busy {
            utilization.with_label_values(&[node.name.as_str(), gpu.to_string().as_str()]).set(busy);
        }
    }
    Ok(())
}

/// The images of each project; which projects there are.
async fn images(store: &Store, registry: &Registry) -> Result<Vec<ProjectName>, ScrapeError> {
    let count = gauge(registry, "mothball_images", "Custom images of a project.", &["project"])?;
    let bytes = gauge(registry, "mothball_image_bytes", "Bytes of a project's custom images.", &["project"])?;
    let (mut projects, mut after) = (Vec::new(), None);
    loop {
        let page = store.projects(after.as_deref(), BATCH).await?;
        for project in &page.items {
            let (images, size) = images_of(store, &project.name).await?;
            count.with_label_values(&[project.name.as_str()]).set(images);
            bytes.with_label_values(&[project.name.as_str()]).set(size);
        }
        projects.extend(page.items.into_iter().map(|project| project.name));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(projects),
        }
    }
}

async fn images_of(store: &Store, project: &ProjectName) -> Result<(i64, i64), StoreError> {
    let (mut images, mut size, mut after) = (0u64, 0u64, None);
    loop {
        let page = store.images(project, after.as_deref(), BATCH).await?;
        images += page.items.len() as u64;
        size += page.items.iter().map(|image| image.size_bytes).sum::<u64>();
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok((whole(images), whole(size))),
        }
    }
}
