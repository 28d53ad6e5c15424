//! Shared state, and the order of the layers around every call.

use crate::rate::Rates;
use crate::streams::Streams;
use crate::v1::views::{Code, Problem};
use crate::{Parts, guard, health, v1};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

/// What every handler shares. Clones are handles on the same.
#[derive(Debug, Clone)]
pub(crate) struct App(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) parts: Parts,
    pub(crate) rates: Rates,
    pub(crate) streams: Streams,
    /// Calls in work.
    pub(crate) permits: Semaphore,
    /// Cancelled when the process is told to stop.
    pub(crate) shutdown: CancellationToken,
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    pub(crate) fn new(parts: Parts, shutdown: CancellationToken) -> Self {
        let limits = parts.settings.limits;
        Self(Arc::new(Inner {
            rates: Rates::new(limits.rate_per_second, limits.rate_burst),
            streams: Streams::new(limits.streams, limits.streams_per_user),
            permits: Semaphore::new(limits.requests.clamp(1, Semaphore::MAX_PERMITS)),
            shutdown,
            parts,
        }))
    }

    /// A hint that names the operator's contact, where one is set.
    pub(crate) fn ask(&self, hint: &str) -> String {
        match &self.parts.settings.support_contact {
            Some(contact) => format!("{hint} Help: {contact}."),
            None => hint.to_owned(),
        }
    }
}

/// The whole surface of the role. Event streams end when `shutdown` is cancelled.
pub fn router(parts: Parts, shutdown: CancellationToken) -> Router {
    let app = App::new(parts, shutdown);
    let limits = app.parts.settings.limits;
    // From the outside in: the guard (id, time limit, counting, one form of refusal), panics, the bound on bodies.
    let surface = v1::router()
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(limits.body_bytes))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        .with_state(app.clone());
    if !app.parts.settings.health {
        return surface;
    }
    // Health calls stand outside the guard: they neither wait for their turn nor are they counted.
    surface.merge(health::routes(true).with_state(app))
}

async fn unknown_path() -> Problem {
    Problem::not_found("such path").with_hint("See /v1/openapi.json.")
}

async fn unknown_method() -> Problem {
    Problem::new(Code::MethodNotAllowed, "this path does not know the method")
}

/// The panic's own words go to the log alone.
#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let words = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no words");
    tracing::error!(panic = words, "a handler panicked");
    Problem::new(Code::Internal, "the server met a defect; its log has more").into_response()
}
