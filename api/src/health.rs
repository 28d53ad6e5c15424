//! `/livez`, `/readyz`, `/metrics`: for machines, without a key.

use crate::app::App;
use crate::v1::views::{Code, Problem};
use crate::{Parts, access, scrape};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus::{Encoder, TextEncoder};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long the store may take to say that it works.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the gauges may take.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);

/// The health calls alone, for a listener of their own: whoever reaches it may see what belongs to projects.
pub fn health_router(parts: Parts, shutdown: CancellationToken) -> Router {
    routes(false).with_state(App::new(parts, shutdown))
}

/// The health calls. On a `public` listener what belongs to projects is for operators.
pub(crate) fn routes(public: bool) -> Router<App> {
    let exported = if public { get(metrics_public) } else { get(metrics_private) };
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).route("/metrics", exported)
}

/// The process answers.
async fn livez() -> &'static str {
    "ok\n"
}

/// Every role of this process can work. The broker's absence is no reason against: the record is the promise.
async fn readyz(State(app): State<App>) -> Response {
    let mut checks = Map::new();
    let store = timeout(STORE_TIMEOUT, app.parts.store.now()).await;
    checks.insert("store".to_owned(), Value::Bool(matches!(store, Ok(Ok(_)))));
    for check in &app.parts.ready {
        checks.insert(check.name.clone(), Value::Bool(*check.ready.borrow()));
    }
    checks.insert("serving".to_owned(), Value::Bool(!app.shutdown.is_cancelled()));
    let ready = checks.values().all(|check| *check == Value::Bool(true));
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "checks": checks }))).into_response()
}

async fn metrics_public(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    let operator = access::is_operator(&app, &headers).await.unwrap_or(false);
    metrics(&app, operator).await
}

async fn metrics_private(State(app): State<App>) -> Result<Response, Problem> {
    metrics(&app, true).await
}

/// What was counted is exported even while the store cannot be read: that is when it is needed most.
async fn metrics(app: &App, projects: bool) -> Result<Response, Problem> {
    let mut families = app.parts.metrics.registry().gather();
    match timeout(SCRAPE_TIMEOUT, scrape::gauges(app, projects)).await {
        Ok(Ok(gauges)) => families.extend(gauges),
        Ok(Err(error)) => tracing::warn!(%error, "gauges could not be read"),
        Err(_) => tracing::warn!("gauges were not read in time"),
    }
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    encoder.encode(&families, &mut text).map_err(|error| {
        tracing::error!(%error, "metrics cannot be written");
        Problem::new(Code::Internal, "metrics cannot be written")
    })?;
    Ok(([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response())
}
