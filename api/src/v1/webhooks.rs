//! Webhooks of a project: its admins make, change and try them. Their addresses may hold a token of the receiver's, so
//! nobody else sees them.

use super::deliveries::shown as shown_delivery;
use super::docs::Refused;
use super::page::PageQuery;
use super::projects;
use super::views::{Code, Delivery, List, Problem, Webhook, WebhookPatch, WebhookRequest};
use crate::access::{NamedProject, Principal, authorize, shortened};
use crate::app::App;
use crate::extract::{Body, Path, Query};
use crate::submit;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mothball_domain::id::{DeliveryId, WebhookId};
use mothball_domain::notice::webhook::{SigningSecret, WEBHOOKS_MAX, check_url};
use mothball_domain::notice::{Event, UnknownEvent, webhook};
use mothball_domain::people::Action;
use mothball_store::{WebhookChange, WebhookDraft};
use rand::RngExt;
use std::collections::BTreeSet;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show_one, change, remove))
        .routes(routes!(renew))
        .routes(routes!(test))
}

/// A webhook of a project that the caller administers. To others it is not there.
pub(super) async fn find(app: &App, principal: &Principal, which: &str) -> Result<webhook::Webhook, Problem> {
    let missing = || Problem::not_found(format_args!("webhook {}", shortened(which)));
    let id: WebhookId = which.parse().map_err(|_| missing())?;
    let found = app.parts.store.webhook(id).await?.ok_or_else(missing)?;
    let caller = principal.caller_in(app, &found.project).await?;
    authorize(&caller, &Action::Manage, format_args!("webhook {id}"))?;
    Ok(found)
}

fn shown(found: &webhook::Webhook) -> Webhook {
    Webhook {
        id: found.id,
        project: found.project.to_string(),
        user: found.user.to_string(),
        url: found.url.clone(),
        events: found.events.clone(),
        enabled: found.enabled,
        off_because: found.off_because.clone(),
        secret: None,
        created_at: found.created_at,
    }
}

/// With its secret: only for whoever has just made or renewed it.
fn shown_once(found: &webhook::Webhook) -> Webhook {
    Webhook { secret: Some(found.secret.expose().to_owned()), ..shown(found) }
}

/// The events that somebody names.
pub(super) fn events(named: &BTreeSet<String>) -> Result<BTreeSet<Event>, Problem> {
    let chosen: Result<_, UnknownEvent> = named.iter().map(|name| name.parse()).collect();
    chosen.map_err(|why| Problem::invalid("events", why))
}

fn url(app: &App, text: &str) -> Result<String, Problem> {
    check_url(text, &app.parts.settings.reach).map_err(|why| Problem::invalid("url", why))
}

/// Webhooks of the project, oldest first (project admins).
#[utoipa::path(
    get, path = "/v1/webhooks", tag = "notifications",
    params(("project" = Option<String>, Query, description = "The project"), PageQuery),
    responses((status = 200, body = List<Webhook>), Refused)
)]
async fn list(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<Webhook>>, Problem> {
    let (caller, project) = principal.choose_project(&app, named.as_deref()).await?;
    authorize(&caller, &Action::Manage, format_args!("the webhooks of project {}", project.name))?;
    let after = page.cursor::<WebhookId>()?.map(|id| id.to_string());
    let found = app.parts.store.webhooks(&project.name, after.as_deref(), page.limit(&app)?).await?;
    Ok(Json(List { items: found.items.iter().map(shown).collect(), next_cursor: found.next }))
}

/// Makes a webhook (project admins). The answer has the secret that its messages are signed with; it is not shown again.
#[utoipa::path(
    post, path = "/v1/webhooks", tag = "notifications", request_body = WebhookRequest,
    params(("project" = Option<String>, Query, description = "The project, where the body names none")),
    responses(
        (status = 201, body = Webhook, headers(("Location" = String, description = "The webhook"))),
        Refused
    )
)]
async fn create(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Body(asked): Body<WebhookRequest>,
) -> Result<Response, Problem> {
    let (caller, project) = match &asked.project {
        Some(project) => projects::find(&app, &principal, project).await?,
        None => principal.choose_project(&app, named.as_deref()).await?,
    };
    authorize(&caller, &Action::Manage, format_args!("the webhooks of project {}", project.name))?;
    let draft = WebhookDraft {
        id: WebhookId(Uuid::now_v7()),
        project: project.name,
        user: principal.name().clone(),
        url: url(&app, &asked.url)?,
        events: events(&asked.events)?,
        secret: SigningSecret::of(rand::rng().random()),
    };
    let Some(made) = app.parts.store.create_webhook(&draft).await? else {
        let why = format!("project {} has {WEBHOOKS_MAX} webhooks, and may not have more", draft.project);
        return Err(Problem::new(Code::Quota, why).with_hint("Remove one that is no longer needed."));
    };
    audit(&app, &principal, &made, "webhook.create").await;
    let location = [(header::LOCATION, format!("/v1/webhooks/{}", made.id))];
    Ok((StatusCode::CREATED, location, Json(shown_once(&made))).into_response())
}

/// One webhook (project admins).
#[utoipa::path(
    get, path = "/v1/webhooks/{webhook}", tag = "notifications",
    params(("webhook" = String, Path, description = "Its id")),
    responses((status = 200, body = Webhook), Refused)
)]
async fn show_one(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Json<Webhook>, Problem> {
    Ok(Json(shown(&find(&app, &principal, &which).await?)))
}

/// Changes a webhook, or switches it on or off (project admins).
#[utoipa::path(
    patch, path = "/v1/webhooks/{webhook}", tag = "notifications", request_body = WebhookPatch,
    params(("webhook" = String, Path, description = "Its id")),
    responses((status = 200, body = Webhook), Refused)
)]
async fn change(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Body(patch): Body<WebhookPatch>,
) -> Result<Json<Webhook>, Problem> {
    let found = find(&app, &principal, &which).await?;
    let change = WebhookChange {
        url: patch.url.as_deref().map(|text| url(&app, text)).transpose()?,
        events: patch.events.as_ref().map(events).transpose()?,
        enabled: patch.enabled,
        ..WebhookChange::default()
    };
    Ok(Json(shown(&changed(&app, &principal, &found, &change, "webhook.change").await?)))
}

/// Gives a webhook a new secret (project admins); the old one ends at once. The answer has it, and no other will.
#[utoipa::path(
    post, path = "/v1/webhooks/{webhook}/secret", tag = "notifications",
    params(("webhook" = String, Path, description = "Its id")),
    responses((status = 200, body = Webhook), Refused)
)]
async fn renew(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Json<Webhook>, Problem> {
    let found = find(&app, &principal, &which).await?;
    let secret = Some(SigningSecret::of(rand::rng().random()));
    let change = WebhookChange { secret, ..WebhookChange::default() };
    Ok(Json(shown_once(&changed(&app, &principal, &found, &change, "webhook.renew").await?)))
}

/// Removes a webhook (project admins). What was on its way to it does not arrive.
#[utoipa::path(
    delete, path = "/v1/webhooks/{webhook}", tag = "notifications",
    params(("webhook" = String, Path, description = "Its id")),
    responses((status = 204, description = "Removed"), Refused)
)]
async fn remove(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<StatusCode, Problem> {
    let found = find(&app, &principal, &which).await?;
    if !app.parts.store.remove_webhook(found.id).await? {
        return Err(gone(&found));
    }
    audit(&app, &principal, &found, "webhook.remove").await;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a test, `webhook.ping`, also to one that is switched off (project admins). How it ends is seen in its deliveries.
#[utoipa::path(
    post, path = "/v1/webhooks/{webhook}/test", tag = "notifications",
    params(("webhook" = String, Path, description = "Its id")),
    responses((status = 202, body = Delivery), Refused)
)]
async fn test(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<(StatusCode, Json<Delivery>), Problem> {
    let found = find(&app, &principal, &which).await?;
    let sent = app.parts.store.ping_webhook(found.id, DeliveryId(Uuid::now_v7())).await?;
    let sent = sent.ok_or_else(|| gone(&found))?;
    Ok((StatusCode::ACCEPTED, Json(shown_delivery(&sent))))
}

async fn changed(
    app: &App,
    principal: &Principal,
    found: &webhook::Webhook,
    change: &WebhookChange,
    action: &str,
) -> Result<webhook::Webhook, Problem> {
    let changed = app.parts.store.change_webhook(found.id, change).await?.ok_or_else(|| gone(found))?;
    audit(app, principal, &changed, action).await;
    Ok(changed)
}

fn gone(found: &webhook::Webhook) -> Problem {
    Problem::not_found(format_args!("webhook {} any more", found.id))
}

/// Without the address, in which a token may stand.
async fn audit(app: &App, principal: &Principal, found: &webhook::Webhook, action: &str) {
    let subject = format!("webhook {}", found.id);
    let detail = if found.enabled { "" } else { "switched off" };
    submit::audit(app, principal, Some(&found.project), action, &subject, detail).await;
}
