//! The audit trail.

use super::docs::Refused;
use super::page::PageQuery;
use super::show;
use super::views::{AuditEntry, List, Problem};
use crate::access::{NamedProject, Principal, authorize};
use crate::app::App;
use crate::extract::Query;
use axum::Json;
use axum::extract::State;
use mothball_domain::people::Action;
use mothball_store::AuditQuery;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Who did what, newest first: of a project for its admins, of the whole platform for operators who name none.
#[utoipa::path(
    get, path = "/v1/audit", tag = "people",
    params(("project" = Option<String>, Query, description = "Only of this project"), PageQuery),
    responses((status = 200, body = List<AuditEntry>), Refused)
)]
async fn list(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<AuditEntry>>, Problem> {
    let project = if named.is_none() && principal.user.operator {
        None
    } else {
        let (caller, project) = principal.choose_project(&app, named.as_deref()).await?;
        authorize(&caller, &Action::Manage, format_args!("project {}", project.name))?;
        Some(project.name)
    };
    let cursor = page.cursor::<Uuid>()?.map(|id| id.to_string());
    let query = AuditQuery { project, cursor, limit: page.limit(&app)? };
    let found = app.parts.store.audit_trail(&query).await?;
    Ok(Json(List { items: found.items.into_iter().map(show::entry).collect(), next_cursor: found.next }))
}
