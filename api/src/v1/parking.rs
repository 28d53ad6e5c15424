//! What projects let Mothball do by itself: warn of containers and park them.

use super::docs::Refused;
use super::page::PageQuery;
use super::projects::find;
use super::views::{List, ParkingForecast, ParkingPolicy, Problem};
use crate::access::{Principal, authorize};
use crate::app::App;
use crate::extract::{Body, Path, Query};
use crate::submit;
use axum::Json;
use axum::extract::State;
use mothball_domain::id::ContainerId;
use mothball_domain::people::Action;
use mothball_domain::policy::{ParkPolicy, Verdict};
use mothball_store::{ContainerQuery, Policing};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show, set)).routes(routes!(preview))
}

/// When a project's containers are parked without anybody asking.
#[utoipa::path(
    get, path = "/v1/policies/{project}/parking", tag = "policies",
    params(("project" = String, Path, description = "The project")),
    responses((status = 200, body = ParkingPolicy), Refused)
)]
async fn show(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Json<ParkingPolicy>, Problem> {
    let (_, project) = find(&app, &principal, &which).await?;
    Ok(Json(app.parts.store.park_policy(&project.name).await?.into()))
}

/// Sets that, as a whole (project admins). An empty object switches everything off.
#[utoipa::path(
    put, path = "/v1/policies/{project}/parking", tag = "policies", request_body = ParkingPolicy,
    params(("project" = String, Path, description = "The project")),
    responses((status = 200, body = ParkingPolicy), Refused)
)]
async fn set(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Body(asked): Body<ParkingPolicy>,
) -> Result<Json<ParkingPolicy>, Problem> {
    let (caller, project) = find(&app, &principal, &which).await?;
    let what = format!("the policy of project {}", project.name);
    authorize(&caller, &Action::Manage, &what)?;
    let policy = ParkPolicy::try_from(asked)
        .and_then(|policy| policy.check(&app.parts.settings.policy_bounds).map(|()| policy))
        .map_err(|why| {
            let field = why.split(' ').next().unwrap_or_default().to_owned();
            Problem::invalid(&field, why)
        })?;
    app.parts.store.set_park_policy(&project.name, &policy).await?;
    let detail = serde_json::to_string(&policy).unwrap_or_default();
    submit::audit(&app, &principal, Some(&project.name), "policy.set", &what, &detail).await;
    Ok(Json(policy.into()))
}

/// Which containers the policy would warn of now, and what parking them would save. Changes nothing.
#[utoipa::path(
    get, path = "/v1/policies/{project}/parking/preview", tag = "policies",
    params(("project" = String, Path, description = "The project"), PageQuery),
    responses((status = 200, body = List<ParkingForecast>), Refused)
)]
async fn preview(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<ParkingForecast>>, Problem> {
    let (_, project) = find(&app, &principal, &which).await?;
    let store = &app.parts.store;
    let policing = Policing {
        spent: store.spent_this_month(&project.name).await?.amount,
        seen_within: app.parts.settings.seen_within,
        ..Policing::default()
    };
    let query = ContainerQuery {
        project: Some(project.name),
        cursor: page.cursor()?,
        limit: page.limit(&app)?,
        ..ContainerQuery::default()
    };
    let found = store.containers(&query).await?;
    let ids: Vec<ContainerId> = found.items.iter().map(|c| c.id).collect();
    let standing = store.warnings(&ids).await?;
    let mut items = Vec::new();
    for container in &found.items {
        let Verdict::Warn(would) = store.would_police(container, &policing).await? else { continue };
        let warned = standing.get(&container.id).filter(|w| w.reason == would.reason).copied();
        let warning = warned.unwrap_or(would);
        items.push(ParkingForecast {
            container: container.id,
            name: container.name.to_string(),
            user: container.user.to_string(),
            reason: warning.reason.to_string(),
            protected: container.protected,
            park_at: warning.park_at,
            per_hour: container.cost_per_hour_now().to_string(),
            currency: app.parts.settings.currency.clone(),
        });
    }
    Ok(Json(List { items, next_cursor: found.next }))
}
