//! Around every call: an id, a turn, a time limit, a count, and one form of refusal.

use crate::app::App;
use crate::v1;
use crate::v1::views::{Code, Problem};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id taken over from a caller.
const REQUEST_ID_CHARS_MAX: usize = 64;

pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let method = method_label(request.method());
    // The template, not the path: labels come from a closed set.
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("call", id, method, route);
    let response =
        within_limits(&app, request, next, until(&app, &route, began)).instrument(span.clone()).await;
    let response = finish(response, &id);
    let status = response.status();
    app.parts.metrics.http(&route, method, status.as_u16(), began.elapsed());
    span.in_scope(|| tracing::debug!(status = status.as_u16(), "answered"));
    response
}

/// When a call is cut short. One that may ask a node to look at a container has the node's time as well.
fn until(app: &App, route: &str, began: Instant) -> Instant {
    let limits = &app.parts.settings.limits;
    let surveys = if route == v1::SNAPSHOTS { limits.survey_timeout } else { Duration::ZERO };
    began + limits.request_timeout + surveys
}

/// The call's turn and its work both count against its time. Cutting a call short is safe: what it wrote is
/// whole or not there, and repeating it finds out.
async fn within_limits(app: &App, request: Request, next: Next, until: Instant) -> Response {
    let work = async {
        let _turn = app.permits.acquire().await;
        next.run(request).await
    };
    let too_long = |_| Problem::new(Code::Timeout, "the call took longer than its limit").into_response();
    timeout_at(until, work).await.unwrap_or_else(too_long)
}

/// Writes the id into the answer, and makes a problem of every refusal that is none.
fn finish(mut response: Response, id: &str) -> Response {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let known = response.extensions_mut().remove::<Problem>();
        let problem = known.unwrap_or_else(|| Problem::from_status(status));
        let headers = std::mem::take(response.headers_mut());
        response = Problem { instance: Some(id.to_owned()), ..problem }.into_response();
        keep_allow(&headers, response.headers_mut());
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A 405 names the methods that the path knows.
fn keep_allow(from: &HeaderMap, to: &mut HeaderMap) {
    if let Some(allow) = from.get(header::ALLOW) {
        to.insert(header::ALLOW, allow.clone());
    }
}

/// The caller's own id where it is a harmless one.
fn request_id(headers: &HeaderMap) -> String {
    let harmless = |id: &&str| {
        (1..=REQUEST_ID_CHARS_MAX).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let given = headers.get(REQUEST_ID).and_then(|v| v.to_str().ok()).filter(harmless);
    given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// Methods as a closed set.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
