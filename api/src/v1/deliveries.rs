//! What is on its way to receivers and what has arrived, and sending it once more.

use super::docs::Refused;
use super::page::PageQuery;
use super::users::find_own;
use super::views::{Delivery, DeliveryTry, List, Problem};
use super::webhooks;
use crate::access::{Principal, shortened};
use crate::app::App;
use crate::extract::{Path, Query};
use crate::submit;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mothball_domain::id::DeliveryId;
use mothball_domain::notice::delivery;
use mothball_domain::notice::delivery::Receiver;
use mothball_store::Page;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(to_webhook)).routes(routes!(replay)).routes(routes!(to_user))
}

pub(super) fn shown(found: &delivery::Delivery) -> Delivery {
    let tries = found.log.iter().map(|t| DeliveryTry { at: t.at, result: t.result.clone() });
    Delivery {
        id: found.id,
        notice: found.notice.id,
        event: found.notice.news.event(),
        happened_at: found.notice.at,
        project: found.notice.project.to_string(),
        to: match &found.to {
            Receiver::Webhook { id } => id.to_string(),
            Receiver::Email { address, .. } => address.to_string(),
        },
        state: found.state,
        next_at: found.next_at,
        tries: tries.collect(),
    }
}

fn listed(found: &Page<delivery::Delivery>) -> Json<List<Delivery>> {
    Json(List { items: found.items.iter().map(shown).collect(), next_cursor: found.next.clone() })
}

/// What went to a webhook, newest first (project admins).
#[utoipa::path(
    get, path = "/v1/webhooks/{webhook}/deliveries", tag = "notifications",
    params(("webhook" = String, Path, description = "Its id"), PageQuery),
    responses((status = 200, body = List<Delivery>), Refused)
)]
async fn to_webhook(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<Delivery>>, Problem> {
    let webhook = webhooks::find(&app, &principal, &which).await?;
    let after = page.cursor::<DeliveryId>()?.map(|id| id.to_string());
    let store = &app.parts.store;
    Ok(listed(&store.deliveries_to_webhook(webhook.id, after.as_deref(), page.limit(&app)?).await?))
}

/// Sends what went to a webhook once more (project admins), under the same id.
#[utoipa::path(
    post, path = "/v1/webhooks/{webhook}/deliveries/{delivery}/replay", tag = "notifications",
    params(
        ("webhook" = String, Path, description = "Its id"),
        ("delivery" = String, Path, description = "The delivery's id")
    ),
    responses((status = 202, body = Delivery), Refused)
)]
async fn replay(
    State(app): State<App>,
    principal: Principal,
    Path((which, delivery)): Path<(String, String)>,
) -> Result<(StatusCode, Json<Delivery>), Problem> {
    let webhook = webhooks::find(&app, &principal, &which).await?;
    let missing = || Problem::not_found(format_args!("delivery {}", shortened(&delivery)));
    let id: DeliveryId = delivery.parse().map_err(|_| missing())?;
    let found = app.parts.store.delivery(id).await?;
    if found.is_none_or(|d| d.to != (Receiver::Webhook { id: webhook.id })) {
        return Err(missing());
    }
    let again = app.parts.store.replay_delivery(id).await?.ok_or_else(missing)?;
    let (subject, detail) = (format!("webhook {}", webhook.id), format!("delivery {id}"));
    submit::audit(&app, &principal, Some(&webhook.project), "webhook.replay", &subject, &detail).await;
    Ok((StatusCode::ACCEPTED, Json(shown(&again))))
}

/// What a user was told by e-mail, newest first: themselves, their admins and operators.
#[utoipa::path(
    get, path = "/v1/users/{user}/notifications/deliveries", tag = "notifications",
    params(("user" = String, Path, description = "The name"), PageQuery),
    responses((status = 200, body = List<Delivery>), Refused)
)]
async fn to_user(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<Delivery>>, Problem> {
    let user = find_own(&app, &principal, &which).await?;
    let after = page.cursor::<DeliveryId>()?.map(|id| id.to_string());
    let store = &app.parts.store;
    Ok(listed(&store.deliveries_to_user(&user.name, after.as_deref(), page.limit(&app)?).await?))
}
