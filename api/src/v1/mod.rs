//! The `/v1` surface: one room for each subject, each a few thin handlers that read, authorise, check, record,
//! and answer.

#![expect(unused_qualifications, reason = "what `utoipa::path` writes for query structs")]

mod adopt;
mod audit;
mod catalog;
mod containers;
mod costs;
mod deliveries;
mod docs;
mod events;
mod excludes;
mod images;
mod jobs;
mod keys;
mod launch;
mod me;
mod members;
mod nodes;
mod notifications;
mod page;
mod park;
mod parking;
mod preflight;
mod projects;
mod retention;
mod schedules;
pub(crate) mod show;
mod snapshots;
mod users;
pub mod views;
mod webhooks;

use crate::app::App;
use axum::routing::get;
use std::future::ready;
use utoipa_axum::router::OpenApiRouter;

/// The call that saves a container, or says what a save would mean.
pub(crate) const SNAPSHOTS: &str = "/v1/containers/{container}/snapshots";

/// Every call, and its description at `/v1/openapi.json`.
pub(crate) fn router() -> axum::Router<App> {
    let (calls, described) = described().split_for_parts();
    // Written once: it never changes while the process runs.
    let text = described.to_pretty_json().unwrap_or_default();
    calls.route("/v1/openapi.json", get(move || ready(docs::answer(text.clone()))))
}

fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(docs::head())
        .merge(launch::routes())
        .merge(containers::routes())
        .merge(snapshots::routes())
        .merge(park::routes())
        .merge(jobs::routes())
        .merge(events::routes())
        .merge(images::routes())
        .merge(catalog::routes())
        .merge(costs::routes())
        .merge(parking::routes())
        .merge(retention::routes())
        .merge(schedules::routes())
        .merge(webhooks::routes())
        .merge(deliveries::routes())
        .merge(notifications::routes())
        .merge(nodes::routes())
        .merge(projects::routes())
        .merge(members::routes())
        .merge(users::routes())
        .merge(keys::routes())
        .merge(audit::routes())
        .merge(me::routes())
}

/// The OpenAPI 3.1 description of the surface, as JSON: what `docs/openapi.json` holds.
pub fn openapi() -> String {
    let (_, described) = described().split_for_parts();
    described.to_pretty_json().unwrap_or_default()
}
