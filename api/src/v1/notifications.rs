//! What users want to be told of by e-mail.

use super::docs::Refused;
use super::users::find_own;
use super::views::{Notifications, Problem};
use super::webhooks::events;
use crate::access::Principal;
use crate::app::App;
use crate::extract::{Body, Path};
use crate::submit;
use axum::Json;
use axum::extract::State;
use mothball_domain::notice::preferences::{EmailAddress, Preferences};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show, set))
}

impl From<&Preferences> for Notifications {
    fn from(wishes: &Preferences) -> Self {
        Self {
            email: wishes.email.as_ref().map(ToString::to_string),
            language: wishes.language,
            events: wishes.events.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What a user is told of by e-mail: for themselves, their admins and operators.
#[utoipa::path(
    get, path = "/v1/users/{user}/notifications", tag = "notifications",
    params(("user" = String, Path, description = "The name")),
    responses((status = 200, body = Notifications), Refused)
)]
async fn show(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Json<Notifications>, Problem> {
    let user = find_own(&app, &principal, &which).await?;
    Ok(Json((&app.parts.store.preferences(&user.name).await?).into()))
}

/// Sets that, as a whole.
#[utoipa::path(
    put, path = "/v1/users/{user}/notifications", tag = "notifications", request_body = Notifications,
    params(("user" = String, Path, description = "The name")),
    responses((status = 200, body = Notifications), Refused)
)]
async fn set(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Body(asked): Body<Notifications>,
) -> Result<Json<Notifications>, Problem> {
    let user = find_own(&app, &principal, &which).await?;
    let email = asked.email.as_deref().filter(|text| !text.is_empty());
    let email = email.map(str::parse::<EmailAddress>).transpose();
    let wishes = Preferences {
        email: email.map_err(|why| Problem::invalid("email", why))?,
        language: asked.language,
        events: events(&asked.events)?,
    };
    app.parts.store.set_preferences(&user.name, &wishes).await?;
    let subject = format!("user {}", user.name);
    submit::audit(&app, &principal, None, "user.notifications", &subject, "").await;
    Ok(Json((&wishes).into()))
}
