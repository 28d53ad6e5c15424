//! Keeping a container from being parked by a policy: by the link of a warning, or by who owns it. Looking at the link's
//! page changes nothing, because mail programs look at links before people do.

use crate::app::App;
use crate::v1::views::{Code, Problem};
use axum::Form;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::id::ContainerId;
use mothball_domain::notice::KeepToken;
use mothball_store::{Cancelled, ContainerChange};
use serde::Deserialize;
use uuid::Uuid;

const PAGE: &str = include_str!("keep.html");

/// For how long the page offers to keep a container, in hours; the last is the most that a link can do.
const CHOICES: [(u32, &str); 4] = [(4, "4 hours"), (24, "a day"), (72, "3 days"), (168, "a week")];

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/keep/{token}", get(show).post(keep))
}

/// Stops the park of a container by a policy that is under way, if one is: what its owner wants to keep. The policy
/// leaves it alone afterwards because its `keep_until` is set before this.
pub(crate) async fn stop_policy_park(app: &App, container: ContainerId) -> Result<bool, Problem> {
    let Some(job) = app.parts.store.policy_park_of(container).await? else { return Ok(false) };
    match app.parts.store.cancel(job).await? {
        Cancelled::Done(_) | Cancelled::Requested(_) => Ok(true),
        Cancelled::Over(_) | Cancelled::NoJob => Ok(false),
    }
}

/// The container of a link, while it can be kept.
async fn found(app: &App, token: &str) -> Result<Option<Container>, Problem> {
    let Some(token) = KeepToken::parse(token) else { return Ok(None) };
    let container = app.parts.store.kept_by(&token).await?;
    let here = |c: &Container| matches!(c.state, ContainerState::Ready | ContainerState::Stopped);
    Ok(container.filter(here))
}

async fn show(State(app): State<App>, Path(token): Path<String>) -> Result<Response, Problem> {
    let Some(container) = found(&app, &token).await? else { return Ok(over()) };
    let standing = app.parts.store.warnings(&[container.id]).await?.remove(&container.id);
    let now = app.parts.store.now().await?;
    let kept = container.keep_until.filter(|until| *until > now);
    let state = match (kept, standing) {
        (Some(until), _) => format!("It is kept until {}.", moment(until)),
        (None, Some(warning)) if warning.tried.is_some() && container.job.is_some() => {
            "It is being parked now; keeping it stops that.".to_owned()
        }
        (None, Some(warning)) => format!("It will be parked at {}.", moment(warning.park_at)),
        (None, None) => "Nothing is going to happen to it now.".to_owned(),
    };
    let cost = format!(
        "It costs {} {} an hour.",
        container.rate().price_per_hour.normalize(),
        app.parts.settings.currency
    );
    let button = |(hours, words): &(u32, &str)| {
        format!("<button name=\"hours\" value=\"{hours}\">Keep it for {words}</button>")
    };
    let buttons: Vec<String> = CHOICES.iter().map(button).collect();
    let form = format!("<form method=\"post\">\n{}\n</form>", buttons.join("\n"));
    Ok(page(&format!("Keep {}?", container.name), &format!("{state} {cost}"), &form))
}

#[derive(Debug, Deserialize)]
struct Choice {
    hours: u32,
}

async fn keep(
    State(app): State<App>,
    Path(token): Path<String>,
    Form(choice): Form<Choice>,
) -> Result<Response, Problem> {
    let Some(container) = found(&app, &token).await? else { return Ok(over()) };
    if !CHOICES.iter().any(|(hours, _)| *hours == choice.hours) {
        return Err(Problem::new(Code::Invalid, "hours is 4, 24, 72 or 168").with_field("hours"));
    }
    let now = app.parts.store.now().await?;
    let asked = now.saturating_add(SignedDuration::from_hours(i64::from(choice.hours)));
    let asked = asked.unwrap_or(Timestamp::MAX);
    // A link never shortens what its owner has asked for.
    let until = container.keep_until.map_or(asked, |until| until.max(asked));
    let change = ContainerChange { keep_until: Some(Some(until)), ..ContainerChange::default() };
    if app.parts.store.change_container(container.id, &change).await?.is_none() {
        return Ok(over());
    }
    let stopped = stop_policy_park(&app, container.id).await?;
    note(&app, &container, until).await;
    let mut words = format!("{} is kept until {}.", container.name, moment(until));
    if stopped {
        words.push_str(
            " It was being parked, and that is being stopped; should it be too late, wake it by its name.",
        );
    }
    Ok(page("Kept", &words, ""))
}

/// Into the audit trail, in the name of the owner, whom the link was sent to.
async fn note(app: &App, container: &Container, until: Timestamp) {
    let subject = format!("container {} ({})", container.name, container.id);
    let detail = format!("by link, until {until}");
    let project = Some(&container.project);
    let store = &app.parts.store;
    let written = store.audit(Uuid::now_v7(), &container.user, project, "container.keep", &subject, &detail);
    if let Err(error) = written.await {
        tracing::error!(container.id = %container.id, %error, "not in the audit trail");
    }
}

/// A page and no refusal: whoever opens an old link is a person.
fn over() -> Response {
    let words = "It is old, or its container was parked or deleted. \
                 `mothball containers` shows what there is; `mothball wake NAME` brings back what is parked.";
    page("This link is over", words, "")
}

/// Names of containers cannot hold what HTML would read otherwise. The link is a secret: no other page learns of it.
fn page(title: &str, text: &str, form: &str) -> Response {
    let html = PAGE.replace("{title}", title).replace("{text}", text).replace("{form}", form);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'";
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    (headers, Html(html)).into_response()
}

fn moment(at: Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string()
}
