//! A preflight: what the records say of a save, and what the container's node sees when it looks.

use super::snapshots::is_alive;
use super::views::{Code, Preflight, Problem, SnapshotRequest};
use crate::access::Principal;
use crate::app::App;
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::exclude::Exclude;
use mothball_domain::failure::Failure;
use mothball_domain::id::{JobId, SurveyId};
use mothball_domain::image::ImageRef;
use mothball_domain::job::PauseMode;
use mothball_domain::name::NodeName;
use mothball_domain::size::human;
use mothball_domain::survey::{MountedAs, Survey, SurveyOutcome, SurveyReport, words};
use mothball_queue::{QueueError, Target as Wake};
use mothball_store::{AskedFor, SurveyDraft};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// How often a call that waits asks whether the node still reports.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// What a save would mean. Starts no job and changes nothing.
pub(super) async fn preflight(
    app: &App,
    principal: &Principal,
    container: &Container,
    image: &ImageRef,
    asked: &SnapshotRequest,
    excludes: &[Exclude],
) -> Result<Preflight, Problem> {
    let mut preflight = of_records(app, container, image, asked, excludes).await?;
    // Only what exists on a node can be looked at; the problems say so of everything else.
    let exists = matches!(container.state, ContainerState::Ready | ContainerState::Stopped);
    if let Some(node) = container.node.as_ref().filter(|_| exists) {
        let survey = survey(app, principal, container, node, excludes).await?;
        add(&mut preflight, survey, asked);
    }
    preflight.possible = preflight.problems.is_empty();
    Ok(preflight)
}

/// What can be said without asking the node.
async fn of_records(
    app: &App,
    container: &Container,
    image: &ImageRef,
    asked: &SnapshotRequest,
    excludes: &[Exclude],
) -> Result<Preflight, Problem> {
    let store = &app.parts.store;
    let overwritten = store.image(&container.project, image).await?;
    let node = match &container.node {
        Some(node) => store.node(node).await?,
        None => None,
    };
    let node_alive = match &node {
        Some(node) => is_alive(app, node).await?,
        None => false,
    };
    let mut problems = Vec::new();
    if !matches!(container.state, ContainerState::Ready | ContainerState::Stopped) {
        problems.push(format!("The container is {}: it cannot be saved.", container.state));
    }
    if container.protected && asked.then.removes() {
        problems.push("The container is protected: switch that off before it is deleted.".to_owned());
    }
    if let Some(job) = container.job
        && let Some(job) = store.job(job).await?.filter(|job| !job.state.is_final())
    {
        problems.push(format!("{} job {} is {}: wait for it or cancel it.", job.kind(), job.id, job.state));
    }
    let quota = store.quota_use(&container.project, image).await?;
    if let Some(why) = quota.as_ref().and_then(|quota| quota.refusal.as_ref()) {
        problems.push(format!("The save would pass the quota: {why}. Delete images, or ask for more."));
    }
    let mut notes = Vec::new();
    if let Some(before) = &overwritten {
        notes.push(format!("{image} exists, saved by {}: it will be overwritten.", before.created_by));
    }
    if asked.pause == PauseMode::Never {
        notes.push("The container is not frozen: the image may mix moments.".to_owned());
    }
    Ok(Preflight {
        container: container.id,
        image: image.to_string(),
        possible: problems.is_empty(),
        overwrites: overwritten.is_some(),
        writable_bytes: container.writable_bytes,
        mounts_not_saved: container.launch.mounts.iter().map(|m| m.target.clone()).collect(),
        node: container.node.as_ref().map(ToString::to_string),
        node_alive,
        node_disk_free_bytes: node.as_ref().map(|n| n.report.disk_free_bytes),
        way: node.as_ref().map(|n| n.report.snapshot),
        problems,
        notes,
        warnings: Vec::new(),
        way_reason: None,
        bytes_to_save: None,
        entries: None,
        counted_completely: false,
        largest_directories: Vec::new(),
        largest_files: Vec::new(),
        excludes: excludes.iter().map(ToString::to_string).collect(),
        excluded_bytes: None,
        mounts: Vec::new(),
        package_trees: Vec::new(),
        secrets: Vec::new(),
        secrets_more: 0,
        secrets_complete: false,
        caches: Vec::new(),
        reuse: None,
        disk: None,
        registry: None,
        quota: quota.map(Into::into),
        layers: None,
        expected: None,
    })
}

/// Has the node look, and waits for its report.
async fn survey(
    app: &App,
    principal: &Principal,
    container: &Container,
    node: &NodeName,
    excludes: &[Exclude],
) -> Result<SurveyReport, Problem> {
    let limit = app.parts.settings.limits.survey_timeout;
    let until = Instant::now() + limit;
    let silent = || {
        let why = format!("node {node} does not report: its worker is stopped, or cannot reach the store");
        let hint =
            "Ask the operator to look at the node's worker. A save that is asked for now waits for it.";
        Problem::new(Code::NodeSilent, why).with_hint(app.ask(hint))
    };
    if !answers(app, node).await? {
        return Err(silent());
    }
    let Ok(_seat) = app.surveys.try_acquire() else {
        return Err(Problem::new(Code::RateLimited, "too many calls wait for nodes to look at containers"));
    };
    let draft = SurveyDraft {
        id: SurveyId(Uuid::now_v7()),
        container: container.id,
        node: node.clone(),
        user: principal.name().clone(),
        excludes: excludes.to_vec(),
        limit,
    };
    let id = match app.parts.store.ask_survey(&draft).await? {
        AskedFor::New(survey) => {
            wake(app, node, survey.id).await?;
            survey.id
        }
        AskedFor::Joined(survey) => survey.id,
    };
    let mut alive_at = Instant::now();
    while Instant::now() < until {
        if let Some(outcome) = app.parts.store.survey(id).await?.and_then(|survey: Survey| survey.outcome) {
            return match outcome {
                SurveyOutcome::Report(report) => Ok(*report),
                SurveyOutcome::Failed(failure) => Err(failed(app, failure)),
            };
        }
        if alive_at.elapsed() >= ALIVE_EVERY {
            alive_at = Instant::now();
            if !answers(app, node).await? {
                return Err(silent());
            }
        }
        sleep(app.parts.settings.limits.survey_poll).await;
    }
    let why = format!("node {node} has not looked at the container within {} s", limit.as_secs_f32());
    Err(Problem::new(Code::SurveyTimeout, why))
}

async fn answers(app: &App, node: &NodeName) -> Result<bool, Problem> {
    match app.parts.store.node(node).await? {
        Some(node) => is_alive(app, &node).await,
        None => Ok(false),
    }
}

/// Wakes the node's worker. Nobody publishes a survey again: who asked is told at once when the worker cannot be woken.
async fn wake(app: &App, node: &NodeName, id: SurveyId) -> Result<(), Problem> {
    let target = Wake::Survey(node.clone());
    let woken = app.parts.queue.wake(&target, JobId(id.0));
    let limit = app.parts.settings.limits.publish_timeout.max(Duration::from_secs(2));
    match tokio::time::timeout(limit, woken).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(QueueError::Unroutable { .. })) => {
            let why = format!(
                "the worker of node {node} does not look at containers: it has not started yet, or is of an older version"
            );
            Err(Problem::new(Code::NodeSilent, why))
        }
        Ok(Err(error)) => {
            tracing::warn!(survey.id = %id, %error, "a survey could not be published");
            Err(Problem::new(
                Code::Unavailable,
                "the node cannot be asked at the moment: the broker does not take the question",
            ))
        }
        Err(_) => Err(Problem::new(
            Code::Unavailable,
            "the node cannot be asked at the moment: the broker does not answer",
        )),
    }
}

fn failed(app: &App, failure: Failure) -> Problem {
    Problem::new(Code::SurveyFailed, failure.message).with_hint(app.ask(&failure.hint))
}

/// Adds what the node saw.
fn add(preflight: &mut Preflight, survey: SurveyReport, asked: &SnapshotRequest) {
    preflight.warnings = words::warnings(&survey);
    preflight.notes.extend(words::mounts(&survey.mounts));
    preflight.problems.extend(survey.problems);
    let anonymous = survey.mounts.iter().filter(|m| m.mounted_as == MountedAs::AnonymousVolume);
    let lost: Vec<&str> = anonymous.map(|m| m.target.as_str()).collect();
    if !lost.is_empty() && asked.then.removes() && !asked.discard_volumes {
        preflight.problems.push(format!(
            "Volumes would be lost with the container: {}. Copy what you need out of them, then say --discard-volumes.",
            lost.join(", ")
        ));
    }
    preflight.way = Some(survey.way);
    preflight.way_reason = Some(survey.way_reason);
    preflight.writable_bytes = survey.writable_bytes.or(preflight.writable_bytes);
    preflight.mounts_not_saved = survey.mounts.iter().map(|m| m.target.clone()).collect();
    preflight.mounts = survey.mounts.into_iter().map(Into::into).collect();
    preflight.package_trees = survey.package_trees.into_iter().map(Into::into).collect();
    preflight.reuse = survey.reuse.map(Into::into);
    preflight.node_disk_free_bytes = survey.disk.map(|d| d.free_bytes).or(preflight.node_disk_free_bytes);
    preflight.disk = survey.disk.map(Into::into);
    preflight.registry = Some(survey.registry.into());
    preflight.layers = survey.layers.map(Into::into);
    preflight.expected = survey.expected.map(Into::into);
    let Some(layer) = survey.layer else {
        preflight.bytes_to_save = preflight.writable_bytes;
        preflight
            .notes
            .push("The layer cannot be read from the node's worker: only its size is known.".to_owned());
        return;
    };
    if !layer.complete {
        preflight.notes.push(format!(
            "There was no time to count everything: there are more than {} in {} entries.",
            human(layer.bytes),
            layer.entries
        ));
    }
    preflight.bytes_to_save = Some(layer.bytes);
    preflight.entries = Some(layer.entries);
    preflight.counted_completely = layer.complete;
    preflight.excluded_bytes = Some(layer.excluded_bytes);
    preflight.largest_directories = layer.largest_directories.into_iter().map(Into::into).collect();
    preflight.largest_files = layer.largest_files.into_iter().map(Into::into).collect();
    preflight.secrets = layer.secrets.into_iter().map(Into::into).collect();
    preflight.secrets_more = layer.secrets_more;
    preflight.secrets_complete = layer.secrets_complete;
    preflight.caches = layer.caches.into_iter().map(Into::into).collect();
}
