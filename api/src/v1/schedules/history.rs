//! What has been: a schedule's runs and their jobs.

use super::{find, show};
use crate::access::Principal;
use crate::app::App;
use crate::extract::{Path, Query};
use crate::v1::docs::Refused;
use crate::v1::page::PageQuery;
use crate::v1::views::{List, Problem, ScheduleRun};
use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(runs))
}

/// The last runs of a schedule, newest first: at most 200 are kept.
#[utoipa::path(
    get, path = "/v1/schedules/{schedule}/runs", tag = "schedules",
    params(("schedule" = String, Path, description = "Its id"), PageQuery),
    responses((status = 200, body = List<ScheduleRun>), Refused)
)]
async fn runs(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<ScheduleRun>>, Problem> {
    let found = find(&app, &principal, &which).await?;
    // A cursor is a planned time in milliseconds.
    let cursor = page.cursor::<u64>()?.map(|ms| format!("{ms:015}"));
    let page = app.parts.store.schedule_runs(found.id, cursor.as_deref(), page.limit(&app)?).await?;
    let mut items = Vec::with_capacity(page.items.len());
    for run in page.items {
        items.push(show::run(&app, run).await?);
    }
    Ok(Json(List { items, next_cursor: page.next }))
}
