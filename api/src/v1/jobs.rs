//! Jobs: seeing, stopping, trying again.

use super::containers::flag;
use super::docs::Refused;
use super::page::{PageQuery, chosen};
use super::show;
use super::views::{Code, Job, List, Problem};
use crate::access::{NamedProject, Principal, administers, authorize, shortened};
use crate::app::App;
use crate::extract::{Path, Query};
use crate::submit;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use mothball_domain::id::JobId;
use mothball_domain::job;
use mothball_domain::people::Action;
use mothball_domain::state::JobState;
use mothball_store::{Cancelled, JobQuery, Retried};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show_one))
        .routes(routes!(cancel))
        .routes(routes!(retry))
}

/// A job that the caller may see: their own, or one of a project that they administer. Other jobs are not there.
pub(super) async fn find(app: &App, principal: &Principal, which: &str) -> Result<job::Job, Problem> {
    let missing = || Problem::not_found(format_args!("job {}", shortened(which)));
    let id: JobId = which.parse().map_err(|_| missing())?;
    let job = app.parts.store.job(id).await?.ok_or_else(missing)?;
    let caller = principal.caller_in(app, &job.project).await?;
    if !caller.may(&Action::ChangeOwnedBy(&job.user)) {
        return Err(missing());
    }
    Ok(job)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct JobsQuery {
    /// Everybody's: of the project for its admins, of the whole platform for operators.
    #[serde(default)]
    all: Option<String>,
    /// Only in this state.
    state: Option<String>,
    /// Only of this kind.
    kind: Option<String>,
    /// Only about the container of this number.
    container: Option<String>,
    /// Only of this user, with `all`.
    user: Option<String>,
}

/// The caller's own jobs, newest first. A page may hold fewer than asked and still have a next one.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs",
    params(("project" = Option<String>, Query, description = "Only of this project"), JobsQuery, PageQuery),
    responses((status = 200, body = List<Job>), Refused)
)]
async fn list(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Query(filter): Query<JobsQuery>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<Job>>, Problem> {
    let mut query = JobQuery {
        state: chosen("state", filter.state.as_deref())?,
        kind: chosen("kind", filter.kind.as_deref())?,
        container: chosen("container", filter.container.as_deref())?,
        cursor: page.cursor()?,
        limit: page.limit(&app)?,
        ..JobQuery::default()
    };
    let everybodys = flag("all", filter.all.as_deref())?;
    if everybodys {
        query.user = chosen("user", filter.user.as_deref())?;
    } else {
        query.user = Some(principal.name().clone());
    }
    if named.is_some() || (everybodys && !principal.user.operator) {
        let (caller, project) = principal.choose_project(&app, named.as_deref()).await?;
        if everybodys && !administers(&caller) {
            let why = format!("everybody's jobs of project {} are for its admins", project.name);
            return Err(Problem::new(Code::Forbidden, why).with_hint("Leave `all` out to see your own."));
        }
        query.project = Some(project.name);
    }
    let found = app.parts.store.jobs(&query).await?;
    Ok(Json(List { items: show::jobs(&app, &found.items).await?, next_cursor: found.next }))
}

/// One job.
#[utoipa::path(
    get, path = "/v1/jobs/{job}", tag = "jobs",
    params(("job" = String, Path, description = "The job's id")),
    responses((status = 200, body = Job), Refused)
)]
async fn show_one(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Json<Job>, Problem> {
    let job = find(&app, &principal, &which).await?;
    Ok(Json(show::job(&app, &job).await?))
}

/// Stops a job: at once when no worker has it (200), else its worker is told to stop and clean up (202).
#[utoipa::path(
    post, path = "/v1/jobs/{job}/cancel", tag = "jobs",
    params(("job" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "It is cancelled", body = Job),
        (status = 202, description = "Its worker is told", body = Job),
        Refused
    )
)]
async fn cancel(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Response, Problem> {
    let job = find(&app, &principal, &which).await?;
    let (status, job) = match app.parts.store.cancel(job.id).await? {
        Cancelled::Done(job) => (StatusCode::OK, job),
        Cancelled::Requested(job) => (StatusCode::ACCEPTED, job),
        // Asked twice, done once.
        Cancelled::Over(job) if job.state == JobState::Cancelled => {
            return submit::accepted(&app, StatusCode::OK, &job).await;
        }
        Cancelled::Over(job) => {
            let why = format!("job {} has {} already", job.id, job.state);
            return Err(Problem::new(Code::NotNow, why).with_job(job.id));
        }
        Cancelled::NoJob => return Err(Problem::not_found(format_args!("job {}", job.id))),
    };
    submit::audit(&app, &principal, Some(&job.project), "job.cancel", &format!("job {}", job.id), "").await;
    submit::accepted(&app, status, &job).await
}

/// Has a failed or cancelled job tried again, with all its attempts.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/retry", tag = "jobs",
    params(("job" = String, Path, description = "The job's id")),
    responses((status = 202, body = Job), Refused)
)]
async fn retry(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Response, Problem> {
    let job = find(&app, &principal, &which).await?;
    // Seeing it is being allowed to change it; said once more here so that the rule stands beside the deed.
    let caller = principal.caller_in(&app, &job.project).await?;
    authorize(&caller, &Action::ChangeOwnedBy(&job.user), format_args!("job {}", job.id))?;
    match app.parts.store.retry(job.id, app.parts.settings.alive_within).await? {
        Retried::Queued(job) => {
            let subject = format!("job {}", job.id);
            let noted = submit::audit(&app, &principal, Some(&job.project), "job.retry", &subject, "");
            tokio::join!(Box::pin(submit::publish(&app, &job)), Box::pin(noted));
            submit::accepted(&app, StatusCode::ACCEPTED, &job).await
        }
        Retried::NotFailed(job) => {
            let why =
                format!("job {} is {}: only failed and cancelled jobs can be retried", job.id, job.state);
            Err(Problem::new(Code::NotNow, why).with_job(job.id))
        }
        Retried::Busy(other) => Err(submit::in_the_way(&other)),
        Retried::Impossible(why) => Err(Problem::new(Code::NotNow, why)),
        Retried::NoJob => Err(Problem::not_found(format_args!("job {}", job.id))),
    }
}
