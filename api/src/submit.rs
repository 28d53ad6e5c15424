//! From a request to a job that is recorded and published: the record is the promise, the wake-up only haste.

use crate::access::Principal;
use crate::app::App;
use crate::v1::show;
use crate::v1::views::{Code, Problem};
use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::{StatusCode, header, request};
use axum::response::{IntoResponse, Response};
use mothball_domain::id::JobId;
use mothball_domain::job::{Job, JobSpec};
use mothball_domain::name::ProjectName;
use mothball_queue::Target as Wake;
use mothball_store::{Idempotency, Submission, Submitted, Target};
use serde::Serialize;
use uuid::Uuid;

/// Longest idempotency key.
const KEY_CHARS_MAX: usize = 255;

/// The caller's own name for the request, if it gave one, and what the request was addressed to.
pub(crate) struct Repeatable {
    key: Option<String>,
    address: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Repeatable {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Problem> {
        let key = match parts.headers.get("idempotency-key") {
            None => None,
            Some(value) => {
                // `to_str` takes tabs as well.
                let visible = |key: &str| key.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
                let good = |key: &&str| (1..=KEY_CHARS_MAX).contains(&key.len()) && visible(key);
                let key = value.to_str().ok().filter(good).ok_or_else(|| {
                    Problem::invalid(
                        "Idempotency-Key",
                        "Idempotency-Key is 1 to 255 visible ASCII characters",
                    )
                })?;
                Some(key.to_owned())
            }
        };
        let project =
            parts.headers.get("x-mothball-project").and_then(|v| v.to_str().ok()).unwrap_or_default();
        Ok(Self { key, address: format!("{} {} {project}", parts.method, parts.uri) })
    }
}

impl Repeatable {
    /// Ties the key to this very request. Defaults that are written out and defaults that are left out are the same.
    pub(crate) fn with<T: Serialize>(self, body: &T) -> Option<Idempotency> {
        let body = serde_json::to_string(body).unwrap_or_default();
        let body_sha256 = crate::keys::sha256(&format!("{}\n{body}", self.address));
        self.key.map(|key| Idempotency { key, body_sha256 })
    }
}

/// The answer to a request that came before under its idempotency key, whatever has become of its subject since.
pub(crate) async fn replay(
    app: &App,
    principal: &Principal,
    idempotency: Option<&Idempotency>,
) -> Result<Option<Response>, Problem> {
    let Some(idempotency) = idempotency else { return Ok(None) };
    match app.parts.store.replay(principal.name(), idempotency).await? {
        Some(submitted) => answer(app, submitted, "").await.map(Some),
        None => Ok(None),
    }
}

/// What is to be recorded.
pub(crate) struct Order {
    pub(crate) spec: JobSpec,
    pub(crate) project: ProjectName,
    pub(crate) target: Target,
    /// What the audit trail calls it.
    pub(crate) action: &'static str,
    /// What it is about, in words.
    pub(crate) subject: String,
}

/// Records the job, publishes it, and answers.
pub(crate) async fn submit(
    app: &App,
    principal: &Principal,
    idempotency: Option<Idempotency>,
    order: Order,
) -> Result<Response, Problem> {
    let submission = Submission {
        id: JobId(Uuid::now_v7()),
        spec: order.spec,
        user: principal.name().clone(),
        project: order.project,
        target: order.target,
        schedule: None,
        idempotency,
        max_attempts: app.parts.settings.max_attempts,
        alive_within: app.parts.settings.alive_within,
    };
    let submitted = Box::pin(app.parts.store.submit(&submission)).await?;
    if let Submitted::New(job) = &submitted {
        let detail = format!("job {}", job.id);
        let noted = audit(app, principal, Some(&job.project), order.action, &order.subject, &detail);
        tokio::join!(Box::pin(publish(app, job)), Box::pin(noted));
    }
    answer(app, submitted, &order.subject).await
}

/// Wakes whoever must do the job. Best effort within a short limit: what is not confirmed stays due, and the
/// scheduler publishes it.
pub(crate) async fn publish(app: &App, job: &Job) {
    if job.waiting_for.is_some() {
        return;
    }
    let target = job.node.clone().map_or(Wake::Any, Wake::Node);
    let woken = tokio::time::timeout(
        app.parts.settings.limits.publish_timeout,
        app.parts.queue.wake(&target, job.id),
    );
    match woken.await {
        Ok(Ok(())) => {
            if let Err(error) = app.parts.store.mark_published(job.id).await {
                tracing::warn!(job = %job.id, %error, "published but not noted: it will be published again");
            }
        }
        Ok(Err(error)) => tracing::warn!(job = %job.id, %error, "not published: the scheduler will"),
        Err(_) => {
            tracing::warn!(job = %job.id, "the broker did not confirm in time: the scheduler publishes");
        }
    }
}

/// Writes a line of the audit trail. What was done stays done when that fails.
pub(crate) async fn audit(
    app: &App,
    principal: &Principal,
    project: Option<&ProjectName>,
    action: &str,
    subject: &str,
    detail: &str,
) {
    let written = app.parts.store.audit(Uuid::now_v7(), principal.name(), project, action, subject, detail);
    if let Err(error) = written.await {
        tracing::error!(user = %principal.name(), action, subject, detail, %error, "not in the audit trail");
    }
}

async fn answer(app: &App, submitted: Submitted, subject: &str) -> Result<Response, Problem> {
    match submitted {
        Submitted::New(job) | Submitted::Replayed(job) => accepted(app, StatusCode::ACCEPTED, &job).await,
        Submitted::Joined(job) => accepted(app, StatusCode::OK, &job).await,
        Submitted::IdempotencyConflict(job) => Err(idempotency_conflict(job)),
        Submitted::Busy(job) => Err(in_the_way(&job)),
        Submitted::NameTaken(id) => {
            Err(Problem::new(Code::NameTaken, format_args!("container {id} of the project has this name"))
                .with_field("name"))
        }
        Submitted::NoContainer | Submitted::NoImage => Err(Problem::not_found(subject)),
        Submitted::NotNow(why) => Err(Problem::new(Code::NotNow, why)),
        Submitted::Protected => {
            Err(Problem::new(Code::Protected, format_args!("{subject} is protected from deletion")))
        }
        Submitted::Quota(why) => Err(Problem::new(Code::Quota, why)),
    }
}

/// The idempotency key came before with another request, whose job this is.
pub(crate) fn idempotency_conflict(job: JobId) -> Problem {
    let why = format_args!("this Idempotency-Key belongs to another request, whose job is {job}");
    Problem::new(Code::IdempotencyConflict, why).with_job(job)
}

/// Another unfinished job has the container or the image.
pub(crate) fn in_the_way(job: &Job) -> Problem {
    let what = job.image.as_deref().unwrap_or("it");
    let sentence = format!("{} job {} of {what} by {} is {}", job.kind(), job.id, job.user, job.state);
    Problem::new(Code::Conflict, sentence).with_job(job.id)
}

/// A job as the answer to the request that started it.
pub(crate) async fn accepted(app: &App, status: StatusCode, job: &Job) -> Result<Response, Problem> {
    let location = [(header::LOCATION, format!("/v1/jobs/{}", job.id))];
    Ok((status, location, Json(show::job(app, job).await?)).into_response())
}
