//! `GET /v1/jobs/{job}/events`: a job as it changes, as server-sent events.

use super::docs::Refused;
use super::show;
use super::views::{Code, Job, Problem};
use crate::access::Principal;
use crate::app::App;
use crate::extract::Path;
use crate::streams::Seat;
use crate::v1::jobs;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::unfold;
use mothball_domain::id::JobId;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How often a comment is sent while nothing changes, so that nobody in between hangs up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often the stream asks whether its key still works.
const KEY_CHECK: Duration = Duration::from_secs(5);
/// How long the store may be away before the stream ends; clients come back by themselves.
const STORE_AWAY_MAX: Duration = Duration::from_mins(1);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(events))
}

/// The job at once and then whenever it changes, each time whole, as event `job`. The stream ends when the job is over.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/events", tag = "jobs",
    params(("job" = String, Path, description = "The job's id")),
    responses((status = 200, description = "Events named `job`, whose data is a `Job`", body = Job, content_type = "text/event-stream"), Refused)
)]
async fn events(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Response, Problem> {
    let job = jobs::find(&app, &principal, &which).await?;
    let seat = app.streams.sit_down(principal.name().as_str());
    let seat = seat.ok_or_else(|| Problem::new(Code::TooManyStreams, "too many event streams are open"))?;
    let mut tick = interval(app.parts.settings.limits.stream_poll);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let now = Instant::now();
    let shutdown = app.shutdown.clone();
    let watch = Watch {
        app,
        principal,
        id: job.id,
        tick,
        sent: String::new(),
        number: 0,
        over: false,
        key_checked: now,
        store_answered: now,
        _seat: seat,
    };
    // An open stream would hold up an orderly end of the process for ever.
    let stream = unfold(watch, Watch::next).take_until(shutdown.cancelled_owned());
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// One open stream.
struct Watch {
    app: App,
    principal: Principal,
    id: JobId,
    tick: Interval,
    /// What was sent last.
    sent: String,
    number: u64,
    over: bool,
    key_checked: Instant,
    store_answered: Instant,
    _seat: Seat,
}

impl Watch {
    /// Waits for the next change; none when the stream is at its end.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        while !self.over {
            self.tick.tick().await;
            if self.key_checked.elapsed() >= KEY_CHECK {
                self.key_checked = Instant::now();
                // A store that is away now does not say that the key is gone.
                if !self.principal.still_works(&self.app).await.unwrap_or(true) {
                    return None;
                }
            }
            match self.look().await {
                Ok(Some(text)) if text != self.sent => {
                    self.number += 1;
                    self.sent.clone_from(&text);
                    let event = Event::default().event("job").id(self.number.to_string()).data(text);
                    return Some((Ok(event), self));
                }
                Ok(None) => return None,
                Err(_) if self.store_answered.elapsed() > STORE_AWAY_MAX => return None,
                Ok(Some(_)) | Err(_) => {}
            }
        }
        None
    }

    /// The job as JSON; none when history no longer has it.
    async fn look(&mut self) -> Result<Option<String>, Problem> {
        let job = self.app.parts.store.job(self.id).await?;
        self.store_answered = Instant::now();
        let Some(job) = job else { return Ok(None) };
        let text = serde_json::to_string(&show::job(&self.app, &job).await?).unwrap_or_default();
        self.over = job.state.is_final();
        Ok(Some(text))
    }
}
