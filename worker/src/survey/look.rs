//! One look: Docker, the layer, the mounts, the disk and the registry, side by side.

use super::direct::{self, Seen};
use super::look_at_mounts;
use crate::docker::ContainerFacts;
use crate::node::NodeContext;
use crate::settings::Parts;
use crate::way::Way;
use mothball_domain::exclude::Excluder;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::node::SnapshotWay;
use mothball_domain::size::human;
use mothball_domain::survey::{
    DiskReport, LAYERS_MAX, LayerReport, LayersReport, RegistryReport, Reuse, Survey, SurveyReport,
};
use mothball_image::survey::{Looking, SecretRules, Until, look_at_layer};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Threads that look at a layer: on a cold disk they mostly wait.
const LAYER_THREADS: usize = 8;
/// How long the registry may take to answer.
const REGISTRY_LIMIT: Duration = Duration::from_secs(5);
/// Room that must stay free on the node's disk beside what a save takes.
pub(crate) const DISK_MARGIN_BYTES: u64 = 256 << 20;

/// Looks at a container, within about `limit`.
pub(super) async fn look(
    parts: &Parts,
    node: &NodeContext,
    survey: &Survey,
    limit: Duration,
) -> Result<SurveyReport, Failure> {
    let facts = facts(parts, node, survey).await?;
    let info = parts.engine.info().await.map_err(|e| e.failure())?;
    let way = node.reach.of_container(&info, &facts);
    let excludes = Excluder::new(&survey.excludes)
        .map_err(|why| Failure::permanent(FailureClass::Internal, why.to_string()))?;
    let never_stopped = CancellationToken::new();
    let (layer, seen, (mounts, package_trees), registry, image) = tokio::join!(
        async {
            let upper = node.reach.seen_layer(&facts).ok()?;
            let until = Until::after(limit * 3 / 4);
            layer_of(upper, excludes, parts.settings.secrets.clone(), until, LAYER_THREADS).await.ok()
        },
        async {
            let Way::Direct(upper) = &way else { return Seen::Nothing };
            direct::look(node, &facts, upper.clone(), &survey.excludes, limit * 3 / 4).await
        },
        look_at_mounts(node, &facts, limit / 2, &never_stopped),
        registry_of(parts),
        parts.engine.image(&facts.image_id),
    );
    let writable_bytes = match &layer {
        Some(layer) => Some(layer.bytes + layer.excluded_bytes),
        // Docker counts what the worker cannot see; the caller's limit is the bound.
        None => parts.engine.writable_bytes(&facts.id).await.ok(),
    };
    let way = match &seen {
        Seen::Unsuitable(why) => node.reach.other_than_direct(why.clone()),
        _ => way,
    };
    let (shown_way, way_reason) = in_words(&way);
    let preview = if let Seen::Preview(preview) = &seen { Some(preview) } else { None };
    let to_send = preview.map(|p| p.changed_bytes).or(layer.as_ref().map(|layer| layer.bytes));
    let expected = to_send.or(writable_bytes).and_then(|bytes| node.rates.expect(shown_way, bytes));
    let layers = image.ok().flatten().map(|image| {
        let now = image.diff_ids.len() as u32;
        let own = preview.map_or(1, |p| p.own_layers as u32);
        LayersReport { now, after: now + own, most: LAYERS_MAX }
    });
    let reuse = preview.filter(|p| p.reused_bytes > 0);
    let reuse = reuse.map(|p| Reuse { bytes: p.reused_bytes, changed_bytes: p.changed_bytes });
    // The engine copies the layer on the node before it pushes; the direct way copies nothing.
    let needed_bytes = if shown_way == SnapshotWay::Engine { writable_bytes.unwrap_or(0) } else { 0 };
    let disk = node.disk_free_bytes().map(|free_bytes| DiskReport { free_bytes, needed_bytes });
    let mut report = SurveyReport {
        way: shown_way,
        way_reason,
        writable_bytes,
        layer,
        mounts,
        package_trees,
        reuse,
        disk,
        registry,
        layers,
        expected,
        problems: Vec::new(),
    };
    report.problems = problems(survey, &way, &report);
    if matches!(seen, Seen::NoBase) {
        let why = "The container's image is gone from the node, and nothing was kept of it: it cannot be saved directly.";
        report.problems.push(why.to_owned());
    }
    Ok(report)
}

async fn facts(parts: &Parts, node: &NodeContext, survey: &Survey) -> Result<ContainerFacts, Failure> {
    let gone = || Failure::permanent(FailureClass::Gone, "the container does not exist on its node");
    let away =
        |error: mothball_store::StoreError| Failure::transient(FailureClass::Internal, error.to_string());
    let container = parts.store.container(survey.container).await.map_err(away)?.ok_or_else(gone)?;
    // Another Docker under the node's name may have a container of the same id.
    let ours = container.node_uid.as_ref().is_none_or(|uid| *uid == node.run.uid);
    let docker_id = container.docker_id.filter(|_| ours).ok_or_else(gone)?;
    parts.engine.inspect(&docker_id).await.map_err(|e| e.failure())?.ok_or_else(gone)
}

/// What is in a layer; else why that is not known.
pub(super) async fn layer_of(
    upper: PathBuf,
    excludes: Excluder,
    secrets: SecretRules,
    until: Until,
    threads: usize,
) -> Result<LayerReport, String> {
    let look = move || {
        let looking = Looking { excludes: &excludes, secrets: &secrets, until: &until, threads };
        look_at_layer(&upper, looking)
    };
    match tokio::task::spawn_blocking(look).await {
        Ok(Ok(layer)) => Ok(layer),
        Ok(Err(error)) => {
            tracing::warn!(error = %error, "a container's layer could not be looked at");
            Err(error.to_string())
        }
        Err(error) => {
            tracing::error!(error = %error, "a look at a layer ended by a defect");
            Err(error.to_string())
        }
    }
}

async fn registry_of(parts: &Parts) -> RegistryReport {
    match timeout(REGISTRY_LIMIT, parts.registry.ping()).await {
        Ok(Ok(())) => RegistryReport { reachable: true, problem: None },
        Ok(Err(error)) => RegistryReport { reachable: false, problem: Some(error.failure().message) },
        Err(_) => {
            let problem = format!("it does not answer within {} s", REGISTRY_LIMIT.as_secs());
            RegistryReport { reachable: false, problem: Some(problem) }
        }
    }
}

fn in_words(way: &Way) -> (SnapshotWay, String) {
    match way {
        Way::Direct(_) => (SnapshotWay::Direct, "the container's layer can be read where it lies".to_owned()),
        Way::Engine(why) => (SnapshotWay::Engine, why.clone()),
        Way::Closed(why) => (SnapshotWay::Direct, why.clone()),
    }
}

/// What stands in the way of a save, as far as the node can tell.
fn problems(survey: &Survey, way: &Way, report: &SurveyReport) -> Vec<String> {
    let mut problems = Vec::new();
    match way {
        Way::Closed(why) => problems.push(format!("The container cannot be saved directly: {why}.")),
        Way::Engine(_) if !survey.excludes.is_empty() => problems.push(
            "This node saves by Docker commit, which cannot leave anything out: delete or move the files, or save without excludes (--no-default-excludes sets the project's own aside).".to_owned(),
        ),
        _ => {}
    }
    if let Some(disk) =
        report.disk.filter(|d| d.needed_bytes > 0 && d.free_bytes < d.needed_bytes + DISK_MARGIN_BYTES)
    {
        problems.push(format!(
            "The node's disk has {} free, and the save needs {} there meanwhile: ask the operator to free some.",
            human(disk.free_bytes),
            human(disk.needed_bytes + DISK_MARGIN_BYTES)
        ));
    }
    if let Some(why) = &report.registry.problem {
        problems.push(format!("The node cannot use the registry: {}.", why.trim_end_matches('.')));
    }
    if let Some(layers) = report.layers.filter(|l| l.after > l.most) {
        problems.push(format!(
            "The image would have {} layers, and Docker runs {} at most.",
            layers.after, layers.most
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothball_domain::exclude::Exclude;
    use mothball_domain::id::{ContainerId, SurveyId};

    #[test]
    fn what_stands_in_the_way_is_said() {
        let survey = Survey {
            id: SurveyId(uuid::Uuid::nil()),
            container: ContainerId(1),
            node: "n".parse().unwrap(),
            user: "ann".parse().unwrap(),
            excludes: vec![Exclude::new("*.ckpt").unwrap()],
            limit_ms: 1,
            asked_at: jiff::Timestamp::UNIX_EPOCH,
            taken_by: None,
            outcome: None,
        };
        let good = SurveyReport {
            registry: RegistryReport { reachable: true, problem: None },
            layers: Some(LayersReport { now: 126, after: 127, most: LAYERS_MAX }),
            disk: Some(DiskReport { free_bytes: 10 << 30, needed_bytes: 1 << 30 }),
            ..SurveyReport::default()
        };
        let direct = Way::Direct(PathBuf::from("/upper"));
        assert_eq!(problems(&survey, &direct, &good), Vec::<String>::new());
        let engine = Way::Engine("x".to_owned());
        assert!(problems(&survey, &engine, &good)[0].contains("cannot leave anything out"));
        assert!(problems(&survey, &Way::Closed("why".to_owned()), &good)[0].contains("directly: why."));
        let bad = SurveyReport {
            registry: RegistryReport { reachable: false, problem: Some("no route.".to_owned()) },
            layers: Some(LayersReport { now: 127, after: 128, most: LAYERS_MAX }),
            disk: Some(DiskReport { free_bytes: 1 << 30, needed_bytes: 1 << 30 }),
            ..good
        };
        let said = problems(&survey, &direct, &bad);
        assert!(
            said[0].contains("1.1 GB free")
                && said[1].ends_with("no route.")
                && said[2].contains("128 layers"),
            "{said:?}"
        );
    }
}
