//! Users.

use super::docs::Refused;
use super::page::PageQuery;
use super::projects;
use super::views::{Code, List, Membership, Problem, User, UserPatch, UserRequest};
use crate::access::{Principal, authorize, shortened};
use crate::app::App;
use crate::extract::{Body, Path, Query};
use crate::submit;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mothball_domain::name::UserName;
use mothball_domain::people;
use mothball_domain::people::{Action, Role};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show_one, change))
}

/// The projects of a user and their roles there.
pub(super) async fn memberships(app: &App, user: &UserName) -> Result<Vec<Membership>, Problem> {
    let projects = app.parts.store.projects_of(user).await?;
    let role_in = |p: &people::Project| p.members.get(user).copied();
    Ok(projects
        .iter()
        .filter_map(|p| role_in(p).map(|role| Membership { project: p.name.to_string(), role }))
        .collect())
}

async fn shown(app: &App, user: people::User) -> Result<User, Problem> {
    Ok(User {
        projects: memberships(app, &user.name).await?,
        name: user.name.to_string(),
        operator: user.operator,
        disabled: user.disabled,
        created_at: user.created_at,
    })
}

/// A user for whom the caller may act: themselves; anybody, for operators; and for admins those whose every project
/// they administer, since a key opens all of a user's projects. Other users are not there.
pub(super) async fn find_own(app: &App, principal: &Principal, which: &str) -> Result<people::User, Problem> {
    let missing = || Problem::not_found(format_args!("user {}", shortened(which)));
    let name: UserName = which.parse().map_err(|_| missing())?;
    if name == *principal.name() {
        return Ok(principal.user.clone());
    }
    let user = app.parts.store.user(&name).await?.ok_or_else(missing)?;
    if principal.user.operator {
        return Ok(user);
    }
    let theirs = app.parts.store.projects_of(&name).await?;
    let administered = |p: &people::Project| p.members.get(principal.name()) == Some(&Role::Admin);
    let may = !user.operator && !theirs.is_empty() && theirs.iter().all(administered);
    if may { Ok(user) } else { Err(missing()) }
}

/// All users (operators).
#[utoipa::path(
    get, path = "/v1/users", tag = "people", params(PageQuery),
    responses((status = 200, body = List<User>), Refused)
)]
async fn list(
    State(app): State<App>,
    principal: Principal,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<User>>, Problem> {
    principal.operator()?;
    let after = page.cursor::<UserName>()?.map(|name| name.to_string());
    let found = app.parts.store.users(after.as_deref(), page.limit(&app)?).await?;
    let mut items = Vec::with_capacity(found.items.len());
    for user in found.items {
        items.push(shown(&app, user).await?);
    }
    Ok(Json(List { items, next_cursor: found.next }))
}

/// Makes a user: operators, and admins for a project of theirs.
#[utoipa::path(
    post, path = "/v1/users", tag = "people", request_body = UserRequest,
    responses((status = 201, body = User), Refused)
)]
async fn create(
    State(app): State<App>,
    principal: Principal,
    Body(asked): Body<UserRequest>,
) -> Result<Response, Problem> {
    let project = match &asked.project {
        None => None,
        Some(project) => {
            let (caller, project) = projects::find(&app, &principal, project).await?;
            authorize(&caller, &Action::Manage, format_args!("project {}", project.name))?;
            Some(project.name)
        }
    };
    if project.is_none() || asked.operator {
        principal.operator()?;
    }
    if project.is_none() && asked.role.is_some() {
        return Err(Problem::invalid("role", "a role needs a project"));
    }
    let name: UserName = asked.name.parse().map_err(|why| Problem::invalid("name", why))?;
    let (user, new) = app.parts.store.create_user(&name, asked.operator).await?;
    if !new {
        return Err(Problem::new(Code::NameTaken, format_args!("user {name} exists")).with_field("name"));
    }
    if let Some(project) = &project {
        app.parts.store.set_member(project, &name, Some(asked.role.unwrap_or(Role::Member))).await?;
    }
    let detail = if asked.operator { "operator" } else { "" };
    submit::audit(&app, &principal, project.as_ref(), "user.create", &format!("user {name}"), detail).await;
    let location = [(header::LOCATION, format!("/v1/users/{name}"))];
    Ok((StatusCode::CREATED, location, Json(shown(&app, user).await?)).into_response())
}

/// One user.
#[utoipa::path(
    get, path = "/v1/users/{user}", tag = "people",
    params(("user" = String, Path, description = "The name")),
    responses((status = 200, body = User), Refused)
)]
async fn show_one(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Json<User>, Problem> {
    let user = find_own(&app, &principal, &which).await?;
    Ok(Json(shown(&app, user).await?))
}

/// Changes whether a user is an operator, or disabled (operators). Nobody shuts themselves out.
#[utoipa::path(
    patch, path = "/v1/users/{user}", tag = "people", request_body = UserPatch,
    params(("user" = String, Path, description = "The name")),
    responses((status = 200, body = User), Refused)
)]
async fn change(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Body(patch): Body<UserPatch>,
) -> Result<Json<User>, Problem> {
    let user = find_own(&app, &principal, &which).await?;
    principal.operator()?;
    if user.name == *principal.name() && (patch.operator == Some(false) || patch.disabled == Some(true)) {
        let why = "you cannot take your own rights away: another operator can";
        return Err(Problem::new(Code::NotNow, why));
    }
    let changed = app.parts.store.change_user(&user.name, patch.operator, patch.disabled).await?;
    let changed = changed.ok_or_else(|| Problem::not_found(format_args!("user {}", user.name)))?;
    let what = serde_json::to_string(&patch).unwrap_or_default();
    submit::audit(&app, &principal, None, "user.change", &format!("user {}", user.name), &what).await;
    Ok(Json(shown(&app, changed).await?))
}
