//! API keys: made, listed without their secrets, revoked at once.

use super::docs::Refused;
use super::page::{PageQuery, paged};
use super::show;
use super::users::find_own;
use super::views::{Key, KeyRequest, List, NewKey, Problem};
use crate::access::{Principal, shortened};
use crate::app::App;
use crate::extract::{Body, Path, Query};
use crate::{keys, submit};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mothball_domain::people::User;
use mothball_store::KeyDraft;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Longest label, in characters.
const LABEL_CHARS_MAX: usize = 200;
/// Most keys of one user.
const KEYS_MAX: usize = 100;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct WhoseQuery {
    /// Whose; the caller's own when absent.
    user: Option<String>,
}

async fn owner(app: &App, principal: &Principal, named: Option<&str>) -> Result<User, Problem> {
    match named.filter(|name| !name.is_empty()) {
        Some(name) => find_own(app, principal, name).await,
        None => Ok(principal.user.clone()),
    }
}

/// A user's keys, oldest first.
#[utoipa::path(
    get, path = "/v1/keys", tag = "people", params(WhoseQuery, PageQuery),
    responses((status = 200, body = List<Key>), Refused)
)]
async fn list(
    State(app): State<App>,
    principal: Principal,
    Query(whose): Query<WhoseQuery>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<Key>>, Problem> {
    let user = owner(&app, &principal, whose.user.as_deref()).await?;
    let keys = app.parts.store.keys_of(&user.name).await?.into_iter().map(show::key);
    let after: Option<String> = page.cursor()?;
    Ok(Json(paged(keys, |key| key.id.clone(), after.as_deref(), page.limit(&app)?)))
}

/// Makes a key. Its secret is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/v1/keys", tag = "people", request_body = KeyRequest,
    responses((status = 201, body = NewKey), Refused)
)]
async fn create(
    State(app): State<App>,
    principal: Principal,
    Body(asked): Body<KeyRequest>,
) -> Result<Response, Problem> {
    let user = owner(&app, &principal, asked.user.as_deref()).await?;
    if asked.label.chars().count() > LABEL_CHARS_MAX || asked.label.contains('\0') {
        let rule = format!("label has at most {LABEL_CHARS_MAX} characters, none of them NUL");
        return Err(Problem::invalid("label", rule));
    }
    let now = app.parts.store.now().await?;
    if asked.expires_at.is_some_and(|at| at <= now) {
        return Err(Problem::invalid("expires_at", "expires_at is in the past"));
    }
    if app.parts.store.keys_of(&user.name).await?.len() >= KEYS_MAX {
        let why = format!("{} has {KEYS_MAX} keys already", user.name);
        return Err(Problem::new(super::views::Code::Quota, why).with_hint("Revoke some first."));
    }
    let secret = keys::generate();
    let draft = KeyDraft {
        // Ids sort by the time they were made.
        id: Uuid::now_v7().to_string(),
        user: user.name.clone(),
        label: asked.label,
        expires_at: asked.expires_at,
        sha256: keys::sha256(&secret),
    };
    let key = app.parts.store.create_key(&draft).await?;
    submit::audit(&app, &principal, None, "key.create", &format!("key {} of user {}", key.id, user.name), "")
        .await;
    let made = NewKey {
        id: key.id,
        key: secret,
        user: key.user.to_string(),
        label: key.label,
        created_at: key.created_at,
        expires_at: key.expires_at,
    };
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

/// Revokes a key: it stops to work with the very next call.
#[utoipa::path(
    delete, path = "/v1/keys/{key}", tag = "people",
    params(("key" = String, Path, description = "The key's public id"), WhoseQuery),
    responses((status = 204, description = "Revoked"), Refused)
)]
async fn revoke(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Query(whose): Query<WhoseQuery>,
) -> Result<StatusCode, Problem> {
    let user = owner(&app, &principal, whose.user.as_deref()).await?;
    if !app.parts.store.revoke_key(&user.name, &which).await? {
        return Err(Problem::not_found(format_args!("key {} of user {}", shortened(&which), user.name)));
    }
    submit::audit(&app, &principal, None, "key.revoke", &format!("key {which} of user {}", user.name), "")
        .await;
    Ok(StatusCode::NO_CONTENT)
}
