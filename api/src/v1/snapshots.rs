//! `POST /v1/containers/{container}/snapshots`: saves a container as an image, or says what that would mean.

use super::docs::Refused;
use super::excludes;
use super::launch::name_and_tag;
use super::preflight;
use super::views::{Code, Job, Problem, SnapshotRequest};
use crate::access::{NamedProject, Principal};
use crate::app::App;
use crate::extract::{Body, Path};
use crate::submit::{self, Order, Repeatable};
use crate::v1::containers;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use mothball_domain::image::ImageRef;
use mothball_domain::job::JobSpec;
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
        let told = preflight::preflight(&app, &principal, &found, &image, &asked, &excludes);
        let told = Box::pin(told).await?;
        return Ok(Json(told).into_response());
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

/// Whether a node's worker reported lately, by the store's clock.
pub(super) async fn is_alive(app: &App, node: &Node) -> Result<bool, Problem> {
    let now = app.parts.store.now().await?;
    let silent_ms = now.as_millisecond() - node.heartbeat_at.as_millisecond();
    Ok(node.stopped_at.is_none() && silent_ms <= app.parts.settings.alive_within.as_millis() as i64)
}
