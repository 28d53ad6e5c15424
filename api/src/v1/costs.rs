//! What containers have cost, and what parking them has saved: as JSON, or as CSV with FOCUS columns.

mod asked;
mod focus;

use super::docs::Refused;
use super::views::{Code, CostReport, CostRow, Problem};
use crate::access::{NamedProject, Principal, administers};
use crate::app::App;
use crate::extract::Query;
use asked::{Asked, CostQuery, Format};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use mothball_domain::billing::{Key, Sheet, Usage, report};
use mothball_domain::id::ContainerId;
use mothball_domain::name::{ContainerName, ProjectName, UserName};
use mothball_store::LedgerQuery;
use std::collections::BTreeMap;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(costs))
}

/// What containers have cost, deleted ones included: one's own for members, the project's for its admins, everything for
/// operators who name no project. With `format=csv`, or `Accept: text/csv`, every charge of every day, in FOCUS columns.
#[utoipa::path(
    get, path = "/v1/costs", tag = "costs",
    params(("project" = Option<String>, Query, description = "The project"), CostQuery),
    responses(
        (status = 200, description = "The report",
            content((CostReport = "application/json"), (String = "text/csv"))),
        Refused
    )
)]
async fn costs(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    headers: HeaderMap,
    Query(query): Query<CostQuery>,
) -> Result<Response, Problem> {
    let now = app.parts.store.now().await?;
    let asked = Asked::read(&query, &headers, now)?;
    let (project, user) = scope(&app, &principal, named.as_deref(), asked.user.clone()).await?;
    let since = asked.span.from;
    let ledger = app.parts.store.ledger(&LedgerQuery { project, user, since }).await?;
    let rows = report(&ledger.sheets, asked.span, ledger.now, &asked.cut);
    let known = names(&ledger.sheets);
    if asked.format == Format::Csv {
        let text = focus::csv(&rows, &known, &asked, &app.parts.settings.currency)?;
        return Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response());
    }
    Ok(Json(page(&rows, &known, &asked, &app.parts.settings.currency)?).into_response())
}

/// Whose costs the caller gets to see: project and user, where these are fixed.
async fn scope(
    app: &App,
    principal: &Principal,
    named: Option<&str>,
    user: Option<UserName>,
) -> Result<(Option<ProjectName>, Option<UserName>), Problem> {
    if named.is_none() && principal.user.operator {
        return Ok((None, user));
    }
    let (caller, project) = principal.choose_project(app, named).await?;
    if administers(&caller) {
        return Ok((Some(project.name), user));
    }
    if user.is_some_and(|user| user != caller.user) {
        let why = "only the project's admins and operators see what others cost";
        return Err(Problem::new(Code::Forbidden, why));
    }
    Ok((Some(project.name), Some(caller.user)))
}

type Names<'a> = BTreeMap<ContainerId, &'a ContainerName>;

fn names(sheets: &[Sheet]) -> Names<'_> {
    sheets.iter().map(|sheet| (sheet.container, &sheet.name)).collect()
}

fn page(
    rows: &BTreeMap<Key, Usage>,
    names: &Names<'_>,
    asked: &Asked,
    currency: &str,
) -> Result<CostReport, Problem> {
    let total = row(&Key::default(), &rows.values().copied().sum(), names, currency);
    let mut rest = rows.iter().peekable();
    if let Some(cursor) = &asked.cursor {
        // Rows are added while time goes on, and none is ever taken away.
        let is_it = rest.by_ref().any(|(key, _)| text_of(key) == *cursor);
        if !is_it {
            return Err(Problem::invalid("cursor", "cursor is the next_cursor of a page of this report"));
        }
    }
    let mut items = Vec::new();
    let mut last = None;
    for (key, usage) in rest.by_ref().take(asked.limit) {
        items.push(row(key, usage, names, currency));
        last = Some(key);
    }
    let more = rest.peek().is_some();
    Ok(CostReport {
        items,
        next_cursor: last.filter(|_| more).map(text_of),
        total,
        from: asked.span.from,
        to: asked.span.to,
        timezone: asked.zone_name.clone(),
    })
}

/// A row's key as a cursor; no name holds a comma.
fn text_of(key: &Key) -> String {
    let part = |text: Option<String>| text.unwrap_or_default();
    [
        part(key.project.as_ref().map(ToString::to_string)),
        part(key.user.as_ref().map(ToString::to_string)),
        part(key.container.map(|id| id.to_string())),
        part(key.flavor.as_ref().map(ToString::to_string)),
        part(key.day.map(|day| day.to_string())),
    ]
    .join(",")
}

fn row(key: &Key, usage: &Usage, names: &Names<'_>, currency: &str) -> CostRow {
    CostRow {
        container: key.container,
        container_name: key.container.and_then(|id| names.get(&id)).map(ToString::to_string),
        user: key.user.as_ref().map(ToString::to_string),
        project: key.project.as_ref().map(ToString::to_string),
        flavor: key.flavor.as_ref().map(ToString::to_string),
        day: key.day.map(|day| day.to_string()),
        seconds: usage.seconds().to_string(),
        parked_seconds: usage.parked_seconds().to_string(),
        cost: usage.cost().to_string(),
        avoided: usage.avoided().to_string(),
        storage_cost: usage.storage_cost().to_string(),
        currency: currency.to_owned(),
    }
}

/// The month that a moment lies in, in a zone: its first moment, and that of the next month.
fn month_of(at: Timestamp, zone: &jiff::tz::TimeZone) -> Option<(Timestamp, Timestamp)> {
    let first = at.to_zoned(zone.clone()).date().first_of_month();
    let next = first.last_of_month().tomorrow().ok()?;
    let begins = |date: jiff::civil::Date| date.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp());
    Some((begins(first)?, begins(next)?))
}
