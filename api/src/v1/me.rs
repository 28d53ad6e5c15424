//! `GET /v1/me`: who calls.

use super::docs::Refused;
use super::users::memberships;
use super::views::{Me, Problem};
use crate::access::Principal;
use crate::app::App;
use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(me))
}

/// Who calls, their projects, and where calls go that name none.
#[utoipa::path(get, path = "/v1/me", tag = "people", responses((status = 200, body = Me), Refused))]
async fn me(State(app): State<App>, principal: Principal) -> Result<Json<Me>, Problem> {
    let default_project =
        principal.choose_project(&app, None).await.ok().map(|(_, project)| project.name.to_string());
    Ok(Json(Me {
        user: principal.name().to_string(),
        operator: principal.user.operator,
        projects: memberships(&app, principal.name()).await?,
        default_project,
        currency: app.parts.settings.currency.clone(),
        version: app.parts.version.clone(),
        support_contact: app.parts.settings.support_contact.clone(),
    }))
}
