//! Which images a project lets go.

use super::docs::Refused;
use super::page::{PageQuery, paged};
use super::projects::find;
use super::views::{List, Problem, RetentionForecast, RetentionPolicy};
use crate::access::{Principal, authorize};
use crate::app::App;
use crate::extract::{Body, Path, Query};
use crate::submit;
use axum::Json;
use axum::extract::State;
use mothball_domain::image::ImageRef;
use mothball_domain::name::ProjectName;
use mothball_domain::people::Action;
use mothball_domain::retention::{self, Verdict};
use mothball_store::{Forecast, Retaining};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show, set, clear)).routes(routes!(preview))
}

/// Which images of a project stay, and so which are removed without anybody asking.
#[utoipa::path(
    get, path = "/v1/policies/{project}/retention", tag = "policies",
    params(("project" = String, Path, description = "The project")),
    responses((status = 200, body = RetentionPolicy), Refused)
)]
async fn show(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Json<RetentionPolicy>, Problem> {
    let (_, project) = find(&app, &principal, &which).await?;
    Ok(Json(app.parts.store.retention_policy(&project.name).await?.into()))
}

/// Sets that, as a whole (project admins). An empty object switches it off.
#[utoipa::path(
    put, path = "/v1/policies/{project}/retention", tag = "policies", request_body = RetentionPolicy,
    params(("project" = String, Path, description = "The project")),
    responses((status = 200, body = RetentionPolicy), Refused)
)]
async fn set(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Body(asked): Body<RetentionPolicy>,
) -> Result<Json<RetentionPolicy>, Problem> {
    let policy = retention::RetentionPolicy::from(asked);
    checked(&app, policy)?;
    change(&app, &principal, &which, policy).await
}

/// Switches it off (project admins): notices that stand are withdrawn.
#[utoipa::path(
    delete, path = "/v1/policies/{project}/retention", tag = "policies",
    params(("project" = String, Path, description = "The project")),
    responses((status = 200, body = RetentionPolicy), Refused)
)]
async fn clear(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Json<RetentionPolicy>, Problem> {
    change(&app, &principal, &which, retention::RetentionPolicy::default()).await
}

fn checked(app: &App, policy: retention::RetentionPolicy) -> Result<(), Problem> {
    policy.check(&app.parts.settings.retention_bounds).map_err(|why| {
        let field = why.split(' ').next().unwrap_or_default().to_owned();
        Problem::invalid(&field, why)
    })
}

async fn change(
    app: &App,
    principal: &Principal,
    which: &str,
    policy: retention::RetentionPolicy,
) -> Result<Json<RetentionPolicy>, Problem> {
    let (caller, project) = find(app, principal, which).await?;
    let what = format!("the retention policy of project {}", project.name);
    authorize(&caller, &Action::Manage, &what)?;
    app.parts.store.set_retention_policy(&project.name, &policy).await?;
    let detail = serde_json::to_string(&policy).unwrap_or_default();
    submit::audit(app, principal, Some(&project.name), "retention.set", &what, &detail).await;
    Ok(Json(policy.into()))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PreviewQuery {
    /// As if the policy said so: so many images of each name stay.
    keep_last: Option<String>,
    /// As if the policy said so: what was used within so many days stays.
    unused_days: Option<String>,
}

impl PreviewQuery {
    /// The policy that is asked about: the one that is named, or the project's own.
    async fn policy(&self, app: &App, project: &ProjectName) -> Result<retention::RetentionPolicy, Problem> {
        if self.keep_last.is_none() && self.unused_days.is_none() {
            return Ok(app.parts.store.retention_policy(project).await?);
        }
        let policy = retention::RetentionPolicy {
            keep_last: number("keep_last", self.keep_last.as_deref())?,
            unused_days: number("unused_days", self.unused_days.as_deref())?,
        };
        checked(app, policy)?;
        Ok(policy)
    }
}

fn number(field: &str, text: Option<&str>) -> Result<Option<u32>, Problem> {
    let parsed = text.map(str::parse).transpose();
    parsed.map_err(|_| Problem::invalid(field, format_args!("{field} is a number")))
}

/// What the policy, or the one that is named, would do about each image now: which go, when and why, and why the others
/// stay. Changes nothing.
#[utoipa::path(
    get, path = "/v1/policies/{project}/retention/preview", tag = "policies",
    params(("project" = String, Path, description = "The project"), PreviewQuery, PageQuery),
    responses((status = 200, body = List<RetentionForecast>), Refused)
)]
async fn preview(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Query(asked): Query<PreviewQuery>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<RetentionForecast>>, Problem> {
    let (_, project) = find(&app, &principal, &which).await?;
    let settings = &app.parts.settings;
    let retaining =
        Retaining { notice: settings.notice, undo: settings.undo, max_attempts: settings.max_attempts };
    let policy = asked.policy(&app, &project.name).await?;
    let all = app.parts.store.would_retain(&project.name, &policy, &retaining).await?;
    let after = page.cursor::<ImageRef>()?.map(|image| image.to_string());
    let items = all.into_iter().map(forecast);
    Ok(Json(paged(items, |f| f.image.clone(), after.as_deref(), page.limit(&app)?)))
}

fn forecast(forecast: Forecast) -> RetentionForecast {
    let Forecast { image, verdict, frees_bytes } = forecast;
    let noticed = matches!(verdict, Verdict::Wait(_) | Verdict::Remove(_));
    let (because, reason, notice) = match verdict {
        Verdict::Stay(why) | Verdict::Withdraw(why) => (why.as_str(), why.to_string(), None),
        Verdict::Busy => ("busy", "a job is at work on it".to_owned(), None),
        Verdict::Notice(notice) | Verdict::Wait(notice) | Verdict::Remove(notice) => {
            (notice.reason.as_str(), notice.reason.to_string(), Some(notice))
        }
    };
    RetentionForecast {
        image: image.image.to_string(),
        digest: image.digest.to_string(),
        created_by: image.created_by.to_string(),
        goes: notice.is_some(),
        because: because.to_owned(),
        reason,
        removal: notice.map(Into::into),
        noticed,
        size_bytes: image.size_bytes,
        frees_bytes,
        last_used_at: image.last_used_at,
        updated_at: image.updated_at,
    }
}
