//! Who is in a project, and in which role.

use super::docs::Refused;
use super::projects::{find, shown};
use super::views::{Code, MemberRequest, Problem, Project};
use crate::access::{Principal, authorize, shortened};
use crate::app::App;
use crate::extract::{Body, Path};
use crate::submit;
use axum::Json;
use axum::extract::State;
use mothball_domain::name::UserName;
use mothball_domain::people::{Action, Role};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(put, remove))
}

/// Makes a user a member of a project, or changes their role (the project's admins).
#[utoipa::path(
    put, path = "/v1/projects/{project}/members/{user}", tag = "people", request_body = MemberRequest,
    params(("project" = String, Path, description = "The project"), ("user" = String, Path, description = "The user")),
    responses((status = 200, body = Project), Refused)
)]
async fn put(
    State(app): State<App>,
    principal: Principal,
    Path((project, user)): Path<(String, String)>,
    Body(asked): Body<MemberRequest>,
) -> Result<Json<Project>, Problem> {
    set(&app, &principal, &project, &user, Some(asked.role)).await
}

/// Takes a user out of a project (its admins). What they own stays.
#[utoipa::path(
    delete, path = "/v1/projects/{project}/members/{user}", tag = "people",
    params(("project" = String, Path, description = "The project"), ("user" = String, Path, description = "The user")),
    responses((status = 200, body = Project), Refused)
)]
async fn remove(
    State(app): State<App>,
    principal: Principal,
    Path((project, user)): Path<(String, String)>,
) -> Result<Json<Project>, Problem> {
    set(&app, &principal, &project, &user, None).await
}

async fn set(
    app: &App,
    principal: &Principal,
    project: &str,
    user: &str,
    role: Option<Role>,
) -> Result<Json<Project>, Problem> {
    let (caller, project) = find(app, principal, project).await?;
    authorize(&caller, &Action::Manage, format_args!("project {}", project.name))?;
    let missing = || Problem::not_found(format_args!("user {}", shortened(user)));
    let name: UserName = user.parse().map_err(|_| missing())?;
    let was_admin = project.members.get(&name) == Some(&Role::Admin);
    let admins = project.members.values().filter(|role| **role == Role::Admin).count();
    if was_admin && role != Some(Role::Admin) && admins == 1 && !caller.operator {
        let why = format!("{name} is the only admin of project {}", project.name);
        return Err(Problem::new(Code::NotNow, why).with_hint("Make somebody else an admin first."));
    }
    let changed = app.parts.store.set_member(&project.name, &name, role).await?.ok_or_else(missing)?;
    let detail = match role {
        Some(Role::Admin) => "admin",
        Some(Role::Member) => "member",
        None => "removed",
    };
    let subject = format!("user {name}");
    submit::audit(app, principal, Some(&project.name), "project.member", &subject, detail).await;
    Ok(Json(shown(&changed, &caller)))
}
