//! What comes: the next runs, and leaving one out or moving it.

use super::{audit, find, find_own, no_such_turn, read, show};
use crate::access::{NamedProject, Principal};
use crate::app::App;
use crate::extract::{Body, MaybeBody, Path, Query};
use crate::v1::docs::Refused;
use crate::v1::views::{List, PostponeRequest, Problem, Schedule, SchedulePreview, SkipRequest, UpcomingRun};
use axum::Json;
use axum::extract::State;
use mothball_domain::schedule;
use mothball_domain::schedule::SCHEDULES_MAX;
use mothball_store::ScheduleQuery;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Runs that are shown when no number is asked for, and at most.
const AHEAD: usize = 10;
const AHEAD_MAX: usize = 100;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(next_of_all))
        .routes(routes!(preview))
        .routes(routes!(next_of_one))
        .routes(routes!(skip))
        .routes(routes!(postpone))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AheadQuery {
    /// How many runs; 10 when absent, 100 at most.
    count: Option<String>,
}

impl AheadQuery {
    fn count(&self) -> Result<usize, Problem> {
        let Some(text) = &self.count else { return Ok(AHEAD) };
        let asked = text.parse().ok().filter(|count| (1..=AHEAD_MAX).contains(count));
        asked
            .ok_or_else(|| Problem::invalid("count", format_args!("count is a number from 1 to {AHEAD_MAX}")))
    }
}

/// The next runs of all schedules of the project, soonest first.
#[utoipa::path(
    get, path = "/v1/schedules/next", tag = "schedules",
    params(("project" = Option<String>, Query, description = "The project"), AheadQuery),
    responses((status = 200, body = List<UpcomingRun>), Refused)
)]
async fn next_of_all(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Query(ahead): Query<AheadQuery>,
) -> Result<Json<List<UpcomingRun>>, Problem> {
    let count = ahead.count()?;
    let (_, project) = principal.choose_project(&app, named.as_deref()).await?;
    let query =
        ScheduleQuery { project: Some(project.name), limit: SCHEDULES_MAX, ..ScheduleQuery::default() };
    let schedules = app.parts.store.schedules(&query).await?.items;
    upcoming(&app, &schedules, count).await.map(Json)
}

/// When a pattern would fire: a schedule need not be made to see it.
#[utoipa::path(
    get, path = "/v1/schedules/preview", tag = "schedules",
    params(
        ("cron" = String, Query, description = "Minute, hour, day of month, month, day of week"),
        ("timezone" = Option<String>, Query, description = "The IANA time zone; UTC when absent"),
        AheadQuery
    ),
    responses((status = 200, body = SchedulePreview), Refused)
)]
async fn preview(
    State(app): State<App>,
    _principal: Principal,
    Query(asked): Query<PreviewQuery>,
    Query(ahead): Query<AheadQuery>,
) -> Result<Json<SchedulePreview>, Problem> {
    let cron = read::cron(asked.cron.as_deref().unwrap_or_default())?;
    let timezone = read::zone(asked.timezone.as_deref().unwrap_or("UTC"))?;
    let (count, mut at) = (ahead.count()?, app.parts.store.now().await?);
    let mut next = Vec::with_capacity(count);
    if let Some(rules) = timezone.rules() {
        while let Some(following) = cron.next_after(at, &rules).filter(|_| next.len() < count) {
            next.push(following);
            at = following;
        }
    }
    let local = next.iter().map(|at| show::local(*at, &timezone)).collect();
    Ok(Json(SchedulePreview { cron: cron.to_string(), timezone: timezone.to_string(), next, local }))
}

#[derive(Debug, Deserialize)]
struct PreviewQuery {
    cron: Option<String>,
    timezone: Option<String>,
}

/// The next runs of a schedule: those that are left out are not among them.
#[utoipa::path(
    get, path = "/v1/schedules/{schedule}/next", tag = "schedules",
    params(("schedule" = String, Path, description = "Its id"), AheadQuery),
    responses((status = 200, body = List<UpcomingRun>), Refused)
)]
async fn next_of_one(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Query(ahead): Query<AheadQuery>,
) -> Result<Json<List<UpcomingRun>>, Problem> {
    let found = find(&app, &principal, &which).await?;
    upcoming(&app, &[found], ahead.count()?).await.map(Json)
}

/// The next runs of schedules, soonest first.
async fn upcoming(
    app: &App,
    schedules: &[schedule::Schedule],
    count: usize,
) -> Result<List<UpcomingRun>, Problem> {
    // Only whose next run is among the soonest can have more of them.
    let mut soonest: Vec<&schedule::Schedule> = schedules.iter().filter(|s| s.next_at().is_some()).collect();
    soonest.sort_by_key(|s| s.next_at());
    soonest.truncate(count);
    let names = show::names(app, schedules).await?;
    let runs_of = |s: &schedule::Schedule| {
        let about = show::about_named(&s.plan, &names);
        let run = |at| UpcomingRun {
            at,
            local: show::local(at, &s.plan.timezone),
            schedule: s.id,
            action: s.plan.action,
            container: show::container(&s.plan),
            about: about.clone(),
        };
        s.upcoming(count).into_iter().map(run).collect::<Vec<_>>()
    };
    let mut items: Vec<UpcomingRun> = soonest.into_iter().flat_map(runs_of).collect();
    items.sort_by_key(|run| run.at);
    items.truncate(count);
    Ok(List { items, next_cursor: None })
}

/// Leaves the next run out; with `"skip": false` no longer.
#[utoipa::path(
    post, path = "/v1/schedules/{schedule}/skip", tag = "schedules", request_body = Option<SkipRequest>,
    params(("schedule" = String, Path, description = "Its id")),
    responses((status = 200, body = Schedule), Refused)
)]
async fn skip(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    MaybeBody(asked): MaybeBody<SkipRequest>,
) -> Result<Json<Schedule>, Problem> {
    let found = find_own(&app, &principal, &which).await?;
    let skipped = app.parts.store.skip_run(found.id, asked.skip).await?.map_err(no_such_turn)?;
    changed(&app, &principal, &found, skipped, "schedule.skip").await
}

/// Moves the next run, once, to a later time; with `"until": null` back to when it is planned.
#[utoipa::path(
    post, path = "/v1/schedules/{schedule}/postpone", tag = "schedules", request_body = PostponeRequest,
    params(("schedule" = String, Path, description = "Its id")),
    responses((status = 200, body = Schedule), Refused)
)]
async fn postpone(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Body(asked): Body<PostponeRequest>,
) -> Result<Json<Schedule>, Problem> {
    let found = find_own(&app, &principal, &which).await?;
    let moved = app.parts.store.postpone_run(found.id, asked.until).await?.map_err(no_such_turn)?;
    changed(&app, &principal, &found, moved, "schedule.postpone").await
}

async fn changed(
    app: &App,
    principal: &Principal,
    before: &schedule::Schedule,
    changed: Option<schedule::Schedule>,
    action: &str,
) -> Result<Json<Schedule>, Problem> {
    let changed =
        changed.ok_or_else(|| Problem::not_found(format_args!("schedule {} any more", before.id)))?;
    audit(app, principal, &changed, action).await;
    Ok(Json(show::schedule(app, &changed).await?))
}
