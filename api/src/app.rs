//! Shared state, and the order of the layers around every call.

use crate::rate::Rates;
use crate::streams::Streams;
use crate::v1::views::{Code, Problem};
use crate::{Parts, front, guard, health, keep, v1};
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
    /// Calls that wait for a node to look at a container.
    pub(crate) surveys: Semaphore,
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
            surveys: Semaphore::new(limits.surveys.clamp(1, Semaphore::MAX_PERMITS)),
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
    let surface =
        guarded(v1::router().merge(front::routes()).merge(keep::routes()), &app).with_state(app.clone());
    if !app.parts.settings.health {
        return surface;
    }
    // Health calls stand outside the guard: they neither wait for their turn nor are they counted.
    surface.merge(health::routes(true).with_state(app))
}

/// Puts the layers around the calls. From the outside in: the guard (id, time limit, counting, one form of
/// refusal), panics, the bound on bodies.
fn guarded(calls: Router<App>, app: &App) -> Router<App> {
    calls
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(app.parts.settings.limits.body_bytes))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Metrics, Settings};
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use axum::routing::get;
    use http_body_util::BodyExt;
    use mothball_queue::Queue;
    use mothball_store::Store;
    use std::time::Duration;
    use tower::ServiceExt;

    /// Calls that do what no call of ours should.
    fn calls() -> Router<App> {
        let panics = get(|| async { panic!("the words of the panic") as Response });
        let hangs = get(std::future::pending::<Response>);
        let plain = get(|| async { (StatusCode::IM_A_TEAPOT, "plain text of somebody else") });
        Router::new().route("/panics", panics).route("/hangs", hangs).route("/plain", plain)
    }

    async fn call(path: &str) -> (StatusCode, Problem) {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            currency: "TWD".into(),
            catalog: vec![],
            flavors: vec![],
            mounts: vec![],
            max_attempts: 1,
            alive_within: Duration::from_secs(1),
            seen_within: Duration::from_secs(1),
            policy_bounds: mothball_domain::policy::PolicyBounds::default(),
            reach: mothball_domain::notice::reach::Reach::default(),
            retention_bounds: mothball_domain::retention::RetentionBounds::default(),
            notice: Duration::ZERO,
            undo: Duration::ZERO,
            support_contact: None,
            health: false,
            limits: Limits { request_timeout: Duration::from_millis(50), ..Limits::default() },
        };
        let parts = Parts {
            store: Store::embedded(&dir.path().join("store.db")).unwrap(),
            queue: Queue::local(),
            settings: Arc::new(settings),
            metrics: Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap()),
            ready: vec![],
            version: "0".into(),
        };
        let app = App::new(parts, CancellationToken::new());
        let router = guarded(calls(), &app).with_state(app);
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_without_its_words() {
        let (status, problem) = call("/panics").await;
        assert_eq!((status.as_u16(), problem.code), (500, Code::Internal));
        assert!(problem.instance.is_some() && !problem.detail.contains("words of"), "{problem:?}");
    }

    #[tokio::test]
    async fn a_call_that_hangs_is_cut_short() {
        let (status, problem) = call("/hangs").await;
        assert_eq!((status.as_u16(), problem.code), (503, Code::Timeout));
    }

    #[tokio::test]
    async fn a_refusal_of_somebody_else_becomes_a_problem() {
        let (status, problem) = call("/plain").await;
        assert_eq!((status.as_u16(), problem.status, problem.code), (418, 418, Code::BadRequest));
        assert!(problem.instance.is_some());
    }
}
