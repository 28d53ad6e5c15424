//! Custom images of a project.

mod restore;

use super::containers::flag;
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
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show_one, delete))
        .routes(routes!(pin))
        .merge(restore::routes())
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

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ImagesQuery {
    /// Those of which something can be restored instead: images that were deleted (`deleted_at` says when), and images
    /// whose tag named something else before (`previous`).
    restorable: Option<String>,
}

/// Images of the project, by name and tag. All members see all of them.
#[utoipa::path(
    get, path = "/v1/images", tag = "images",
    params(("project" = Option<String>, Query, description = "The project"), ImagesQuery, PageQuery),
    responses((status = 200, body = List<Image>), Refused)
)]
async fn list(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Query(filter): Query<ImagesQuery>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<Image>>, Problem> {
    let (_, project) = principal.choose_project(&app, named.as_deref()).await?;
    let after = page.cursor::<ImageRef>()?.map(|image| image.to_string());
    let (after, limit) = (after.as_deref(), page.limit(&app)?);
    if flag("restorable", filter.restorable.as_deref())? {
        let found = app.parts.store.restorable_images(&project.name, after, limit).await?;
        let items = found.items.into_iter().map(show::restorable).collect();
        return Ok(Json(List { items, next_cursor: found.next }));
    }
    let found = app.parts.store.images(&project.name, after, limit).await?;
    let refs: Vec<ImageRef> = found.items.iter().map(|i| i.image.clone()).collect();
    let mut notices = app.parts.store.removal_notices(&project.name, &refs).await?;
    let shown =
        |i: &image::Image| Image { removal: notices.remove(&i.image).map(Into::into), ..show::image(i) };
    Ok(Json(List { items: found.items.iter().map(shown).collect(), next_cursor: found.next }))
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
    let notices = app.parts.store.removal_notices(&found.project, std::slice::from_ref(&found.image)).await?;
    let removal = notices.into_values().next().map(Into::into);
    Ok(Json(Image { removal, ..show::image(&found) }))
}

/// Deletes an image. It can be restored for a while; then its content goes from the registry, except what other tags or
/// parked containers need.
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
