//! Schedules: making, seeing, changing and removing them. `ahead` says what comes, `history` what has been.

mod ahead;
mod history;
mod read;
mod show;

use super::containers::flag;
use super::docs::Refused;
use super::page::{PageQuery, chosen};
use super::views::{Code, List, Problem, Schedule, SchedulePatch, ScheduleRequest};
use crate::access::{NamedProject, Principal, authorize, shortened};
use crate::app::App;
use crate::extract::{Body, Path, Query};
use crate::submit::{self, Repeatable};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mothball_domain::id::ScheduleId;
use mothball_domain::people::Action;
use mothball_domain::schedule;
use mothball_domain::schedule::turn::NoSuchTurn;
use mothball_store::{ScheduleChange, ScheduleDraft, ScheduleMade, ScheduleQuery};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .merge(ahead::routes())
        .routes(routes!(show_one, change, remove))
        .merge(history::routes())
}

/// A schedule that the caller may see: one of a project that they are in. Others are not there.
pub(super) async fn find(
    app: &App,
    principal: &Principal,
    which: &str,
) -> Result<schedule::Schedule, Problem> {
    let missing = || Problem::not_found(format_args!("schedule {}", shortened(which)));
    let id: ScheduleId = which.parse().map_err(|_| missing())?;
    let found = app.parts.store.schedule(id).await?.ok_or_else(missing)?;
    let caller = principal.caller_in(app, &found.project).await?;
    if !caller.may(&Action::See) {
        return Err(missing());
    }
    Ok(found)
}

/// The same, for its maker, the project's admins and operators alone.
async fn find_own(app: &App, principal: &Principal, which: &str) -> Result<schedule::Schedule, Problem> {
    let found = find(app, principal, which).await?;
    let caller = principal.caller_in(app, &found.project).await?;
    authorize(&caller, &Action::ChangeOwnedBy(&found.user), format_args!("schedule {}", found.id))?;
    Ok(found)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SchedulesQuery {
    /// The whole platform (operators).
    #[serde(default)]
    all: Option<String>,
    /// Only this maker's.
    user: Option<String>,
    /// Only those that name the container of this number.
    container: Option<String>,
    /// Only those that do this.
    action: Option<String>,
}

/// Schedules of the project, oldest first.
#[utoipa::path(
    get, path = "/v1/schedules", tag = "schedules",
    params(("project" = Option<String>, Query, description = "The project"), SchedulesQuery, PageQuery),
    responses((status = 200, body = List<Schedule>), Refused)
)]
async fn list(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Query(filter): Query<SchedulesQuery>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<Schedule>>, Problem> {
    let everywhere = flag("all", filter.all.as_deref())? && principal.user.operator && named.is_none();
    let project =
        if everywhere { None } else { Some(principal.choose_project(&app, named.as_deref()).await?.1.name) };
    let query = ScheduleQuery {
        project,
        user: chosen("user", filter.user.as_deref())?,
        container: chosen("container", filter.container.as_deref())?,
        action: chosen("action", filter.action.as_deref())?,
        cursor: page.cursor()?,
        limit: page.limit(&app)?,
    };
    let found = app.parts.store.schedules(&query).await?;
    Ok(Json(List { items: show::schedules(&app, &found.items).await?, next_cursor: found.next }))
}

/// Makes a schedule. Its jobs are its maker's, whose rights count each time it fires.
#[utoipa::path(
    post, path = "/v1/schedules", tag = "schedules", request_body = ScheduleRequest,
    params(
        ("project" = Option<String>, Query, description = "The project, where the body names none"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body within 24 h is the same schedule")
    ),
    responses(
        (status = 201, body = Schedule, headers(("Location" = String, description = "The schedule"))),
        Refused
    )
)]
async fn create(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    repeatable: Repeatable,
    Body(asked): Body<ScheduleRequest>,
) -> Result<Response, Problem> {
    let idempotency = repeatable.with(&asked);
    let enabled = asked.enabled;
    let (project, plan) = read::plan(&app, &principal, named.as_deref(), asked).await?;
    let id = ScheduleId(Uuid::now_v7());
    let draft = ScheduleDraft { id, project, user: principal.name().clone(), plan, enabled, idempotency };
    let made = match app.parts.store.create_schedule(&draft).await? {
        ScheduleMade::Made(made) => made,
        ScheduleMade::IdempotencyConflict(other) => {
            let why = format!("this Idempotency-Key belongs to another request, which made schedule {other}");
            return Err(Problem::new(Code::IdempotencyConflict, why));
        }
        ScheduleMade::TooMany(count) => {
            let why = format!("project {} has {count} schedules, and may not have more", draft.project);
            return Err(Problem::new(Code::Quota, why).with_hint(
                "Remove schedules that are no longer needed, or let one choose its containers by labels.",
            ));
        }
    };
    if made.id == id {
        audit(&app, &principal, &made, "schedule.create").await;
    }
    let location = [(header::LOCATION, format!("/v1/schedules/{}", made.id))];
    Ok((StatusCode::CREATED, location, Json(show::schedule(&app, &made).await?)).into_response())
}

/// One schedule.
#[utoipa::path(
    get, path = "/v1/schedules/{schedule}", tag = "schedules",
    params(("schedule" = String, Path, description = "Its id")),
    responses((status = 200, body = Schedule), Refused)
)]
async fn show_one(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Json<Schedule>, Problem> {
    let found = find(&app, &principal, &which).await?;
    Ok(Json(show::schedule(&app, &found).await?))
}

/// Changes a schedule; its next run moves at once. Switching it off pauses it.
#[utoipa::path(
    patch, path = "/v1/schedules/{schedule}", tag = "schedules", request_body = SchedulePatch,
    params(("schedule" = String, Path, description = "Its id")),
    responses((status = 200, body = Schedule), Refused)
)]
async fn change(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Body(patch): Body<SchedulePatch>,
) -> Result<Json<Schedule>, Problem> {
    let found = find_own(&app, &principal, &which).await?;
    let (enabled, skip) = (patch.enabled, patch.skip_next);
    let plan = read::change(&app, &principal, &found, patch).await?;
    let gone = || Problem::not_found(format_args!("schedule {} any more", found.id));
    let change = ScheduleChange { plan, enabled };
    let mut changed = app.parts.store.change_schedule(found.id, &change).await?.ok_or_else(gone)?;
    if let Some(skip) = skip {
        changed = app.parts.store.skip_run(found.id, skip).await?.map_err(no_such_turn)?.ok_or_else(gone)?;
    }
    audit(&app, &principal, &changed, "schedule.change").await;
    Ok(Json(show::schedule(&app, &changed).await?))
}

/// Removes a schedule, with the history of its runs; their jobs stay.
#[utoipa::path(
    delete, path = "/v1/schedules/{schedule}", tag = "schedules",
    params(("schedule" = String, Path, description = "Its id")),
    responses((status = 204, description = "Removed"), Refused)
)]
async fn remove(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<StatusCode, Problem> {
    let found = find_own(&app, &principal, &which).await?;
    if !app.parts.store.remove_schedule(found.id).await? {
        return Err(Problem::not_found(format_args!("schedule {} any more", found.id)));
    }
    audit(&app, &principal, &found, "schedule.remove").await;
    Ok(StatusCode::NO_CONTENT)
}

fn no_such_turn(why: NoSuchTurn) -> Problem {
    match why {
        NoSuchTurn::Off => Problem::new(Code::NotNow, why).with_hint("Switch it on first."),
        NoSuchTurn::NotLater(_) | NoSuchTurn::NotBefore(_) => Problem::invalid("until", why),
    }
}

/// Writes what was done to a schedule into the audit trail, with what it does now.
async fn audit(app: &App, principal: &Principal, schedule: &schedule::Schedule, action: &str) {
    let plan = &schedule.plan;
    let detail =
        format!("{} at {:?} in {} of {}", plan.action, plan.cron.as_str(), plan.timezone, show::about(plan));
    let subject = format!("schedule {}", schedule.id);
    submit::audit(app, principal, Some(&schedule.project), action, &subject, &detail).await;
}
