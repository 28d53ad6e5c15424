//! Custom images of a project.

use super::docs::Refused;
use super::page::PageQuery;
use super::show;
use super::views::{Code, Image, Job, List, PinRequest, Problem};
use crate::access::{NamedProject, Principal, authorize, shortened};
use crate::app::App;
use crate::extract::{MaybeBody, Path, Query};
use crate::submit::{self, Order, Repeatable};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use mothball_domain::image;
use mothball_domain::image::ImageRef;
use mothball_domain::job::JobSpec;
use mothball_domain::people::{Action, Caller};
use mothball_store::Target;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show_one, delete))
        .routes(routes!(pin))
        .routes(routes!(restore))
}

async fn find(
    app: &App,
    principal: &Principal,
    named: Option<&str>,
    which: &str,
) -> Result<(image::Image, Caller), Problem> {
    let (caller, project) = principal.choose_project(app, named).await?;
    let missing = || {
        let hint = "Images are named NAME:TAG; list them with GET /v1/images (`mothball images`).";
        Problem::not_found(format_args!("image {} in project {}", shortened(which), project.name))
            .with_hint(hint)
    };
    let image: ImageRef = which.parse().map_err(|_| missing())?;
    let found = app.parts.store.image(&project.name, &image).await?.ok_or_else(missing)?;
    Ok((found, caller))
}

async fn find_own(
    app: &App,
    principal: &Principal,
    named: Option<&str>,
    which: &str,
) -> Result<image::Image, Problem> {
    let (found, caller) = find(app, principal, named, which).await?;
    authorize(&caller, &Action::ChangeOwnedBy(&found.created_by), format_args!("image {}", found.image))?;
    Ok(found)
}

/// Images of the project, by name and tag. All members see all of them.
#[utoipa::path(
    get, path = "/v1/images", tag = "images",
    params(("project" = Option<String>, Query, description = "The project"), PageQuery),
    responses((status = 200, body = List<Image>), Refused)
)]
async fn list(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<Image>>, Problem> {
    let (_, project) = principal.choose_project(&app, named.as_deref()).await?;
    let after = page.cursor::<ImageRef>()?.map(|image| image.to_string());
    let found = app.parts.store.images(&project.name, after.as_deref(), page.limit(&app)?).await?;
    Ok(Json(List { items: found.items.iter().map(show::image).collect(), next_cursor: found.next }))
}

/// One image.
#[utoipa::path(
    get, path = "/v1/images/{image}", tag = "images",
    params(("image" = String, Path, description = "`name:tag`"), ("project" = Option<String>, Query, description = "The project")),
    responses((status = 200, body = Image), Refused)
)]
async fn show_one(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Path(which): Path<String>,
) -> Result<Json<Image>, Problem> {
    let (found, _) = find(&app, &principal, named.as_deref(), &which).await?;
    Ok(Json(show::image(&found)))
}

/// Deletes an image. Layers and digests that other tags or parked containers need stay in the registry.
#[utoipa::path(
    delete, path = "/v1/images/{image}", tag = "images",
    params(("image" = String, Path, description = "`name:tag`"), ("project" = Option<String>, Query, description = "The project")),
    responses((status = 202, body = Job), (status = 200, description = "The job that it joins", body = Job), Refused)
)]
async fn delete(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    repeatable: Repeatable,
    Path(which): Path<String>,
) -> Result<Response, Problem> {
    let idempotency = repeatable.with(&());
    if let Some(answer) = submit::replay(&app, &principal, idempotency.as_ref()).await? {
        return Ok(answer);
    }
    let found = find_own(&app, &principal, named.as_deref(), &which).await?;
    if found.pinned {
        let why = format!("image {} is pinned", found.image);
        return Err(Problem::new(Code::Protected, why)
            .with_hint("Unpin it first: POST …/pin with {\"pinned\": false}."));
    }
    let order = Order {
        subject: format!("image {}", found.image),
        spec: JobSpec::DeleteImage { image: found.image, digest: found.digest },
        project: found.project,
        target: Target::Image,
        action: "image.delete",
    };
    submit::submit(&app, &principal, idempotency, order).await
}

/// Has clean-up leave an image alone, or lets it go again.
#[utoipa::path(
    post, path = "/v1/images/{image}/pin", tag = "images", request_body = Option<PinRequest>,
    params(("image" = String, Path, description = "`name:tag`"), ("project" = Option<String>, Query, description = "The project")),
    responses((status = 200, body = Image), Refused)
)]
async fn pin(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Path(which): Path<String>,
    MaybeBody(asked): MaybeBody<PinRequest>,
) -> Result<Json<Image>, Problem> {
    let found = find_own(&app, &principal, named.as_deref(), &which).await?;
    let changed = app.parts.store.pin_image(&found.project, &found.image, asked.pinned).await?;
    let changed = changed.ok_or_else(|| Problem::not_found(format_args!("image {}", found.image)))?;
    let subject = format!("image {}", found.image);
    let detail = if asked.pinned { "pinned" } else { "unpinned" };
    submit::audit(&app, &principal, Some(&found.project), "image.pin", &subject, detail).await;
    Ok(Json(show::image(&changed)))
}

/// Brings back what the tag was before it was last overwritten.
#[utoipa::path(
    post, path = "/v1/images/{image}/restore", tag = "images",
    params(("image" = String, Path, description = "`name:tag`"), ("project" = Option<String>, Query, description = "The project")),
    responses((status = 200, body = Image), Refused)
)]
async fn restore(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Path(which): Path<String>,
) -> Result<Json<Image>, Problem> {
    let found = find_own(&app, &principal, named.as_deref(), &which).await?;
    let Some(before) = found.previous.first() else {
        let why = format!("image {} was never overwritten: there is nothing to restore", found.image);
        return Err(Problem::new(Code::NotNow, why));
    };
    let why = format!(
        "image {} was {} before, but restoring is not possible in this version",
        found.image, before.digest
    );
    Err(Problem::new(Code::NotImplemented, why)
        .with_hint("Pull the earlier digest from the registry meanwhile."))
}
