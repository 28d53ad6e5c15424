//! Projects.

use super::docs::Refused;
use super::excludes;
use super::page::{PageQuery, paged};
use super::views::{Code, List, Problem, Project, ProjectPatch, ProjectRequest};
use crate::access::{Principal, authorize, shortened};
use crate::app::App;
use crate::extract::{Body, Path, Query};
use crate::submit;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mothball_domain::name::ProjectName;
use mothball_domain::people;
use mothball_domain::people::{Action, Caller};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show_one, change))
}

/// A project as `caller` sees it.
pub(super) fn shown(project: &people::Project, caller: &Caller) -> Project {
    Project {
        name: project.name.to_string(),
        members: project.members.iter().map(|(user, role)| (user.to_string(), *role)).collect(),
        created_at: project.created_at,
        quota_bytes: project.quota_bytes,
        quota_images: project.quota_images,
        excludes: project.excludes.iter().map(ToString::to_string).collect(),
        role: caller.role,
    }
}

/// The project that a path names, as far as the caller may see it.
pub(super) async fn find(
    app: &App,
    principal: &Principal,
    which: &str,
) -> Result<(Caller, people::Project), Problem> {
    let missing = |_| Problem::not_found(format_args!("project {}", shortened(which)));
    let name: ProjectName = which.parse().map_err(missing)?;
    principal.in_project(app, &name).await
}

/// The caller's projects; all of them for operators.
#[utoipa::path(
    get, path = "/v1/projects", tag = "people", params(PageQuery),
    responses((status = 200, body = List<Project>), Refused)
)]
async fn list(
    State(app): State<App>,
    principal: Principal,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<Project>>, Problem> {
    let after = page.cursor::<ProjectName>()?.map(|name| name.to_string());
    let limit = page.limit(&app)?;
    let show = |project: people::Project| shown(&project, &principal.caller(&project));
    if principal.user.operator {
        let found = app.parts.store.projects(after.as_deref(), limit).await?;
        return Ok(Json(List {
            items: found.items.into_iter().map(show).collect(),
            next_cursor: found.next,
        }));
    }
    let own = app.parts.store.projects_of(principal.name()).await?.into_iter().map(show);
    Ok(Json(paged(own, |project| project.name.clone(), after.as_deref(), limit)))
}

/// Makes a project (operators). It has no members yet.
#[utoipa::path(
    post, path = "/v1/projects", tag = "people", request_body = ProjectRequest,
    responses((status = 201, body = Project), Refused)
)]
async fn create(
    State(app): State<App>,
    principal: Principal,
    Body(asked): Body<ProjectRequest>,
) -> Result<Response, Problem> {
    principal.operator()?;
    let name: ProjectName = asked.name.parse().map_err(|why| Problem::invalid("name", why))?;
    let (project, new) = app.parts.store.create_project(&name).await?;
    if !new {
        return Err(Problem::new(Code::NameTaken, format_args!("project {name} exists")).with_field("name"));
    }
    submit::audit(&app, &principal, Some(&name), "project.create", &format!("project {name}"), "").await;
    let location = [(header::LOCATION, format!("/v1/projects/{name}"))];
    Ok((StatusCode::CREATED, location, Json(shown(&project, &principal.caller(&project)))).into_response())
}

/// One project.
#[utoipa::path(
    get, path = "/v1/projects/{project}", tag = "people",
    params(("project" = String, Path, description = "Its name")),
    responses((status = 200, body = Project), Refused)
)]
async fn show_one(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Json<Project>, Problem> {
    let (caller, project) = find(&app, &principal, &which).await?;
    Ok(Json(shown(&project, &caller)))
}

/// Changes a project: its quota (operators: it is what they grant), what its saves leave out (its admins).
#[utoipa::path(
    patch, path = "/v1/projects/{project}", tag = "people", request_body = ProjectPatch,
    params(("project" = String, Path, description = "Its name")),
    responses((status = 200, body = Project), Refused)
)]
async fn change(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Body(patch): Body<ProjectPatch>,
) -> Result<Json<Project>, Problem> {
    let (caller, project) = find(&app, &principal, &which).await?;
    let what = format!("project {}", project.name);
    let limits = patch.quota_bytes.is_some() || patch.quota_images.is_some();
    authorize(&caller, if limits { &Action::See } else { &Action::Manage }, &what)?;
    if limits {
        principal.operator()?;
    }
    let excludes = patch.excludes.as_ref().map(|texts| excludes::read("excludes", texts)).transpose()?;
    let gone = || Problem::not_found(&what);
    let mut changed = project.clone();
    if let Some(excludes) = &excludes {
        changed = app.parts.store.set_excludes(&project.name, excludes).await?.ok_or_else(gone)?;
    }
    if limits {
        let bytes = patch.quota_bytes.unwrap_or(project.quota_bytes);
        let images = patch.quota_images.unwrap_or(project.quota_images);
        changed = app.parts.store.set_quota(&project.name, bytes, images).await?.ok_or_else(gone)?;
    }
    let detail = serde_json::to_string(&patch).unwrap_or_default();
    submit::audit(&app, &principal, Some(&project.name), "project.change", &what, &detail).await;
    Ok(Json(shown(&changed, &caller)))
}
