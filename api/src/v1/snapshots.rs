//! `POST /v1/containers/{container}/snapshots`: saves a container as an image, or says what that would mean.

use super::docs::Refused;
use super::excludes;
use super::launch::name_and_tag;
use super::views::{Code, Job, Preflight, Problem, SnapshotRequest};
use crate::access::{NamedProject, Principal};
use crate::app::App;
use crate::extract::{Body, Path};
use crate::submit::{self, Order, Repeatable};
use crate::v1::containers;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::image::ImageRef;
use mothball_domain::job::{JobSpec, PauseMode};
use mothball_domain::name::{ImageName, Tag};
use mothball_domain::node::Node;
use mothball_store::Target;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(save))
}

/// Saves a container as an image. With `dry_run` it only says what the save would mean.
#[utoipa::path(
    post, path = "/v1/containers/{container}/snapshots", tag = "containers", request_body = SnapshotRequest,
    params(
        ("container" = String, Path, description = "Its number, or its name within the project"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body within 24 h is the same job")
    ),
    responses(
        (status = 202, body = Job, headers(("Location" = String, description = "The job"))),
        (status = 200, description = "The unfinished job of the same user that it joins; with `dry_run` a `Preflight`", body = Job),
        Refused
    )
)]
async fn save(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    repeatable: Repeatable,
    Path(which): Path<String>,
    Body(asked): Body<SnapshotRequest>,
) -> Result<Response, Problem> {
    // A dry run starts no job, so there is nothing to repeat.
    let idempotency = repeatable.with(&asked).filter(|_| !asked.dry_run);
    if let Some(answer) = submit::replay(&app, &principal, idempotency.as_ref()).await? {
        return Ok(answer);
    }
    let found = containers::find_own(&app, &principal, named.as_deref(), &which).await?;
    let image =
        ImageRef { name: found.image_name.clone(), tag: user_tag(&app, &found.image_name, &asked.tag)? };
    let excludes = excludes::of_save(&app, &found.project, &asked.exclude, asked.default_excludes).await?;
    if asked.dry_run {
        return Ok(Json(preflight(&app, &found, &image, &asked).await?).into_response());
    }
    let order = Order {
        subject: format!("container {} ({}) as {image}", found.name, found.id),
        spec: JobSpec::Snapshot {
            image,
            then: asked.then,
            pause: asked.pause,
            discard_volumes: asked.discard_volumes,
            excludes,
        },
        project: found.project,
        target: Target::Container(found.id),
        action: "container.save",
    };
    submit::submit(&app, &principal, idempotency, order).await
}

/// A tag that a user may give to an image of this name.
pub(super) fn user_tag(app: &App, name: &ImageName, text: &str) -> Result<Tag, Problem> {
    let tag: Tag = text.parse().map_err(|why| Problem::invalid("tag", why))?;
    if tag.is_hidden() {
        let why =
            format!("tags that begin with {:?} are Mothball's own", mothball_domain::name::HIDDEN_TAG_PREFIX);
        return Err(Problem::invalid("tag", why));
    }
    let taken = |entry: &str| name_and_tag(entry) == (name.as_str(), tag.as_str());
    if let Some(entry) = app.parts.settings.catalog.iter().find(|entry| taken(&entry.name)) {
        let why = format!("{name}:{tag} is the catalogue's {:?}", entry.name);
        return Err(Problem::new(Code::CatalogName, why).with_field("tag"));
    }
    Ok(tag)
}

async fn preflight(
    app: &App,
    container: &Container,
    image: &ImageRef,
    asked: &SnapshotRequest,
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
    let mut notes = Vec::new();
    if let Some(before) = &overwritten {
        notes.push(format!("{image} exists, saved by {}: it will be overwritten.", before.created_by));
    }
    if !node_alive {
        notes.push("The node's worker has not reported lately: the save waits for it.".to_owned());
    }
    if asked.pause == PauseMode::Never {
        notes.push("The container is not frozen: the image may mix moments.".to_owned());
    }
    let mounts_not_saved: Vec<String> = container.launch.mounts.iter().map(|m| m.target.clone()).collect();
    if !mounts_not_saved.is_empty() {
        notes.push(format!("Mounts are not part of the image: {}.", mounts_not_saved.join(", ")));
    }
    Ok(Preflight {
        container: container.id,
        image: image.to_string(),
        possible: problems.is_empty(),
        overwrites: overwritten.is_some(),
        writable_bytes: container.writable_bytes,
        mounts_not_saved,
        node: container.node.as_ref().map(ToString::to_string),
        node_alive,
        node_disk_free_bytes: node.as_ref().map(|n| n.report.disk_free_bytes),
        way: node.as_ref().map(|n| n.report.snapshot),
        problems,
        notes,
    })
}

/// Whether a node's worker reported lately, by the store's clock.
pub(super) async fn is_alive(app: &App, node: &Node) -> Result<bool, Problem> {
    let now = app.parts.store.now().await?;
    let silent_ms = now.as_millisecond() - node.heartbeat_at.as_millisecond();
    Ok(node.stopped_at.is_none() && silent_ms <= app.parts.settings.alive_within.as_millis() as i64)
}
